package fs

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// setIDs says whether a file has bits that a write by somebody without privileges
// takes away.
func setIDs(mode uint32) bool {
	return mode&syscall.S_IFMT == syscall.S_IFREG && mode&(syscall.S_ISUID|syscall.S_ISGID) != 0
}

// withoutPriv is mode as it is after a write by somebody without privileges:
// set-user-ID goes; set-group-ID goes where it means one, and for who is not of
// the file's group in any case.
func withoutPriv(mode uint32, member bool) uint32 {
	mode &^= syscall.S_ISUID
	if mode&syscall.S_IXGRP != 0 || !member {
		mode &^= syscall.S_ISGID
	}
	return mode
}

// dropPriv takes set-user-ID and set-group-ID from a regular file that in's caller
// changed.
func (b *bridge) dropPriv(in *fuse.InHeader, ino cache.Ino) error {
	a, err := b.heart.Attr(b.ctx, ino)
	if err != nil || !setIDs(a.Mode) {
		return err
	}
	mode := withoutPriv(a.Mode, member(in, a.GID))
	if mode == a.Mode {
		return nil
	}
	_, err = b.heart.SetAttr(b.ctx, ino, nil, cache.SetAttr{Valid: cache.SetMode, Mode: mode & 07777})
	return err
}

// member says whether a caller is of a group. The request names one of his groups,
// the kernel's table the others; a caller who cannot be found there counts as one.
func member(in *fuse.InHeader, gid uint32) bool {
	if in.Uid == 0 || in.Gid == gid {
		return true
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", in.Pid))
	if err != nil {
		return true
	}
	_, after, found := bytes.Cut(status, []byte("\nGroups:"))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	want := strconv.AppendUint(nil, uint64(gid), 10)
	for _, g := range bytes.Fields(line) {
		if bytes.Equal(g, want) {
			return true
		}
	}
	return !found
}

// attrBits are what a SETATTR can ask for.
const attrBits = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID | fuse.FATTR_SIZE |
	fuse.FATTR_ATIME | fuse.FATTR_MTIME | fuse.FATTR_ATIME_NOW | fuse.FATTR_MTIME_NOW

// mayTouch says whether the caller may have ctime moved and the set-ID bits taken.
// That is asked for before each write by somebody without privileges, passthrough or
// not, to a file with such bits, and by chown(-1, -1), which takes the bits only
// from one's own file. The request looks the same: somebody writes if the file is
// open for writing.
func (b *bridge) mayTouch(in *fuse.InHeader, ino cache.Ino) error {
	a, err := b.heart.Attr(b.ctx, ino)
	if err != nil {
		return err
	}
	if in.Uid != 0 && in.Uid != a.UID && setIDs(a.Mode) && withoutPriv(a.Mode, member(in, a.GID)) != a.Mode && !b.opens.written(ino) {
		return syscall.EPERM
	}
	return nil
}
