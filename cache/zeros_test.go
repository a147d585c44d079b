package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/minio/crc64nvme"
	"golang.org/x/sys/unix"

	"depotfs/cache"
	"depotfs/cache/extent"
	"depotfs/cache/storetest"
)

const (
	mib       = 1 << 20
	metaZeros = "depotfs-zeros"
)

// sparseBytes are size bytes, zeros but for the given ranges (pairs of offsets).
func sparseBytes(size int, ends ...int) []byte {
	b := make([]byte, size)
	for i := 0; i < len(ends); i += 2 {
		copy(b[ends[i]:ends[i+1]], bytes.Repeat([]byte{0xa5, byte(i + 1)}, size))
	}
	return b
}

// writeSparse makes a file with holes where data is zeros.
func (e *env) writeSparse(path string, data []byte) {
	e.t.Helper()
	ctx := context.Background()
	parent, name := e.parent(path)
	_, h, err := e.c.Create(ctx, me, parent, name, 0o644, syscall.O_RDWR)
	if err != nil {
		e.t.Fatalf("create %q: %v", path, err)
	}
	defer h.Release()
	for off := 0; off < len(data); off += 64 << 10 {
		b := data[off:min(len(data), off+64<<10)]
		if bytes.Count(b, []byte{0}) == len(b) && off+len(b) < len(data) {
			continue
		}
		if _, err := h.WriteAt(ctx, b, int64(off)); err != nil {
			e.t.Fatalf("write %q: %v", path, err)
		}
	}
}

// twin is another zone of the same depot.
func (e *env) twin() *env {
	e.t.Helper()
	z := &env{t: e.t, share: e.t.TempDir(), state: e.t.TempDir(), zone: freeName(e.mem), mem: e.mem, store: storetest.NewFaulty(e.mem), limits: e.limits}
	z.open()
	e.t.Cleanup(z.close)
	return z
}

func (e *env) received() int64 { return e.mem.Usage().BytesReceived }

func (e *env) zeroMap(key string) string {
	e.t.Helper()
	info, err := e.mem.Head(context.Background(), key)
	if err != nil {
		e.t.Fatal(err)
	}
	return info.Metadata[metaZeros]
}

// blocks is the room that a file takes in the share, in bytes.
func (e *env) blocks(path string) int64 {
	e.t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(e.share, path), &st); err != nil {
		e.t.Fatal(err)
	}
	return st.Blocks * 512
}

func (e *env) warm(path string) {
	e.t.Helper()
	left, err := e.c.Warm(context.Background(), []string{path}, nil)
	if err != nil || len(left) > 0 {
		e.t.Fatalf("warm %q: %v %v", path, left, err)
	}
}

// wantSparse warms a file and checks its bytes, the room it takes and the bytes that
// came for it.
func (e *env) wantSparse(path string, want []byte, fetched, room int64) {
	e.t.Helper()
	before := e.received()
	e.warm(path)
	if got := e.received() - before; got > fetched {
		e.t.Errorf("%d bytes were fetched, want %d at most", got, fetched)
	}
	e.mustRead(path, want)
	b, err := os.ReadFile(filepath.Join(e.share, path))
	if err != nil || !bytes.Equal(b, want) {
		e.t.Fatalf("the plain file has other bytes (%v)", err)
	}
	if got := e.blocks(path); got > room {
		e.t.Errorf("the file takes %d bytes, want %d at most", got, room)
	}
}

