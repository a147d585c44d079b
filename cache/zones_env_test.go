package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
	"depotfs/cache/catalog"
	"depotfs/cache/journal"
	"depotfs/cache/storetest"
)

// newZones makes zones a, b, c … over one store. They read each other's journals only when
// a test says so (refresh).
func newZones(t testing.TB, n int) []*env {
	t.Helper()
	mem := storetest.NewMem()
	var zs []*env
	for i := range n {
		e := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: mem, store: storetest.NewFaulty(mem), zone: string(rune('a' + i)), poll: 24 * time.Hour}
		e.open()
		t.Cleanup(e.close)
		zs = append(zs, e)
	}
	for _, e := range zs {
		e.refresh() // has joined, and listed, what was there before
	}
	return zs
}

// apply has a zone take in a record that another one might have told.
func (e *env) apply(r journal.Record) {
	e.t.Helper()
	if err := cache.ApplyRecord(context.Background(), e.c, r); err != nil {
		e.t.Fatalf("zone %s: %s %q: %v", e.zone, r.Op, r.Path, err)
	}
}

// refresh has a zone read the other zones' journals.
func (e *env) refresh() {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := e.c.Refresh(ctx)
		if err == nil {
			return
		}
		if !errors.Is(err, cache.ErrUnavailable) && !errors.Is(err, cache.ErrOff) {
			e.t.Fatalf("zone %s: refresh: %v", e.zone, err)
		}
		select {
		case <-time.After(10 * time.Millisecond): // it has not joined yet
		case <-ctx.Done():
			e.t.Fatalf("zone %s: refresh: %v", e.zone, err)
		}
	}
}

// tell brings what zones did to the depot and to each other, until nothing is left to say.
func tell(zs ...*env) {
	for range 3 { // what one hears may make it say something
		for _, e := range zs {
			e.flush()
		}
		for _, e := range zs {
			e.refresh()
		}
		for _, e := range zs {
			if err := cache.RetryHeld(context.Background(), e.c); err != nil {
				e.t.Fatal(err)
			}
		}
	}
}

// names lists a tree without opening or fetching a file: path -> what a reader sees of it.
func (e *env) names() map[string]string {
	e.t.Helper()
	out := map[string]string{}
	e.namesInto("", catalog.Root, out)
	return out
}

func (e *env) namesInto(path string, dir cache.Ino, out map[string]string) {
	e.t.Helper()
	ctx := context.Background()
	var list []cache.DirEntry
	if err := e.c.OpenDir(ctx, dir); err != nil {
		e.t.Fatalf("opendir %q: %v", path, err)
	}
	if err := e.c.ReadDir(ctx, dir, 0, func(d cache.DirEntry) bool { list = append(list, d); return true }); err != nil {
		e.t.Fatalf("readdir %q: %v", path, err)
	}
	for _, d := range list {
		p := strings.TrimPrefix(path+"/"+d.Name, "/")
		a, err := e.c.Attr(ctx, d.Ino)
		if err != nil {
			e.t.Fatalf("stat %q: %v", p, err)
		}
		switch a.Mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			out[p] = "dir"
			e.namesInto(p, d.Ino, out)
		case syscall.S_IFLNK:
			target, err := e.c.Readlink(ctx, d.Ino)
			if err != nil {
				e.t.Fatalf("readlink %q: %v", p, err)
			}
			out[p] = "link to " + target
		default:
			out[p] = fmt.Sprintf("file %o of %d", a.Mode&0o7777, a.Size)
		}
	}
}

// sameTrees compares names, attributes and bytes of zones.
func sameTrees(zs ...*env) {
	zs[0].t.Helper()
	first := zs[0].bytesOf()
	for _, e := range zs[1:] {
		if got := e.bytesOf(); !maps.Equal(got, first) {
			e.t.Fatalf("zones differ\n %s %v\n %s %v", zs[0].zone, text(first), e.zone, text(got))
		}
	}
}

// bytesOf is names with what is in the files.
func (e *env) bytesOf() map[string]string {
	e.t.Helper()
	out := e.names()
	for path, what := range out {
		if !strings.HasPrefix(what, "file") {
			continue
		}
		b, err := e.read(path)
		if err != nil {
			e.t.Errorf("zone %s: read %q: %v", e.zone, path, err)
			continue
		}
		out[path] = fmt.Sprintf("%s %016x", what, crc64nvme.Checksum(b))
	}
	return out
}

// wantNames compares what is listed with the names given.
func (e *env) wantNames(want ...string) {
	e.t.Helper()
	got := slices.Sorted(maps.Keys(e.names()))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		e.t.Fatalf("zone %s shows %q, want %q", e.zone, got, want)
	}
}

// wantNone says that a name is nowhere: not in the mount and not in the share.
func (e *env) wantNone(path string) {
	e.t.Helper()
	if _, err := e.lookup(path); !errors.Is(err, iofs.ErrNotExist) {
		e.t.Errorf("zone %s: %q: %v, want nothing", e.zone, path, err)
	}
	if _, err := os.Lstat(filepath.Join(e.share, path)); !errors.Is(err, iofs.ErrNotExist) {
		e.t.Errorf("zone %s: %q in the share: %v, want nothing", e.zone, path, err)
	}
}

// kept lists the conflicts that are in the depot: zone and path of each.
func (e *env) now() int64 { return time.Now().UnixNano() + e.ahead.Load() }

func (e *env) kept() (out []string) {
	for _, k := range e.mem.Keys("p/.depotfs/conflicts/") {
		parts := strings.SplitN(strings.TrimPrefix(k, "p/.depotfs/conflicts/"), "/", 3)
		out = append(out, parts[0]+" "+parts[2])
	}
	return out
}

// putRecord puts an object into the store as a zone would, and makes the record of it.
func (e *env) putRecord(zone, path string, at int64, data []byte) journal.Record {
	e.t.Helper()
	crc := crc64nvme.Checksum(data)
	info, err := e.mem.Put(context.Background(), "p/"+path, bytes.NewReader(data), int64(len(data)), cache.PutOptions{CRC64: crc, HasCRC64: true})
	if err != nil {
		e.t.Fatal(err)
	}
	return journal.Record{Op: journal.Put, Path: path, Time: at, Zone: zone, Key: "p/" + path, ETag: info.ETag, Size: int64(len(data)), CRC64: crc, HasCRC: true,
		Mode: syscall.S_IFREG | 0o640, UID: me.UID, GID: me.GID, Mtime: at}
}
