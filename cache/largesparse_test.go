package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// hollow is a store that keeps of objects in parts only what was sent: it can hold
// images that no test machine can.
type hollow struct {
	cache.Store
	t testing.TB

	mu      sync.Mutex
	uploads map[string]*hollowObject
	objects map[string]*hollowObject
	sent    int64 // bytes of parts
	fetched int64
	copies  int
}

type hollowObject struct {
	key   string
	info  cache.ObjectInfo
	sizes map[int]int64
	sums  map[int]uint64
	sent  map[int][]byte
	at    []hollowPart // once it is complete
}

type hollowPart struct {
	off, size int64
	sent      []byte // nil: zeros
}

func newHollow(t testing.TB, below cache.Store) *hollow {
	return &hollow{Store: below, t: t, uploads: map[string]*hollowObject{}, objects: map[string]*hollowObject{}}
}

func (h *hollow) CreateMultipart(_ context.Context, key string, o cache.PutOptions) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := fmt.Sprint("upload-", len(h.uploads))
	h.uploads[id] = &hollowObject{key: key, info: cache.ObjectInfo{Key: key, ETag: id, Metadata: o.Metadata},
		sizes: map[int]int64{}, sums: map[int]uint64{}, sent: map[int][]byte{}}
	return id, nil
}

func (h *hollow) PutPart(_ context.Context, _, id string, n int, body io.ReaderAt, size int64, crc uint64) (cache.Part, error) {
	b := make([]byte, size)
	if m, err := body.ReadAt(b, 0); int64(m) != size {
		return cache.Part{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.uploads[id]
	u.sizes[n], u.sums[n], u.sent[n] = size, crc, b
	h.sent += size
	return cache.Part{Number: n, Size: size, ETag: fmt.Sprint(n), CRC64: crc, HasCRC64: true}, nil
}

// CopyPart knows the object of zeros alone.
func (h *hollow) CopyPart(_ context.Context, _, id string, n int, src, _ string, off, size int64) (cache.Part, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if filepath.Base(filepath.Dir(src)) != "zero" || off != 0 {
		h.t.Errorf("a part is copied from %s at %d", src, off)
	}
	u := h.uploads[id]
	u.sizes[n], u.sums[n] = size, cache.ZeroCRC(size)
	h.copies++
	return cache.Part{Number: n, Size: size, ETag: fmt.Sprint(n), CRC64: u.sums[n], HasCRC64: true}, nil
}

func (h *hollow) CompleteMultipart(_ context.Context, key, id string, parts []cache.Part, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.uploads[id]
	var off int64
	var crc uint64
	for _, p := range parts {
		u.at = append(u.at, hollowPart{off, u.sizes[p.Number], u.sent[p.Number]})
		crc = cache.CombineCRC(crc, u.sums[p.Number], u.sizes[p.Number])
		off += u.sizes[p.Number]
	}
	if off != size || crc != o.CRC64 {
		return cache.ObjectInfo{}, fmt.Errorf("%s: %d bytes with checksum %016x, announced were %d and %016x: %w", key, off, crc, size, o.CRC64, cache.ErrChecksum)
	}
	u.info.Size, u.info.CRC64, u.info.HasCRC64 = size, crc, true
	h.objects[key] = u
	return u.info, nil
}

func (h *hollow) Head(ctx context.Context, key string) (cache.ObjectInfo, error) {
	h.mu.Lock()
	o := h.objects[key]
	h.mu.Unlock()
	if o == nil {
		return h.Store.Head(ctx, key)
	}
	return o.info, nil
}

func (h *hollow) Get(ctx context.Context, key string, off, length int64, ifMatch string) (io.ReadCloser, cache.ObjectInfo, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.objects[key]
	if o == nil {
		return h.Store.Get(ctx, key, off, length, ifMatch)
	}
	for _, p := range o.at {
		if p.off <= off && off+length <= p.off+p.size && p.sent != nil {
			h.fetched += length
			return io.NopCloser(bytes.NewReader(p.sent[off-p.off : off-p.off+length])), o.info, nil
		}
	}
	h.t.Errorf("bytes %d to %d of %s are fetched, zeros among them", off, off+length, key)
	return nil, o.info, cache.ErrRejected
}

// An image of 100 GiB with data in four parts costs four parts: sent, fetched, on disk.
func TestLargeSparseImage(t *testing.T) {
	t.Parallel()
	const part, size = 16 << 20, 100<<30 + 12345
	e := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: storetest.NewMem()}
	e.store = storetest.NewFaulty(e.mem)
	h := newHollow(t, e.store)
	e.store = nil
	e.open()
	t.Cleanup(e.close)

	ctx := context.Background()
	parent, name := e.parent("disk.raw")
	a, f, err := e.c.Create(ctx, me, parent, name, 0o644, syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(ctx, size); err != nil {
		t.Fatal(err)
	}
	data := map[int64][]byte{}
	for i, off := range []int64{0, 33 << 30, 77 << 30, 99 << 30} {
		data[off] = pattern(uint64(i), part)
		if _, err := f.WriteAt(ctx, data[off], off); err != nil {
			t.Fatal(err)
		}
	}
	f.Release()
	// Only now: what is written slowly may be uploaded in between.
	e.c.SetStore(h, cache.StoreInfo{Bucket: "b"})
	e.flush()
	if h.sent != 4*part {
		t.Errorf("%d bytes were sent in parts, want %d", h.sent, 4*part)
	}
	if h.copies > 500 {
		t.Errorf("%d copies of zeros", h.copies)
	}
	if e.blocks("disk.raw") > 4*part+mib {
		t.Errorf("the file takes %d bytes", e.blocks("disk.raw"))
	}

	e.evict("disk.raw")
	e.warm("disk.raw")
	if h.fetched != 4*part {
		t.Errorf("%d bytes were fetched, want %d", h.fetched, 4*part)
	}
	if e.blocks("disk.raw") > 4*part+mib {
		t.Errorf("the file takes %d bytes after it was fetched", e.blocks("disk.raw"))
	}
	if f, err = e.c.Open(ctx, a.Ino, syscall.O_RDONLY); err != nil {
		t.Fatal(err)
	}
	defer f.Release()
	b := make([]byte, part)
	for off, want := range data {
		if _, err := f.ReadAt(ctx, b, off); err != nil || !bytes.Equal(b, want) {
			t.Errorf("other bytes at %d (%v)", off, err)
		}
	}
	if st, err := os.Stat(filepath.Join(e.share, "disk.raw")); err != nil || st.Size() != size {
		t.Errorf("the file has %v bytes (%v)", st, err)
	}
}
