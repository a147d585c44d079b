package integration

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// An image that is mostly holes costs what its data costs: on the way to the depot, on
// the way to another zone, and on the disks of both. Its object is the whole file.
func TestHolesCostNothing(t *testing.T) {
	t.Parallel()
	const (
		path    = "volumes/1/sparse.raw"
		size    = 48 * deltaPart
		extent  = 3 * deltaPart
		extents = 4
		most    = extents * extent * 11 / 10
	)
	d := newDepot(t)
	p := d.throughHTTP(t)
	z := newZone(t, on(d), with("--part-size", "5MiB", "--settle", "24h"))
	body := make([]byte, size)
	if err := os.MkdirAll(z.path("volumes/1"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(z.path(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for i := range extents {
		at := i * size / extents
		copy(body[at:], bytesOf(uint64(i), extent))
		if _, err := f.WriteAt(body[at:at+extent], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p.quiet()
	p.forget()
	z.flush()
	p.quiet()
	if sent, _ := p.all(); sent > most {
		t.Errorf("%d bytes were sent for %d of data: %+v", sent, extents*extent, p.of(path).kinds)
	}
	object, _ := d.Get(t, path)
	if diff := difference(object, body); diff != "" {
		t.Fatalf("the object: %s", diff)
	}
	object = nil

	far := newZone(t, on(d))
	far.joined()
	z.evict(path)
	for where, zone := range map[string]*zone{"another zone": far, "its own zone after evict": z} {
		p.quiet()
		p.forget()
		zone.must("warm", zone.path(path))
		p.quiet()
		if _, received := p.all(); received > most {
			t.Errorf("%s fetched %d bytes for %d of data", where, received, extents*extent)
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(zone.share, path), &st); err != nil {
			t.Fatal(err)
		}
		if st.Blocks*512 > most {
			t.Errorf("%s keeps %d bytes on the disk for %d of data", where, st.Blocks*512, extents*extent)
		}
		holds(t, zone.path(path), body)
	}
}
