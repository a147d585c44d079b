package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// coarse has the zone's cache directory be a file system that keeps whole seconds, as
// old ones and some NFS servers do.
func coarse(z *zone) {
	z.t.Helper()
	image := filepath.Join(z.dir, "image")
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(64 << 20)
	}
	if err != nil {
		z.t.Fatal(err)
	}
	f.Close()
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", "-I", "128", image}, {"mount", "-o", "loop", image, z.share}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			z.t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	z.t.Cleanup(func() { _ = unix.Unmount(z.share, unix.MNT_DETACH) })
}

// Others write into a file in the very second in which it was written through the
// mount and uploaded. Its stamp does not show that: so it was not uploaded then.
func TestWrittenByOthersInTheSameSecond(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d), coarse, with("--settle", "0s"))
	if err := os.MkdirAll(z.path("volumes/1"), 0o755); err != nil {
		t.Fatal(err)
	}
	for {
		if ns := time.Now().Nanosecond(); ns < 100e6 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	name := func(i int) string { return fmt.Sprintf("volumes/1/f%d", i) }
	for i := range 4 {
		put(t, z.path(name(i)), bytesOf(uint64(i), 50_000))
	}
	z.flush()
	for i := range 4 { // the same files and sizes
		put(t, filepath.Join(z.share, name(i)), bytesOf(uint64(100+i), 50_000))
	}
	for i := range 4 {
		holds(t, z.path(name(i)), bytesOf(uint64(100+i), 50_000))
	}
	z.flush()
	for i := range 4 {
		if got, _ := d.Get(t, name(i)); !bytes.Equal(got, bytesOf(uint64(100+i), 50_000)) {
			t.Errorf("%s: the depot does not have what others wrote", name(i))
		}
	}
}
