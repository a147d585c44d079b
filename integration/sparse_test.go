package integration

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A sparse image of sparseSize has sparseData bytes in extents of a part each. The holes
// between them are longer than the largest object of zeros.
const (
	sparseSize   = 640 << 20
	sparseExtent = 16 << 20
	sparseParts  = 3
	sparseData   = sparseParts * sparseExtent
	// zeroObject is the one object of zeros that is sent, once in a depot's life.
	zeroObject = 16 << 20
	// smallTalk bounds depot.json, what the probe stores, and the like.
	smallTalk = 64 << 10
)

// makeSparse writes a sparse image: extents of random bytes, the first at 0, the
// last at the end, holes between them.
func makeSparse(t testing.TB, name string, size int64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(sparseParts) {
		off := (size - sparseExtent) / (sparseParts - 1) * i / sparseExtent * sparseExtent
		if _, err := f.WriteAt(bytesOf(uint64(100+i), sparseExtent), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// roomOf is how many bytes a file takes on disk.
func roomOf(t testing.TB, name string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// A sparse image costs what its data costs: to send, to fetch, and on disk; the object
// is the file's bytes all the same.
func TestSparseImage(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d))
	if err := os.Mkdir(z.path("volumes"), 0o755); err != nil {
		t.Fatal(err)
	}
	const name = "volumes/disk.raw"
	makeSparse(t, z.path(name), sparseSize)
	want := sumOf(t, z.path(name))
	z.flush()

	sent := z.status().Store.Sent
	if sent < sparseData || sent > sparseData+zeroObject+smallTalk {
		t.Errorf("%d bytes were sent for %d bytes of data", sent, sparseData)
	}
	if got := d.SHA256(t, name); got != want {
		t.Errorf("the object's bytes are others: %s", got)
	}
	room := func(z *zone) {
		t.Helper()
		if got := roomOf(t, filepath.Join(z.share, name)); got < sparseData || got > sparseData+1<<20 {
			t.Errorf("the file takes %d bytes in the cache directory, its data has %d", got, sparseData)
		}
		if got := roomOf(t, z.path(name)); got < sparseData || got > sparseData+1<<20 {
			t.Errorf("the file says that it takes %d bytes, its data has %d", got, sparseData)
		}
	}
	room(z)

	// A change of one part sends that part, and no zeros.
	before := z.status().Store.Sent
	f, err := os.OpenFile(z.path(name), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("changed"), 5000); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want = sumOf(t, z.path(name))
	z.flush()
	if sent := z.status().Store.Sent - before; sent < sparseExtent || sent > sparseExtent+smallTalk {
		t.Errorf("%d bytes were sent for a change in one part", sent)
	}

	fetch := func(t testing.TB, z *zone) {
		t.Helper()
		before := z.status().Store.Received
		z.must("warm", z.path(name))
		if got := z.status().Store.Received - before; got < sparseData || got > sparseData+smallTalk {
			t.Errorf("%d bytes were fetched of a file with %d bytes of data", got, sparseData)
		}
		if got := sumOf(t, z.path(name)); got != want {
			t.Error("it reads as other bytes")
		}
		if got := sumOf(t, filepath.Join(z.share, name)); got != want {
			t.Error("the cache directory has other bytes")
		}
		room(z)
	}
	t.Run("fetched after eviction", func(t *testing.T) {
		z := z.as(t)
		z.evict(name)
		fetch(t, z)
	})
	t.Run("fetched after eviction and a kill", func(t *testing.T) {
		z := z.as(t)
		z.evict(name)
		// Some of it, zeros among it, is here when the daemon dies.
		f, err := os.Open(z.path(name))
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1<<20)
		for _, off := range []int64{0, sparseExtent + 1<<20, sparseSize - sparseExtent/2} {
			if _, err := f.ReadAt(b, off); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
		z.kill()
		z.mount()
		z.must("warm", z.path(name))
		if got := sumOf(t, z.path(name)); got != want {
			t.Error("it reads as other bytes after a kill")
		}
		room(z)
	})
	t.Run("fetched in another zone", func(t *testing.T) {
		other := newZone(t, on(d), with("--zone", "z2"))
		other.waitMetadata(name)
		fetch(t, other)
	})
}

// waitMetadata waits until a zone has read what an object's metadata say of a file.
func (z *zone) waitMetadata(name string) {
	z.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(z.path(name)); err == nil && z.stat(name).CRC64 != "" {
			return
		}
		if time.Now().After(deadline) {
			z.t.Fatalf("the metadata of %s were not read", name)
		}
	}
}
