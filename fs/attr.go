package fs

import (
	"math"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// blockSize is what stat and statfs call the size of a block: the page. Tools that
// copy take much more at a time whatever it says.
const blockSize = 4096

// second in nanoseconds.
const second = int64(time.Second)

// ttl is a timeout as the kernel wants it.
type ttl struct {
	sec  uint64
	nsec uint32
}

func newTTL(d time.Duration) ttl {
	if d <= 0 {
		return ttl{}
	}
	return ttl{sec: uint64(d / time.Second), nsec: uint32(d % time.Second)}
}

// entry answers a question for a name.
func (b *bridge) entry(out *fuse.EntryOut, a *cache.Attr) {
	out.NodeId = uint64(a.Ino)
	out.Generation = b.generation(a.Ino)
	out.EntryValid, out.EntryValidNsec = b.entryTTL.sec, b.entryTTL.nsec
	t := b.ttlOf(a.Ino)
	out.AttrValid, out.AttrValidNsec = t.sec, t.nsec
	fillAttr(&out.Attr, a)
}

// attr answers a question for attributes.
func (b *bridge) attr(out *fuse.AttrOut, a *cache.Attr) {
	t := b.ttlOf(a.Ino)
	out.AttrValid, out.AttrValidNsec = t.sec, t.nsec
	fillAttr(&out.Attr, a)
}

// generation of an inode. The kernel makes the root itself, with generation 0, and
// takes an answer with another one for a different file.
func (b *bridge) generation(ino cache.Ino) uint64 {
	if ino == fuse.FUSE_ROOT_ID {
		return 0
	}
	return b.epoch
}

// ttlOf says how long the kernel may keep attributes. While a passthrough handle
// is open for writing, stores through a shared mapping move mtime without anybody
// telling the kernel or us.
func (b *bridge) ttlOf(ino cache.Ino) ttl {
	if b.attrTTL == (ttl{}) || b.opens.unseenWriters(ino) {
		return ttl{}
	}
	return b.attrTTL
}

// createdTTL is how long the kernel may keep the attributes that a create answers,
// though the file is open for writing: it checks the mode at once, and nobody can
// have mapped the file yet.
const createdTTL = 10 * time.Millisecond

func fillAttr(out *fuse.Attr, a *cache.Attr) {
	*out = fuse.Attr{
		Ino: uint64(a.Ino), Size: uint64(max(a.Size, 0)), Blocks: uint64(max(a.Blocks, 0)),
		Mode: a.Mode, Nlink: a.Nlink, Owner: fuse.Owner{Uid: a.UID, Gid: a.GID}, Rdev: a.Rdev, Blksize: blockSize,
	}
	out.Atime, out.Atimensec = split(a.Atime)
	out.Mtime, out.Mtimensec = split(a.Mtime)
	out.Ctime, out.Ctimensec = split(a.Ctime)
}

// split makes seconds and nanoseconds of ns since 1970; before 1970 the seconds
// are negative and the nanoseconds still count forward.
func split(ns int64) (sec uint64, nsec uint32) {
	s, n := ns/second, ns%second
	if n < 0 {
		s, n = s-1, n+second
	}
	return uint64(s), uint32(n)
}

// join is the reverse of split; times that 64 bits of nanoseconds cannot hold
// (before 1677, after 2262) become the nearest that they can. The very least is not
// used: the share takes it for the present.
func join(sec uint64, nsec uint32) int64 {
	s := int64(sec)
	switch {
	case s >= math.MaxInt64/second:
		return math.MaxInt64
	case s <= math.MinInt64/second:
		return math.MinInt64 / second * second
	}
	return s*second + int64(nsec)
}
