package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bound has the zone's cache directory be a mount of its own, of the directory real
// beside it, so that it can be unmounted under the daemon.
func bound(z *zone) {
	real := filepath.Join(z.dir, "real")
	if err := os.Mkdir(real, 0o755); err != nil {
		z.t.Fatal(err)
	}
	z.t.Cleanup(func() { _ = unix.Unmount(z.share, unix.MNT_DETACH) })
	z.bind(real)
}

// bind mounts a directory on the cache directory.
func (z *zone) bind(dir string) {
	z.t.Helper()
	if err := unix.Mount(dir, z.share, "", unix.MS_BIND, ""); err != nil {
		z.t.Fatalf("bind %s: %v", dir, err)
	}
}

// detach unmounts the cache directory though the daemon uses it.
func (z *zone) detach() {
	z.t.Helper()
	if err := unix.Unmount(z.share, unix.MNT_DETACH); err != nil {
		z.t.Fatal(err)
	}
}

// refuses waits until the mount refuses changes and opens, and status says why.
func (z *zone) refuses(why string) {
	z.t.Helper()
	eventually(z.t, time.Minute, func() error {
		for _, p := range z.status().Problems {
			if p.Kind == "share" && strings.Contains(p.Reason, why) {
				return nil
			}
		}
		return fmt.Errorf("status does not say %q: %+v", why, z.status().Problems)
	})
	if err := os.Mkdir(z.path("new"), 0o755); !errors.Is(err, unix.EIO) {
		z.t.Errorf("mkdir without the share: %v, want EIO", err)
	}
	if _, err := os.ReadFile(z.path("volumes/1/closed")); !errors.Is(err, unix.EIO) {
		z.t.Errorf("open without the share: %v, want EIO", err)
	}
	if err := os.Remove(z.path("volumes/1/closed")); !errors.Is(err, unix.EIO) {
		z.t.Errorf("unlink without the share: %v, want EIO", err)
	}
	if names, err := os.ReadDir(z.path("volumes/1")); err != nil || len(names) != 3 {
		z.t.Errorf("%d names are listed without the share (%v), want 3", len(names), err)
	}
}

// A share that is unmounted under the daemon, replaced by another one and mounted
// again: the mount does no harm meanwhile, says what is wrong, and then goes on with
// everything that it had.
func TestShareGoesAndComesBack(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			d := newDepot(t)
			z := newZone(t, on(d), way.set, bound, quiet, with("--settle", "1h", "--scan-interval", "1s"))
			closed, pending, written := bytesOf(1, 300_000), bytesOf(2, 300_000), bytesOf(3, 400_000)
			put(t, z.path("volumes/1/closed"), closed)
			z.flush()
			put(t, z.path("volumes/1/pending"), pending)
			w, err := os.Create(z.path("volumes/1/written"))
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if _, err := w.Write(written[:100_000]); err != nil {
				t.Fatal(err)
			}

			z.detach()
			z.refuses("the share is not mounted")
			if _, err := w.Write(written[100_000:300_000]); err != nil {
				t.Errorf("a file that is open for writing: %v", err)
			}
			for range 2 { // its name is not durable yet, and cannot be made so
				if err := w.Sync(); !errors.Is(err, unix.EIO) {
					t.Errorf("fsync of a new file without the share: %v, want EIO", err)
				}
			}
			if names, _ := os.ReadDir(z.share); len(names) > 0 {
				t.Errorf("the empty mount point was written to: %v", names)
			}

			other := filepath.Join(z.dir, "other")
			put(t, filepath.Join(other, ".depotfs/depot.json"), []byte(`{"format":1,"share_id":"0123","zone":"z9"}`))
			put(t, filepath.Join(other, "volumes/1/closed"), []byte("of another share"))
			z.bind(other)
			z.refuses("another share is mounted")
			z.detach()

			put(t, filepath.Join(z.dir, "real/volumes/1/theirs"), pending) // by another machine meanwhile
			z.bind(filepath.Join(z.dir, "real"))
			eventually(t, time.Minute, func() error { return os.WriteFile(z.path("volumes/1/after"), closed, 0o644) })
			if _, err := w.Write(written[300_000:]); err != nil {
				t.Errorf("the writer, after the share is back: %v", err)
			}
			if err := w.Sync(); err != nil {
				t.Errorf("fsync, after the share is back: %v", err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if len(z.status().Problems) > 0 {
				t.Errorf("problems that have ended are shown: %+v", z.status().Problems)
			}
			for name, body := range map[string][]byte{"closed": closed, "pending": pending, "written": written, "theirs": pending, "after": closed} {
				holds(t, z.path("volumes/1/"+name), body)
			}
			z.flush()
			sameInBucket(t, d, z)
			if got, _ := os.ReadFile(filepath.Join(other, "volumes/1/closed")); string(got) != "of another share" {
				t.Error("the other share was written to")
			}
			// The old mount is not held any more: the file system behind it can be unmounted.
			z.umount()
			if err := unix.Unmount(z.share, 0); err != nil {
				t.Errorf("unmount the share after the daemon ended: %v", err)
			}
			refused(t, z, z.run(z.mountArgs()...), 1, z.share, "is the share mounted?")
			z.bind(filepath.Join(z.dir, "real"))
			z.mount()
			holds(t, z.path("volumes/1/written"), written)
		})
	}
}
