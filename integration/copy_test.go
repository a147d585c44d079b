package integration

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// cp within the mount sends nothing of an image that the depot has.
func TestCopyWithinMount(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set)
			if err := os.Mkdir(z.path("volumes"), 0o755); err != nil {
				t.Fatal(err)
			}
			image := bytesOf(1, 40<<20+77)
			if err := os.WriteFile(z.path("volumes/a"), image, 0o644); err != nil {
				t.Fatal(err)
			}
			z.flush()
			before := z.status().Store.Sent
			if out, err := exec.Command("cp", z.path("volumes/a"), z.path("volumes/b")).CombinedOutput(); err != nil {
				t.Fatalf("cp: %v %s", err, out)
			}
			z.flush()
			if sent := z.status().Store.Sent - before; sent > smallTalk {
				t.Errorf("%d bytes were sent of a copy of %d bytes", sent, len(image))
			}
			if got, ok := d.Get(t, "volumes/b"); !ok || !bytes.Equal(got, image) {
				t.Errorf("the object of the copy has %d bytes, or other ones", len(got))
			}
			z.evict("volumes/b")
			if got, err := os.ReadFile(z.path("volumes/b")); err != nil || !bytes.Equal(got, image) {
				t.Errorf("the copy reads as other bytes (%v)", err)
			}
		})
	}
}
