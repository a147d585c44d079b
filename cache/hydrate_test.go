package cache_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"
	"testing"

	"depotfs/cache"
	"depotfs/cache/catalog"
	"depotfs/cache/storetest"
)

// recorder notes which ranges of which objects are read.
type recorder struct {
	cache.Store
	mu   sync.Mutex // guards gets
	gets []askedFor
}

type askedFor struct {
	key      string
	off, end int64
}

func (r *recorder) Get(ctx context.Context, key string, off, n int64, ifMatch string) (io.ReadCloser, cache.ObjectInfo, error) {
	r.mu.Lock()
	r.gets = append(r.gets, askedFor{key, off, off + n})
	r.mu.Unlock()
	return r.Store.Get(ctx, key, off, n, ifMatch)
}

// of are the ranges that were read of an object, in the order of the requests.
func (r *recorder) of(key string) (ranges []catalog.Range) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.gets {
		if g.key == key {
			ranges = append(ranges, catalog.Range{Off: g.off, End: g.end})
		}
	}
	return ranges
}

func (r *recorder) bytesOf(key string) (n int64) {
	for _, g := range r.of(key) {
		n += g.End - g.Off
	}
	return n
}

func newRecordedEnv(t *testing.T) (*env, *recorder) {
	t.Helper()
	rec := &recorder{}
	e := newEnvBehind(t, func(s cache.Store) cache.Store { rec.Store = s; return rec })
	return e, rec
}

const (
	head     = 256 << 10
	imageL1  = 1 << 20 // where testImage has its tables
	imageL2  = 2 << 20
	imageEnd = 8 << 20
)

// testImage makes a qcow2 image of 8 MiB whose tables are far from each other.
func testImage(backing string) []byte {
	be, b := binary.BigEndian, pattern(uint64(len(backing)), imageEnd)
	clear(b[:4096])
	copy(b, "QFI\xfb")
	be.PutUint32(b[4:], 2)
	if backing != "" {
		be.PutUint64(b[8:], 512)
		be.PutUint32(b[16:], uint32(len(backing)))
		copy(b[512:], backing)
	}
	be.PutUint32(b[20:], 16)
	be.PutUint64(b[24:], 1<<30)
	be.PutUint32(b[36:], 2)
	be.PutUint64(b[40:], imageL1)
	be.PutUint64(b[48:], imageL1)
	be.PutUint64(b[imageL1:], 1<<63|imageL2)
	be.PutUint64(b[imageL1+8:], 0)
	return b
}

// remoteFiles writes files and drops their bytes here.
func (e *env) remoteFiles(files map[string][]byte) {
	e.t.Helper()
	var paths []string
	for path, data := range files {
		e.write(path, data)
		paths = append(paths, path)
	}
	e.flush()
	e.evict(paths...)
}

// readAt reads a little of a file that is open, and compares it.
func readAt(t *testing.T, h *cache.Handle, data []byte, off int) {
	t.Helper()
	b := make([]byte, 512)
	if _, err := h.ReadAt(context.Background(), b, int64(off)); err != nil {
		t.Fatalf("read at %d: %v", off, err)
	}
	if !slices.Equal(b, data[off:off+512]) {
		t.Fatalf("read at %d: other bytes", off)
	}
}

// The first read of an image brings its headers, in as many requests as there are
// rounds, and no tables; the first read of data brings those.
func TestHeadersThenDemandThenMetadata(t *testing.T) {
	t.Parallel()
	e, rec := newRecordedEnv(t)
	e.mkdirAll("snapshots/1")
	data := testImage("")
	e.remoteFiles(map[string][]byte{"snapshots/1/i.qcow2": data})
	const key = "p/snapshots/1/i.qcow2"

	h := e.mustOpen("snapshots/1/i.qcow2", syscall.O_RDONLY)
	readAt(t, h, data, 0)
	e.waitFor("headers", func() bool { return len(rec.of(key)) == 2 })
	if want := []catalog.Range{{Off: 0, End: head}, {Off: imageL1, End: imageL1 + 32<<10}}; !slices.Equal(rec.of(key), want) {
		t.Errorf("headers come as %v, want %v", rec.of(key), want)
	}
	readAt(t, h, data, 4096)
	readAt(t, h, data, imageL1)
	if n := len(rec.of(key)); n != 2 {
		t.Errorf("headers were asked for again: %v", rec.of(key))
	}
	e.waitFor("tables", func() bool {
		readAt(t, h, data, 4<<20)
		return slices.Contains(rec.of(key), catalog.Range{Off: imageL2, End: imageL2 + 64<<10})
	})
	h.Release()

	// Nothing holds the file when nobody reads it, and it begins again afterwards.
	e.evict("snapshots/1/i.qcow2")
	before := len(rec.of(key))
	h = e.mustOpen("snapshots/1/i.qcow2", syscall.O_RDONLY)
	defer h.Release()
	readAt(t, h, data, 0)
	e.waitFor("headers again", func() bool { return len(rec.of(key)) == before+2 })
}

