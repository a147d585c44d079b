package fs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

const (
	enotty   = fuse.Status(syscall.ENOTTY)
	enotconn = fuse.Status(syscall.ENOTCONN)
)

func owner(in *fuse.InHeader) cache.Owner { return cache.Owner{UID: in.Uid, GID: in.Gid} }

// made answers a request that made a name.
func (b *bridge) made(op string, parent uint64, out *fuse.EntryOut, a cache.Attr, err error) fuse.Status {
	if err != nil {
		return b.fail(op, parent, err)
	}
	b.entry(out, &a)
	return fuse.OK
}

// Mknod makes regular files (knfsd creates that way), FIFOs and sockets; what the
// heart says to devices.
func (b *bridge) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	a, err := b.heart.Mknod(b.ctx, owner(&in.InHeader), cache.Ino(in.NodeId), name, in.Mode, in.Rdev)
	return b.made("mknod", in.NodeId, out, a, err)
}

// Mkdir makes a directory.
func (b *bridge) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	a, err := b.heart.Mkdir(b.ctx, owner(&in.InHeader), cache.Ino(in.NodeId), name, in.Mode)
	return b.made("mkdir", in.NodeId, out, a, err)
}

// Symlink makes a symbolic link.
func (b *bridge) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	a, err := b.heart.Symlink(b.ctx, owner(in), cache.Ino(in.NodeId), name, target)
	return b.made("symlink", in.NodeId, out, a, err)
}

// Link gives an inode another name.
func (b *bridge) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	a, err := b.heart.Link(b.ctx, cache.Ino(in.Oldnodeid), cache.Ino(in.NodeId), name)
	return b.made("link", in.NodeId, out, a, err)
}

// Readlink reads a symbolic link. The kernel keeps the answer: a link's target
// never changes under one inode number.
func (b *bridge) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	target, err := b.heart.Readlink(b.ctx, cache.Ino(in.NodeId))
	if errors.Is(err, cache.ErrStale) {
		return nil, b.stale.status(in.Pid)
	}
	if err != nil {
		return nil, b.fail("readlink", in.NodeId, err)
	}
	b.stale.opened(in.Pid)
	return []byte(target), fuse.OK
}

// Unlink removes a name of a file.
func (b *bridge) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return b.fail("unlink", in.NodeId, b.heart.Unlink(b.ctx, cache.Ino(in.NodeId), name))
}

// Rmdir removes an empty directory.
func (b *bridge) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return b.fail("rmdir", in.NodeId, b.heart.Rmdir(b.ctx, cache.Ino(in.NodeId), name))
}

// Rename moves a name, with the flags of renameat2.
func (b *bridge) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	flags := cache.RenameFlags(in.Flags)
	if flags&^(cache.RenameNoReplace|cache.RenameExchange) != 0 {
		return fuse.EINVAL
	}
	err := b.heart.Rename(b.ctx, cache.Ino(in.NodeId), oldName, cache.Ino(in.Newdir), newName, flags)
	return b.fail("rename", in.NodeId, err)
}
