package fs

import (
	"context"
	"io"
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// still is a heart that answers at once, to see what this door itself costs.
type still struct{ Heart }

func (still) Lookup(context.Context, cache.Ino, string) (cache.Attr, error) {
	return cache.Attr{Ino: 7, Mode: 0o100644, Mtime: 1e18}, nil
}

func (still) Attr(context.Context, cache.Ino) (cache.Attr, error) {
	return cache.Attr{Ino: 7, Mode: 0o100644, Mtime: 1e18}, nil
}

type stillHandle struct{ Handle }

func (stillHandle) Ino() cache.Ino            { return 7 }
func (stillHandle) Backing() (*os.File, bool) { return nil, false }
func (stillHandle) Release()                  {}
func (stillHandle) ReadAt(_ context.Context, p []byte, _ int64) (int, error) {
	return len(p) / 2, io.EOF
}

func stillBridge() (*bridge, uint64) {
	b := &bridge{heart: still{}, ctx: context.Background(), attrTTL: newTTL(gatewayTimeout), notes: newNotices()}
	return b, b.files.add(&openFile{handle: stillHandle{}})
}

// requests are the ones that come by the thousand.
var requests = []struct {
	name string
	make func() func()
}{
	{"lookup", func() func() {
		b, _ := stillBridge()
		in, out := &fuse.InHeader{NodeId: 1}, &fuse.EntryOut{}
		return func() { b.Lookup(nil, in, "name", out) }
	}},
	{"getattr", func() func() {
		b, _ := stillBridge()
		in, out := &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: 7}}, &fuse.AttrOut{}
		return func() { b.GetAttr(nil, in, out) }
	}},
	{"read", func() func() {
		b, fh := stillBridge()
		in, buf, cancel := &fuse.ReadIn{Fh: fh, ReadFlags: readLockOwner}, make([]byte, 4096), make(chan struct{})
		return func() {
			res, _ := b.Read(cancel, in, buf)
			res.Done()
		}
	}},
}

func TestHotRequestsMakeNoGarbage(t *testing.T) {
	for _, r := range requests {
		t.Run(r.name, func(t *testing.T) {
			fn := r.make()
			var n float64
			for range 20 { // what it makes it always makes; others, and the collector at a pool, may add to it
				if n = testing.AllocsPerRun(1000, fn); n < 1 {
					return
				}
			}
			t.Errorf("got %v allocations, want none", n)
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, r := range requests {
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			fn := r.make()
			for b.Loop() {
				fn()
			}
		})
	}
}

// BenchmarkMount measures whole system calls.
func BenchmarkMount(b *testing.B) {
	for _, mode := range modes {
		b.Run(mode.name, func(b *testing.B) {
			m := mount(b, newLoopback(b), Options{Passthrough: mode.mode, AttrTimeout: -1, EntryTimeout: -1})
			path := m.write(b, "x", string(make([]byte, 1<<20)))
			f := open(b, path, os.O_RDWR)
			buf := make([]byte, 4096)
			b.Run("stat", func(b *testing.B) {
				for b.Loop() {
					if _, err := os.Lstat(path); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("open", func(b *testing.B) {
				for b.Loop() {
					f, err := os.Open(path)
					if err != nil {
						b.Fatal(err)
					}
					f.Close()
				}
			})
			b.Run("write4k", func(b *testing.B) {
				for b.Loop() {
					if _, err := f.WriteAt(buf, 8192); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("read4k", func(b *testing.B) {
				for b.Loop() {
					if _, err := f.ReadAt(buf, 8192); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