// Who reads something else first is not kept waiting by the headers: they are asked
// for after it. What nobody knows costs two more requests, and those are all.
func TestFirstReadElsewhereGoesFirst(t *testing.T) {
	t.Parallel()
	e, rec := newRecordedEnv(t)
	e.mkdirAll("volumes/1")
	junk := pattern(9, imageEnd)
	e.remoteFiles(map[string][]byte{"volumes/1/junk": junk})
	const key = "p/volumes/1/junk"
	h := e.mustOpen("volumes/1/junk", syscall.O_RDONLY)
	readAt(t, h, junk, 5<<20)
	e.waitFor("head and tail", func() bool { return len(rec.of(key)) == 3 })
	h.Release()
	h = e.mustOpen("volumes/1/junk", syscall.O_RDONLY)
	defer h.Release()
	readAt(t, h, junk, 6<<20)
	ranges := rec.of(key)
	if first := ranges[0]; first.Off > 5<<20 || first.End < 5<<20+512 || first.End-first.Off > 64<<10 {
		t.Errorf("the read waited behind %v", first)
	}
	if n := rec.bytesOf(key); n > 512<<10+2*64<<10 {
		t.Errorf("%d bytes came for two reads: %v", n, ranges)
	}
}

// A chain is followed by name within the directory, headers only, and not for ever.
func TestParentsHeadersAreWarmed(t *testing.T) {
	t.Parallel()
	e, rec := newRecordedEnv(t)
	e.mkdirAll("snapshots/1")
	e.mkdirAll("snapshots/2")
	child := testImage("./parent")
	parent := testImage("grandparent")
	e.remoteFiles(map[string][]byte{
		"snapshots/1/child":       child,
		"snapshots/1/parent":      parent,
		"snapshots/1/grandparent": testImage("child"), // a circle
		"snapshots/1/escape":      testImage("../2/secret"),
		"snapshots/1/orphan":      testImage("nowhere"),
		"snapshots/2/secret":      testImage(""),
	})
	tail := catalog.Range{Off: imageEnd - head, End: imageEnd}
	l1 := catalog.Range{Off: imageL1, End: imageL1 + 32<<10}
	done := func(name string) func() bool {
		return func() bool { return slices.Contains(rec.of("p/snapshots/1/"+name), l1) }
	}
	for _, name := range []string{"child", "escape", "orphan"} {
		h := e.mustOpen("snapshots/1/"+name, syscall.O_RDONLY)
		b := make([]byte, 512)
		if _, err := h.ReadAt(context.Background(), b, 0); err != nil {
			t.Fatal(err)
		}
		e.waitFor("headers of "+name, done(name))
		h.Release()
	}
	for _, name := range []string{"parent", "grandparent"} {
		e.waitFor("headers of "+name, done(name))
	}
	for _, name := range []string{"child", "parent", "grandparent"} {
		for _, r := range rec.of("p/snapshots/1/" + name) {
			if r != l1 && r != tail && r != (catalog.Range{Off: 0, End: head}) {
				t.Errorf("%v of %s was fetched", r, name)
			}
		}
	}
	if got := rec.of("p/snapshots/2/secret"); len(got) > 0 {
		t.Errorf("a file of another directory was fetched: %v", got)
	}
}

// A file that is warmed brings the headers of those that it names.
func TestWarmFollowsTheChain(t *testing.T) {
	t.Parallel()
	e, rec := newRecordedEnv(t)
	e.mkdirAll("volumes/1")
	e.remoteFiles(map[string][]byte{"volumes/1/child.qcow2": testImage("parent.qcow2"), "volumes/1/parent.qcow2": testImage("")})
	before := e.mem.Usage().BytesReceived
	left, err := e.c.Warm(context.Background(), []string{"volumes/1/child.qcow2"}, nil)
	if err != nil || len(left) > 0 {
		t.Fatal(left, err)
	}
	e.waitFor("the parent's headers", func() bool {
		got := rec.of("p/volumes/1/parent.qcow2")
		return slices.Contains(got, catalog.Range{Off: 0, End: head}) &&
			slices.Contains(got, catalog.Range{Off: imageL1, End: imageL1 + 32<<10})
	})
	// A flight that is cut is asked for in two pieces, and an answer that is late is asked for
	// again: what counts is what came, with the headers of the parent.
	if n := rec.bytesOf("p/volumes/1/child.qcow2"); n < imageEnd {
		t.Errorf("%d bytes were asked for of a file of %d", n, imageEnd)
	}
	if n := e.mem.Usage().BytesReceived - before; n > imageEnd+2<<20 && e.refetched().Hedges == 0 {
		t.Errorf("%d bytes came for a file of %d and two headers", n, imageEnd)
	}
	if state := e.state1("volumes/1/child.qcow2"); state != "clean" {
		t.Errorf("it is %s", state)
	}
}

