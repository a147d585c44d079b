package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

const (
	dotCookie    = 1 // after "."
	dotdotCookie = 2 // after ".."; the heart's cookies are above

	direntSize = 24  // of the kernel's struct fuse_dirent, without the name
	entrySize  = 128 // of struct fuse_entry_out, which readdirplus puts before it
)

// direntLen is what an entry takes in the kernel's buffer.
func direntLen(name string, prefix int) int { return prefix + (direntSize+len(name)+7)&^7 }

// listings holds the slices that listings are collected in.
type listings struct{ pool sync.Pool }

func (l *listings) get() *[]cache.DirEntry {
	if p, ok := l.pool.Get().(*[]cache.DirEntry); ok {
		return p
	}
	return new([]cache.DirEntry)
}

func (l *listings) put(p *[]cache.DirEntry) {
	clear(*p)
	*p = (*p)[:0]
	l.pool.Put(p)
}

// OpenDir lets the heart notice what others changed in the directory. There is no
// handle: a listing goes on from its cookie in any open of the directory.
func (b *bridge) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return b.fail("opendir", in.NodeId, b.heart.OpenDir(b.ctx, cache.Ino(in.NodeId)))
}

// ReleaseDir has nothing to release.
func (b *bridge) ReleaseDir(*fuse.ReleaseIn) {}

// FsyncDir makes the names of a directory durable.
func (b *bridge) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return b.fail("fsyncdir", in.NodeId, b.heart.SyncDir(b.ctx, cache.Ino(in.NodeId)))
}

// ReadDir lists names.
func (b *bridge) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	entries := b.listings.get()
	defer b.listings.put(entries)
	if err := b.collect(in, 0, entries); err != nil {
		return b.fail("readdir", in.NodeId, err)
	}
	for i := range *entries {
		if e := &(*entries)[i]; !out.AddDirEntry(dirEntry(e)) {
			break
		}
	}
	return fuse.OK
}

// ReadDirPlus lists names with attributes. Each one counts as a lookup, which is
// nothing to remember here.
func (b *bridge) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	entries := b.listings.get()
	defer b.listings.put(entries)
	if err := b.collect(in, entrySize, entries); err != nil {
		return b.fail("readdirplus", in.NodeId, err)
	}
	for i := range *entries {
		e := &(*entries)[i]
		entry := out.AddDirLookupEntry(dirEntry(e))
		if entry == nil {
			break
		}
		if e.Cookie <= dotdotCookie {
			continue // the kernel wants no node for "." and ".."
		}
		a, err := b.heart.Attr(b.ctx, e.Ino)
		if err != nil {
			continue // a name without a node: the kernel looks it up when it is used
		}
		b.entry(entry, &a)
		out.FixMode(a.Mode)
	}
	return fuse.OK
}

func dirEntry(e *cache.DirEntry) fuse.DirEntry {
	return fuse.DirEntry{Name: e.Name, Ino: uint64(e.Ino), Mode: e.Type, Off: e.Cookie}
}

// collect takes as many entries as fit into the kernel's buffer. Nothing else is
// asked of the heart meanwhile: it may hold a directory's lock.
func (b *bridge) collect(in *fuse.ReadIn, prefix int, entries *[]cache.DirEntry) error {
	dir, room := cache.Ino(in.NodeId), int(in.Size)
	add := func(e cache.DirEntry) bool {
		if room -= direntLen(e.Name, prefix); room < 0 {
			return false
		}
		*entries = append(*entries, e)
		return true
	}
	if in.Offset < dotCookie {
		add(cache.DirEntry{Name: ".", Ino: dir, Type: fuse.S_IFDIR, Cookie: dotCookie})
	}
	if in.Offset < dotdotCookie {
		up := dir
		if a, err := b.heart.Parent(b.ctx, dir); err == nil {
			up = a.Ino
		}
		add(cache.DirEntry{Name: "..", Ino: up, Type: fuse.S_IFDIR, Cookie: dotdotCookie})
	}
	after := in.Offset
	if after <= dotdotCookie {
		after = 0
	}
	return b.heart.ReadDir(b.ctx, dir, after, add)
}
