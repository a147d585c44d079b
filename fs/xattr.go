package fs

import (
	"slices"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// capabilities is what the kernel asks for before the first write to a file.
const capabilities = "security.capability"

// hidden are the attributes that this mount never has, so nobody may believe to have
// set one: access control lists, file capabilities and labels would not be enforced.
func hidden(name string) bool {
	return name == capabilities || name == "security.selinux" || strings.HasPrefix(name, "system.posix_acl_")
}

// GetXAttr reads an attribute; a buffer that is too small gets the size only.
func (b *bridge) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	switch {
	case name == capabilities:
		return 0, fuse.ENOATTR
	case hidden(name):
		// Not ENODATA: `ls -l` then asks once, and not once more for every file.
		return 0, fuse.ENOTSUP
	}
	value, err := b.heart.GetXattr(b.ctx, cache.Ino(in.NodeId), name)
	if err != nil {
		return 0, b.fail("getxattr", in.NodeId, err)
	}
	n := uint32(len(value))
	if len(dest) < len(value) {
		return n, fuse.ERANGE
	}
	copy(dest, value)
	return n, fuse.OK
}

// ListXAttr writes the names, each ended by a zero byte; a buffer that is too
// small gets the size only.
func (b *bridge) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	names, err := b.heart.ListXattr(b.ctx, cache.Ino(in.NodeId))
	if err != nil {
		return 0, b.fail("listxattr", in.NodeId, err)
	}
	if in.Uid != 0 {
		// Who may not read them does not see them.
		names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "trusted.") })
	}
	n := 0
	for _, name := range names {
		n += len(name) + 1
	}
	if len(dest) < n {
		return uint32(n), fuse.ERANGE
	}
	at := 0
	for _, name := range names {
		at += copy(dest[at:], name)
		dest[at] = 0
		at++
	}
	return uint32(n), fuse.OK
}

// SetXAttr sets an attribute; flags are XATTR_CREATE and XATTR_REPLACE.
func (b *bridge) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, data []byte) fuse.Status {
	if hidden(name) {
		return fuse.ENOTSUP
	}
	// The request's memory is reused as soon as we answered.
	value := append([]byte(nil), data...)
	return b.fail("setxattr", in.NodeId, b.heart.SetXattr(b.ctx, cache.Ino(in.NodeId), name, value, int(in.Flags)))
}

// RemoveXAttr removes an attribute.
func (b *bridge) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return b.fail("removexattr", in.NodeId, b.heart.RemoveXattr(b.ctx, cache.Ino(in.NodeId), name))
}