// A child that is whole before anybody has looked at its headers still leads to its parent.
func TestWarmOfSmallFilesFollowsTheChain(t *testing.T) {
	t.Parallel()
	e, rec := newRecordedEnv(t)
	e.mkdirAll("volumes/1")
	const children = 16
	files := map[string][]byte{}
	for i := range children {
		parent := fmt.Sprintf("parent%d", i)
		files[fmt.Sprintf("volumes/1/child%d", i)] = testImage(parent)[:32<<10]
		files["volumes/1/"+parent] = testImage("")
	}
	e.remoteFiles(files)
	for i := range children {
		left, err := e.c.Warm(context.Background(), []string{fmt.Sprintf("volumes/1/child%d", i)}, nil)
		if err != nil || len(left) > 0 {
			t.Fatal(left, err)
		}
	}
	for i := range children {
		key := fmt.Sprintf("p/volumes/1/parent%d", i)
		e.waitFor("headers of "+key, func() bool { return len(rec.of(key)) > 0 })
	}
}

// Headers that cannot be had are nobody's trouble but of those who read them; the
// next read begins again.
func TestHeadersThatFail(t *testing.T) {
	t.Parallel()
	e, rec := newRecordedEnv(t)
	e.mkdirAll("volumes/1")
	data := testImage("")
	e.remoteFiles(map[string][]byte{"volumes/1/i.qcow2": data})
	const key = "p/volumes/1/i.qcow2"
	l1 := catalog.Range{Off: imageL1, End: imageL1 + 32<<10}
	h := e.mustOpen("volumes/1/i.qcow2", syscall.O_RDONLY)
	defer h.Release()
	failed := make(chan struct{})
	e.store.Inject(storetest.Before(storetest.Get, func(context.Context, string) error { return nil }), // what is read
		storetest.Before(storetest.Get, func(context.Context, string) error { // the head behind it
			close(failed)
			return fmt.Errorf("head: %w", cache.ErrDenied)
		}))
	readAt(t, h, data, 4<<20)
	<-failed
	e.waitFor("the headers to be asked for again", func() bool {
		readAt(t, h, data, 5<<20)
		return slices.Contains(rec.of(key), l1)
	})
	readAt(t, h, data, imageL1)
}

// Without a store what is here can be read, and nothing is asked for.
func TestHydrationWithoutStore(t *testing.T) {
	t.Parallel()
	e, rec := newRecordedEnv(t)
	e.mkdirAll("volumes/1")
	data := testImage("")
	e.remoteFiles(map[string][]byte{"volumes/1/i.qcow2": data})
	const key = "p/volumes/1/i.qcow2"
	h := e.mustOpen("volumes/1/i.qcow2", syscall.O_RDONLY)
	readAt(t, h, data, 0)
	e.waitFor("headers", func() bool { return len(rec.of(key)) == 2 })
	h.Release()
	if _, err := e.c.Disable(context.Background()); err != nil {
		t.Fatal(err)
	}
	h = e.mustOpen("volumes/1/i.qcow2", syscall.O_RDONLY)
	defer h.Release()
	readAt(t, h, data, 0)
	if _, err := h.ReadAt(context.Background(), make([]byte, 512), 4<<20); !errors.Is(err, cache.ErrOff) {
		t.Errorf("a read of what is not here: %v", err)
	}
	if n := len(rec.of(key)); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// What was fetched a moment ago can be evicted, and is not when it is open: the catalog
// learns of it only later.
func TestEvictOfWhatWasJustFetched(t *testing.T) {
	t.Parallel()
	e, rec := newRecordedEnv(t)
	e.mkdirAll("volumes/1")
	junk := pattern(8, imageEnd)
	e.remoteFiles(map[string][]byte{"volumes/1/junk": junk})
	h := e.mustOpen("volumes/1/junk", syscall.O_RDONLY)
	readAt(t, h, junk, 5<<20)
	left, err := e.c.Evict(context.Background(), []string{"volumes/1/junk"}, nil)
	if err != nil || len(left) != 1 {
		t.Errorf("evicted while it is open: %v, %v", left, err)
	}
	h.Release()
	e.evict("volumes/1/junk")
	before := len(rec.of("p/volumes/1/junk"))
	h = e.mustOpen("volumes/1/junk", syscall.O_RDONLY)
	defer h.Release()
	readAt(t, h, junk, 5<<20)
	if len(rec.of("p/volumes/1/junk")) == before {
		t.Error("its bytes were not dropped")
	}
}