func TestZerosAreNotFetched(t *testing.T) {
	t.Parallel()
	const data = 2 * mib
	want := sparseBytes(12*mib+5, 3*mib, 4*mib, 9*mib, 10*mib)
	e := newEnv(t)
	e.mkdirAll("volumes")
	const path = "volumes/a.raw"
	e.writeSparse(path, want)
	e.flush()
	e.wantObject("p/"+path, want)
	if e.zeroMap("p/"+path) == "" {
		t.Fatal("the object has no zero map")
	}
	t.Run("after eviction", func(t *testing.T) {
		e.evict(path)
		e.wantSparse(path, want, data+64<<10, data+128<<10)
	})
	t.Run("after a restart", func(t *testing.T) {
		e.evict(path)
		e.restart()
		e.wantSparse(path, want, data+64<<10, data+128<<10)
	})
	t.Run("of a file fetched in part", func(t *testing.T) {
		e.evict(path)
		a, err := e.lookup(path)
		if err != nil {
			t.Fatal(err)
		}
		h, err := e.c.Open(context.Background(), a.Ino, syscall.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		before := e.received()
		b := make([]byte, mib)
		for _, off := range []int64{0, 5 * mib, 11 * mib} {
			if n, err := h.ReadAt(context.Background(), b, off); n != len(b) || !bytes.Equal(b, want[off:off+mib]) {
				t.Fatalf("read at %d: %d bytes (%v)", off, n, err)
			}
		}
		if got := e.received() - before; got != 0 {
			t.Fatalf("%d bytes were fetched for zeros", got)
		}
		if n, err := h.ReadAt(context.Background(), b[:1], 3*mib); n != 1 || b[0] != want[3*mib] {
			t.Fatalf("read data: %d bytes (%v)", n, err)
		}
		h.Release()
		e.restart()
		if st := e.state1(path); st != "partial" {
			t.Fatalf("it is %s", st)
		}
		e.wantSparse(path, want, data+64<<10, data+128<<10)
	})
	t.Run("in another zone", func(t *testing.T) {
		z := e.twin()
		z.waitAttrs(path)
		z.wantSparse(path, want, data+64<<10, data+128<<10)
	})
	t.Run("in another zone that has much to ask for before", func(t *testing.T) {
		for i := range 20 {
			e.write(fmt.Sprintf("early-%d", i), pattern(uint64(i), 10))
		}
		e.flush()
		z := &env{t: t, share: t.TempDir(), state: t.TempDir(), zone: freeName(e.mem), mem: e.mem, store: storetest.NewFaulty(e.mem), limits: e.limits}
		gate := make(chan struct{})
		z.store.Inject(storetest.Delay(storetest.Head, gate).On("p/early-").Times(20))
		z.open()
		defer z.close()
		defer close(gate)
		z.waitFor("the listing", func() bool { _, err := z.lookup(path); return err == nil })
		z.wantSparse(path, want, data+64<<10, data+128<<10)
	})
	t.Run("after a rename", func(t *testing.T) {
		e.rename(path, "volumes/b.raw")
		e.flush()
		if e.zeroMap("p/volumes/b.raw") == "" {
			t.Fatal("the object has lost its zero map")
		}
	})
}

// waitAttrs waits until the metadata of a file were read.
func (e *env) waitAttrs(path string) {
	e.t.Helper()
	e.waitFor("the metadata of "+path, func() bool {
		f, err := e.c.StatPath(context.Background(), path)
		return err == nil && f.CRC64 != ""
	})
}

// Metadata stays where another tool replaces the bytes: the map is not believed.
func TestZeroMapOfOtherBytes(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.writeSparse("a.raw", sparseBytes(12*mib, 3*mib, 4*mib))
	e.flush()
	info, err := e.mem.Head(context.Background(), "p/a.raw")
	if err != nil {
		t.Fatal(err)
	}
	other := pattern(9, 12*mib)
	if _, err := e.mem.Put(context.Background(), "p/a.raw", bytes.NewReader(other), int64(len(other)), cache.PutOptions{Metadata: info.Metadata}); err != nil {
		t.Fatal(err)
	}
	z := e.twin()
	z.waitAttrs("a.raw")
	z.mustRead("a.raw", other)
}

// A map that lies about the very version costs a second fetch and no wrong byte stays.
func TestZeroMapThatLies(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(5, 12*mib)
	e.write("a.raw", data)
	e.flush()
	info, err := e.mem.Head(context.Background(), "p/a.raw")
	if err != nil {
		t.Fatal(err)
	}
	meta := maps.Clone(info.Metadata)
	meta[metaZeros] = extent.EncodeZeros(extent.FromRanges([]extent.Range{{Off: 2 * mib, End: 5 * mib}}), int64(len(data)), crc64nvme.Checksum(data), 1024)
	if _, err := e.mem.Put(context.Background(), "p/a.raw", bytes.NewReader(data), int64(len(data)), cache.PutOptions{Metadata: meta}); err != nil {
		t.Fatal(err)
	}
	z := e.twin()
	z.waitAttrs("a.raw")
	if left, err := z.c.Warm(context.Background(), []string{"a.raw"}, nil); err != nil {
		t.Fatal(err)
	} else if len(left) > 0 {
		z.warm("a.raw")
	}
	z.mustRead("a.raw", data)
	b, err := os.ReadFile(filepath.Join(z.share, "a.raw"))
	if err != nil || !bytes.Equal(b, data) {
		t.Fatalf("the plain file has other bytes (%v)", err)
	}
	z.evict("a.raw")
	z.mustRead("a.raw", data)
}

// Zeros that no map tells of come by the line, and take no room.
func TestFetchedZerosTakeNoRoom(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.refresh() // has its name, so that its twin takes another one
	want := sparseBytes(20*mib, 3*mib, 4*mib)
	if _, err := e.mem.Put(context.Background(), "p/a.raw", bytes.NewReader(want), int64(len(want)), cache.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	z := e.twin()
	z.waitAttrs("a.raw")
	z.wantSparse("a.raw", want, 20*mib, mib+128<<10)
}

// What is written into the zeros of a remote file is not zeros any more.
func TestWriteIntoZerosOfARemoteFile(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	want := sparseBytes(12*mib, 3*mib, 4*mib)
	e.writeSparse("a.raw", want)
	e.flush()
	e.evict("a.raw")
	a, err := e.lookup("a.raw")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	h, err := e.c.Open(ctx, a.Ino, syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	patch := pattern(7, 300_000)
	if _, err := h.WriteAt(ctx, patch, 6*mib+123); err != nil {
		t.Fatal(err)
	}
	copy(want[6*mib+123:], patch)
	if err := h.Sync(ctx, false); err != nil {
		t.Fatal(err)
	}
	h.Release()
	e.restart()
	e.mustRead("a.raw", want)
	e.flush()
	e.wantObject("p/a.raw", want)
	e.evict("a.raw")
	e.wantSparse("a.raw", want, 1*mib+300_000+192<<10, 2*mib)
}

// Who copies a sparse file that is not here need not read its holes.
func TestHolesOfARemoteFile(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	want := sparseBytes(12*mib, 3*mib, 4*mib, 9*mib, 12*mib)
	e.writeSparse("a.raw", want)
	e.flush()
	e.evict("a.raw")
	a, err := e.lookup("a.raw")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	h, err := e.c.Open(ctx, a.Ino, syscall.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	check := func() {
		t.Helper()
		for _, s := range []struct {
			off    int64
			whence int
			want   int64
		}{
			{0, unix.SEEK_DATA, 3 * mib}, {0, unix.SEEK_HOLE, 0}, {3 * mib, unix.SEEK_DATA, 3 * mib}, {3*mib + 5, unix.SEEK_HOLE, 4 * mib},
			{4 * mib, unix.SEEK_DATA, 9 * mib}, {10 * mib, unix.SEEK_HOLE, 12 * mib}, {11 * mib, unix.SEEK_DATA, 11 * mib},
		} {
			if got, err := h.Seek(ctx, s.off, s.whence); err != nil || got != s.want {
				t.Errorf("seek from %d (%d): %d (%v), want %d", s.off, s.whence, got, err, s.want)
			}
		}
		if _, err := h.Seek(ctx, 12*mib, unix.SEEK_DATA); err != syscall.ENXIO {
			t.Errorf("seek from the end: %v", err)
		}
	}
	before := e.received()
	check()
	if got := e.received() - before; got != 0 {
		t.Errorf("%d bytes were fetched", got)
	}
	if _, err := h.ReadAt(ctx, make([]byte, 100), 3*mib+700_000); err != nil {
		t.Fatal(err)
	}
	check()
	e.warm("a.raw")
	check()
}
