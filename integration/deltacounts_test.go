package integration

import (
	"os"
	"testing"
)

// aside is what may pass beside the bytes of parts: records, the XML that completes.
const aside = 128 << 10

// A change of 1 MiB in an image sends the parts that it touches, whether the image is
// here or not, and fetches at most what is missing of these, by what passes the line.
func TestChangedImageSendsItsParts(t *testing.T) {
	for _, remote := range []bool{false, true} {
		name := map[bool]string{false: "resident", true: "remote"}[remote]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			p := d.throughHTTP(t)
			z := newZone(t, on(d), with("--part-size", "5MiB", "--settle", "24h"))
			const path, at = "volumes/1/image", 5*deltaPart - 300<<10
			body := bytesOf(1, 13*deltaPart-4096)
			put(t, z.path(path), body)
			z.flush()
			if remote {
				z.evict(path)
			}
			p.quiet()
			p.forget()
			change := bytesOf(2, 1<<20)
			copy(body[at:], change)
			f, err := os.OpenFile(z.path(path), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(change, at); err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			z.flush()
			p.quiet()
			sent, received := p.all()
			if sent > 2*deltaPart+aside {
				t.Errorf("%d bytes were sent, more than 2 parts of %d: %+v", sent, deltaPart, p.of(path).kinds)
			}
			most := int64(aside)
			if remote {
				most += 2*deltaPart + 2<<20
			}
			if received > most {
				t.Errorf("%d bytes were fetched, more than %d: %+v", received, most, p.of(path).kinds)
			}
			object, _ := d.Get(t, path)
			if diff := difference(object, body); diff != "" {
				t.Fatalf("the object: %s", diff)
			}
			if left := d.Uploads(t); len(left) > 0 {
				t.Errorf("unfinished uploads stay: %q", left)
			}
			z.evict(path)
			holds(t, z.path(path), body)
		})
	}
}
