package fs

import (
	"context"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// bridge answers the kernel's requests by asking the heart. It keeps no tree: a
// node id is an inode number of the catalog, and forgetting one costs nothing.
// Methods run concurrently and hold no lock while they ask.
type bridge struct {
	heart   Heart
	ctx     context.Context // of requests that a signal must not end
	epoch   uint64
	strange *throttle
	stale   staleOpens

	entryTTL, attrTTL ttl
	keepCache         bool // cached files keep their pages from one open to the next
	killPriv          bool // the kernel leaves dropping set-ID bits to us
	closeMatters      bool // the heart wants to hear of every close(2)

	kernel kernelCache

	notes *notices
	opens openTable
	kept  keptListings
	reads readResults
	files fileTable
}

// String is the mount's type in go-fuse's messages.
func (b *bridge) String() string { return fsType }

// Lookup finds name in a directory. NFS handles come back as "." and ".." of any
// inode that was ever handed out, also after a restart.
func (b *bridge) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	var a cache.Attr
	var err error
	switch ino := cache.Ino(in.NodeId); name {
	case ".":
		a, err = b.heart.Attr(b.ctx, ino)
	case "..":
		a, err = b.heart.Parent(b.ctx, ino)
	default:
		a, err = b.heart.Lookup(b.ctx, ino, name)
	}
	if err != nil {
		// ENOENT as an error, not as an entry without a node: the kernel must
		// not keep it, another zone may make the name at any time.
		return b.fail("lookup", in.NodeId, err)
	}
	b.entry(out, &a)
	return fuse.OK
}

// Forget costs nothing: there is no tree in memory.
func (b *bridge) Forget(nodeid, nlookup uint64) {}

// GetAttr asks by inode, whether it comes with a handle or not: an open file that
// lost its last name still is an inode.
func (b *bridge) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	a, err := b.heart.Attr(b.ctx, cache.Ino(in.NodeId))
	if err != nil {
		return b.fail("getattr", in.NodeId, err)
	}
	b.attr(out, &a)
	return fuse.OK
}

// SetAttr is chmod, chown, truncate and utimens.
func (b *bridge) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	ino := cache.Ino(in.NodeId)
	set := setAttrOf(&in.SetAttrInCommon)
	if in.Valid&attrBits == 0 {
		if err := b.mayTouch(&in.InHeader, ino); err != nil {
			return b.fail("setattr", in.NodeId, err)
		}
	}
	if b.killPriv && mustDropPriv(&in.SetAttrInCommon) {
		if err := b.dropPriv(&in.InHeader, ino); err != nil {
			return b.fail("setattr", in.NodeId, err)
		}
	}
	var h Handle
	if in.Valid&fuse.FATTR_FH != 0 {
		h = b.files.get(in.Fh)
	}
	a, err := b.heart.SetAttr(b.ctx, ino, h, set)
	if err != nil {
		return b.fail("setattr", in.NodeId, err)
	}
	b.attr(out, &a)
	return fuse.OK
}

// mustDropPriv says whether the change takes set-ID bits with it: a chown always,
// also one to nobody, a new size when the caller has no privilege to keep them.
func mustDropPriv(in *fuse.SetAttrInCommon) bool {
	if in.Valid&fuse.FATTR_MODE != 0 {
		return false
	}
	return in.Valid&attrBits == 0 || in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0 ||
		in.Valid&fuse.FATTR_SIZE != 0 && in.Valid&fuse.FATTR_KILL_SUIDGID != 0
}

// setAttrOf translates the request. The change time is the heart's to set.
func setAttrOf(in *fuse.SetAttrInCommon) cache.SetAttr {
	var s cache.SetAttr
	if in.Valid&fuse.FATTR_MODE != 0 {
		s.Valid |= cache.SetMode
		s.Mode = in.Mode & 07777
	}
	if in.Valid&fuse.FATTR_UID != 0 {
		s.Valid |= cache.SetUID
		s.UID = in.Uid
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		s.Valid |= cache.SetGID
		s.GID = in.Gid
	}
	if in.Valid&fuse.FATTR_SIZE != 0 {
		s.Valid |= cache.SetSize
		s.Size = int64(in.Size)
	}
	if in.Valid&fuse.FATTR_ATIME != 0 {
		s.Valid |= cache.SetAtime
		s.Atime = join(in.Atime, in.Atimensec)
	}
	if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
		s.Valid |= cache.SetAtime | cache.SetAtimeNow
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		s.Valid |= cache.SetMtime
		s.Mtime = join(in.Mtime, in.Mtimensec)
	}
	if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
		s.Valid |= cache.SetMtime | cache.SetMtimeNow
	}
	return s
}

// StatFs is what df shows.
func (b *bridge) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	s, err := b.heart.Statfs(b.ctx)
	if err != nil {
		return b.fail("statfs", in.NodeId, err)
	}
	size := uint64(s.BlockSize)
	if size == 0 {
		size = blockSize
	}
	*out = fuse.StatfsOut{
		Blocks: count(s.Total) / size, Bfree: count(s.Free) / size, Bavail: count(s.Avail) / size,
		Files: count(s.Files), Ffree: count(s.FilesFree),
		// Tools that only know the one or the other must come to the same bytes.
		Bsize: uint32(size), Frsize: uint32(size), NameLen: s.NameLen,
	}
	return fuse.OK
}

// count keeps what is below zero from showing as 16 EiB.
func count(n int64) uint64 { return uint64(max(n, 0)) }
