package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"testing"
	"time"

	"depotfs/s3store/s3test"
)

const (
	deltaPart = 5 << 20
	deltaTail = 2<<20 + 12345 // what an image has beyond whole parts
)

// A change of 1 MiB in an image costs the parts that it touches, counted in bytes,
// whether the image is here or not, on servers that know checksums of copied parts
// and on those that do not; another S3 client reads the image as it is in the mount.
func TestDelta(t *testing.T) {
	for _, kind := range s3test.Kinds {
		parts := 24
		if kind.Name == s3test.Versitygw.Name {
			parts = 51
		}
		t.Run(kind.Name, func(t *testing.T) { testDelta(t, kind, parts*deltaPart+deltaTail) })
	}
}

func testDelta(t *testing.T, kind s3test.Kind, deltaSize int) {
	server := s3test.Start(t, kind)
	d := depotOn(t, server)
	z := newZone(t, on(d), with("--part-size", "5MiB"))
	image := bytesOf(1, deltaSize)
	put(t, z.path("volumes/1/a"), image)
	put(t, z.path("volumes/1/b"), image)
	z.flush()

	// edit writes what differs and compares counts and the object.
	edit := func(z *zone, name, what string, image []byte, off, length int, sent, received int64, state string) {
		t.Helper()
		copy(image[off:off+length], bytesOf(uint64(off), length))
		before := z.status().Store
		write(t, z.path(name), int64(off), image[off:off+length])
		z.flush(name)
		after := z.status().Store
		const records = 8 << 10 // the change records of it, and a heartbeat
		if got := after.Sent - before.Sent; got < sent || got > sent+records {
			t.Errorf("%s: %d bytes were sent, want %d", what, got, sent)
		}
		if got := after.Received - before.Received; got < received || got > received+records {
			t.Errorf("%s: %d bytes were received, want %d", what, got, received)
		}
		if got := after.Requests["part-copy"] - before.Requests["part-copy"]; got < 1 || got > 3 {
			t.Errorf("%s: %d copies", what, got)
		}
		sum := sha256.Sum256(image)
		if got := d.SHA256(t, name); got != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: the object has other bytes", what)
		}
		if got := z.stat(name).State; got != state {
			t.Errorf("%s: the file is %s, want %s", what, got, state)
		}
	}
	const mib = 1 << 20
	edit(z, "volumes/1/a", "here, within a part", image, 40*mib+3, mib, deltaPart, 0, "clean")
	edit(z, "volumes/1/a", "here, across an edge", image, 60*mib-mib/2, mib, 2*deltaPart, 0, "clean")
	z.evict("volumes/1/a")
	edit(z, "volumes/1/a", "away, within a part", image, 81*mib+3, mib, deltaPart, deltaPart-mib, "partial")
	edit(z, "volumes/1/a", "away, across an edge", image, 90*mib-mib/2, mib, 2*deltaPart, 2*deltaPart-mib, "partial")
	z.kill()
	z.mount()
	z.joined()
	edit(z, "volumes/1/a", "away, after a kill", image, 101*mib, 4096, deltaPart, deltaPart-4096, "partial")
	edit(z, "volumes/1/a", "away, at the end", image, deltaSize-100, 100, deltaTail, deltaTail-100, "partial")
	holds(t, z.path("volumes/1/a"), image)

	// Another zone knows nothing of the parts: what is replaced is asked for as well.
	other := newZone(t, on(d), with("--part-size", "5MiB", "--zone", "z2"))
	other.joined()
	image = bytesOf(1, deltaSize)
	edit(other, "volumes/1/b", "away, in another zone", image, 81*mib+3, mib, deltaPart, deltaPart, "partial")
	holds(t, other.path("volumes/1/b"), image)
}

// joined waits until the depot was tried out and listed: that moves a few bytes.
func (z *zone) joined() {
	z.t.Helper()
	eventually(z.t, 60*time.Second, func() error {
		if s := z.status().Store; s.State != "on" || s.Listing != "done" {
			return fmt.Errorf("the store is %s, listing %s", s.State, s.Listing)
		}
		return nil
	})
}

// write changes a file in place.
func write(t testing.TB, path string, off int64, body []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(body, off); err != nil {
		t.Fatal(err)
	}
}
