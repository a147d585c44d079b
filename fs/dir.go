package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

const (
	dotCookie    = 1 // after "."
	dotdotCookie = 2 // after ".."; the heart's cookies are above
)

// keptListings are the directories whose listings the kernel keeps and that changed
// only through this mount since it began to: of such changes it knows itself. Exact
// from one opendir to the next, also where a listing under way meets a change; who
// rewinds an open directory sees others' changes when their notice has arrived.
type keptListings struct {
	mu   sync.Mutex // guards dirs; held for moments
	dirs map[cache.Ino]struct{}
}

// maxKept bounds the memory; beyond it everybody's next listing is asked for again.
const maxKept = 1 << 16

// keep reports whether what the kernel may have kept of dir still holds. What it
// lists from now on, it may keep.
func (k *keptListings) keep(dir cache.Ino) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.dirs[dir]; ok {
		return true
	}
	if k.dirs == nil || len(k.dirs) >= maxKept {
		k.dirs = map[cache.Ino]struct{}{}
	}
	k.dirs[dir] = struct{}{}
	return false
}

// forget is called when a name in dir was changed behind the kernel's back.
func (k *keptListings) forget(dir cache.Ino) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.dirs, dir)
}

// OpenDir lets the heart notice what others changed in the directory. There is no
// handle: a listing goes on from its cookie in any open of the directory.
func (b *bridge) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	dir := cache.Ino(in.NodeId)
	if err := b.heart.OpenDir(b.ctx, dir); err != nil {
		return b.fail("opendir", in.NodeId, err)
	}
	out.OpenFlags = fuse.FOPEN_CACHE_DIR
	if b.kept.keep(dir) {
		out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	}
	return fuse.OK
}

// ReleaseDir has nothing to release.
func (b *bridge) ReleaseDir(*fuse.ReleaseIn) {}

// FsyncDir makes the names of a directory durable.
func (b *bridge) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return b.fail("fsyncdir", in.NodeId, b.heart.SyncDir(b.ctx, cache.Ino(in.NodeId)))
}

// ReadDir lists names.
func (b *bridge) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	after, more := b.dots(in, func(e cache.DirEntry) bool { return out.AddDirEntry(dirEntry(e)) })
	if !more {
		return fuse.OK
	}
	err := b.heart.ReadDir(b.ctx, cache.Ino(in.NodeId), after, func(e cache.DirEntry) bool {
		return out.AddDirEntry(dirEntry(e))
	})
	return b.fail("readdir", in.NodeId, err)
}

// ReadDirPlus lists names with attributes. Each one counts as a lookup, which is
// nothing to remember here.
func (b *bridge) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	// The kernel wants no node for "." and "..".
	after, more := b.dots(in, func(e cache.DirEntry) bool { return out.AddDirLookupEntry(dirEntry(e)) != nil })
	if !more {
		return fuse.OK
	}
	err := b.heart.ReadDirPlus(b.ctx, cache.Ino(in.NodeId), after, func(e cache.DirEntry, a cache.Attr) bool {
		entry := out.AddDirLookupEntry(dirEntry(e))
		if entry == nil {
			return false
		}
		if a.Ino != 0 { // else a name without a node: the kernel looks it up when it is used
			b.entry(entry, &a)
			out.FixMode(a.Mode)
		}
		return true
	})
	return b.fail("readdirplus", in.NodeId, err)
}

func dirEntry(e cache.DirEntry) fuse.DirEntry {
	return fuse.DirEntry{Name: e.Name, Ino: uint64(e.Ino), Mode: e.Type, Off: e.Cookie}
}

// dots lists "." and ".." and returns the cookie after which the heart goes on; more
// is false when there was no room for them.
func (b *bridge) dots(in *fuse.ReadIn, add func(cache.DirEntry) bool) (after uint64, more bool) {
	dir := cache.Ino(in.NodeId)
	if in.Offset < dotCookie && !add(cache.DirEntry{Name: ".", Ino: dir, Type: fuse.S_IFDIR, Cookie: dotCookie}) {
		return 0, false
	}
	if in.Offset < dotdotCookie {
		up := dir
		if a, err := b.heart.Parent(b.ctx, dir); err == nil {
			up = a.Ino
		}
		if !add(cache.DirEntry{Name: "..", Ino: up, Type: fuse.S_IFDIR, Cookie: dotdotCookie}) {
			return 0, false
		}
	}
	if in.Offset <= dotdotCookie {
		return 0, true
	}
	return in.Offset, true
}
