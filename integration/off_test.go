package integration

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"depotfs/s3store/s3test"
)

// contents counts what a tree has to have in the depot: how many different files,
// and the rest: directories and symlinks.
func contents(t testing.TB, root string) (files, rest int, sums map[string]bool) {
	t.Helper()
	sums = map[string]bool{}
	inodes := map[uint64]bool{}
	err := filepath.WalkDir(root, func(path string, e iofs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if !e.Type().IsRegular() {
			rest++
		} else if !inodes[st.Ino] {
			inodes[st.Ino] = true
			files++
			sums[sumOf(t, path)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, rest, sums
}

// depotHolds fails the test where the bucket is not exactly the tree.
func depotHolds(t testing.TB, d *depot, root string) {
	t.Helper()
	objects := d.keys(t)
	err := filepath.WalkDir(root, func(path string, e iofs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		if e.Name() == ".depotfs" {
			return filepath.SkipDir
		}
		key, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		var want []byte
		switch {
		case e.IsDir():
			key += "/"
		case e.Type()&iofs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			want = []byte(target)
		case e.Type().IsRegular():
			if want, err = os.ReadFile(path); err != nil {
				return err
			}
		default:
			return nil
		}
		got, found := d.Get(t, d.prefix+key)
		if diff := difference(got, want); !found || diff != "" {
			t.Errorf("object %q (found: %v): %s", key, found, diff)
		}
		delete(objects, key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for key := range objects {
		t.Errorf("object %q belongs to nothing", key)
	}
}

// sameObjects compares two listings by versions.
func sameObjects(a, b map[string]s3test.Object) bool {
	return maps.EqualFunc(a, b, func(x, y s3test.Object) bool { return x.ETag == y.ETag && x.Modified.Equal(y.Modified) })
}

// uploaded is which files were uploaded, as the log tells; one that was uploaded
// more than once fails the test.
func uploaded(t testing.TB, log string) map[string]bool {
	t.Helper()
	seen := map[string]bool{}
	for line := range strings.Lines(log) {
		if _, rest, ok := strings.Cut(line, "msg=uploaded path="); ok {
			path, _, _ := strings.Cut(rest, " key=")
			if seen[path] {
				t.Errorf("%s was uploaded more than once", path)
			}
			seen[path] = true
		}
	}
	return seen
}

// grepLines are the lines that hold word.
func grepLines(lines []string, word string) string { return grep(strings.Join(lines, "\n")+"\n", word) }

// putsFor fails the test where other objects were put than these: so many files, and
// so many directories and links. The marker of a directory may take two requests: to
// this server it exists as soon as something is in it.
func putsFor(t testing.TB, z *zone, before int64, files, rest int) {
	t.Helper()
	got := int(z.status().Store.Requests["put"] - before)
	if got < files || got > files+2*rest {
		t.Errorf("%d objects were put for %d files and %d directories and links", got, files, rest)
	}
}

// probePuts is how many objects a zone puts into a new depot on which it has
// nothing to store: what it tries out, and the depot's identity.
func probePuts(t testing.TB) int64 {
	t.Helper()
	z := newZone(t, on(newDepot(t)))
	z.flush()
	eventually(t, time.Minute, func() error { return listed(z) })
	return z.status().Store.Requests["put"]
}

func listed(z *zone) error {
	if s := z.status(); s.Store.State != "on" || s.Store.Listing != "done" {
		return fmt.Errorf("store %s, listing %s", s.Store.State, s.Store.Listing)
	}
	return nil
}

const offSteps = 150 // operations between restarts

// Without a store the mount is the directory behind it. Given one later, exactly
// what there is goes up, once.
func TestOffIsThePlainDirectory(t *testing.T) {
	for i, way := range ways {
		seed := uint64(i + 11)
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			z := newZone(t, way.set, with("--settle", "50ms"))
			w := &twins{t: t, mount: z.mnt, bare: t.TempDir(), random: rand.New(rand.NewPCG(seed, 1))}
			for round := range 4 {
				w.run(offSteps)
				restartTwins(z, round%2 == 1)
			}
			w.sameTimes()
			for _, dir := range []string{z.mnt, z.share} {
				if diff := treeDifference(t, dir, w.bare); diff != "" {
					t.Fatalf("%s differs from a bare directory:%s", dir, diff)
				}
			}
			if c := z.run("enable", z.mnt); c.code != 1 || !strings.Contains(c.stderr, "--bucket") {
				t.Errorf("enable without a bucket: %v", c)
			}
			if s := z.status(); s.Store.State != "off" || s.Store.Reason != "no bucket is configured" {
				t.Errorf("status: %+v", s.Store)
			}
			z.umount()
			z.depot = newDepot(t)
			z.mount()
			z.flush()
			eventually(t, time.Minute, func() error { return listed(z) })
			z.flush()
			depotHolds(t, z.depot, w.bare)
			files, rest, _ := contents(t, w.bare)
			if got := len(uploaded(t, z.log())); got != files {
				t.Errorf("%d files were uploaded of %d", got, files)
			}
			putsFor(t, z, probePuts(t), files, rest)
			if diff := treeDifference(t, z.share, w.bare); diff != "" {
				t.Errorf("after the upload the share differs from the bare directory:%s", diff)
			}
		})
	}
}

// Switched off, the mount is the directory behind it, over restarts and kills, and
// the bucket stays as it is. Switched on, the difference goes up.
func TestDisableAndEnable(t *testing.T) {
	for i, way := range ways {
		seed := uint64(i + 21)
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set, with("--settle", "50ms"))
			w := &twins{t: t, mount: z.mnt, bare: t.TempDir(), random: rand.New(rand.NewPCG(seed, 1))}
			w.run(2 * offSteps)
			z.flush()
			_, _, before := contents(t, w.bare)
			z.must("disable", z.mnt)
			z.must("disable", z.mnt) // off already
			objects := d.keys(t)
			for round := range 4 {
				w.run(offSteps)
				restartTwins(z, round%2 == 1)
				if s := z.status(); s.Store.State != "off" || !strings.Contains(s.Store.Reason, "depotfs disable") {
					t.Fatalf("after a restart: %+v", s.Store)
				}
			}
			w.sameTimes()
			for _, dir := range []string{z.mnt, z.share} {
				if diff := treeDifference(t, dir, w.bare); diff != "" {
					t.Fatalf("%s differs from a bare directory:%s", dir, diff)
				}
			}
			var disk, seen unix.Statfs_t
			if err := errors.Join(unix.Statfs(z.share, &disk), unix.Statfs(z.mnt, &seen)); err != nil || seen.Blocks*uint64(seen.Bsize) != disk.Blocks*uint64(disk.Bsize) {
				t.Errorf("df shows %d blocks, the disk has %d (%v)", seen.Blocks, disk.Blocks, err)
			}
			if now := d.keys(t); !sameObjects(now, objects) {
				t.Errorf("the bucket was changed while the store was off")
			}
			log := len(z.log())
			z.must("enable", z.mnt)
			z.flush()
			depotHolds(t, d, w.bare)
			sent := uploaded(t, z.log()[log:])
			_, rest, after := contents(t, w.bare)
			fresh := 0
			for sum := range after {
				if !before[sum] {
					fresh++
				}
			}
			for path := range sent {
				if before[sumOf(t, filepath.Join(w.bare, path))] {
					t.Errorf("%s was uploaded; its bytes were in the depot before\n%s", path, grepLines(w.trace, path))
				}
			}
			if len(sent) != fresh {
				t.Errorf("%d files were uploaded, %d of %d are new", len(sent), fresh, len(after))
			}
			putsFor(t, z, probePuts(t)-1, fresh, rest) // this depot has its identity already
			restartTwins(z, true)
			if diff := treeDifference(t, z.mnt, w.bare); diff != "" {
				t.Errorf("in the end the mount differs:%s", diff)
			}
		})
	}
}

// What only the depot has: disable asks, reads fail at once, names can be worked
// with, and all of it happens in the depot when the store is on again.
func TestDisableWithRemoteFiles(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d), quiet, with("--settle", "50ms", "--cold-timeout", "30m"))
	body := bytesOf(3, 3<<20)
	for _, name := range []string{"kept", "moved", "removed", "dir/below", "here"} {
		put(t, z.path(name), body)
	}
	z.flush()
	z.evict("kept", "moved", "removed", "dir/below")
	if c := z.run("disable", z.mnt); c.code != 1 || !strings.Contains(c.stderr, "4 files are not here") || !strings.Contains(c.stderr, "--yes") {
		t.Fatalf("disable with files that are not here: %v", c)
	}
	if s := z.status(); s.Store.State != "on" {
		t.Fatalf("a disable that was not confirmed: %+v", s.Store)
	}
	fd, err := unix.Open(z.path("kept"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	z.must("disable", "--yes", z.mnt)
	objects := d.keys(t)
	buf := make([]byte, 100)
	// At once: the watchdog would come before the cold timeout.
	if _, err := pread(fd, buf, 1<<20); err != unix.EIO {
		t.Errorf("read of what is not here: %v", err)
	}
	if f := z.stat("kept"); f.State != "remote" || !strings.Contains(f.Why, "the store is off") {
		t.Errorf("stat: %+v", f)
	}
	if log := z.log(); !strings.Contains(log, "the store is off") {
		t.Error("the log does not say why a read failed")
	}
	holds(t, z.path("here"), body)
	if err := errors.Join(os.Remove(z.path("removed")), os.Rename(z.path("moved"), z.path("dir/moved")), os.Rename(z.path("dir"), z.path("dir2"))); err != nil {
		t.Fatal(err)
	}
	if now := d.keys(t); !sameObjects(now, objects) {
		t.Errorf("the bucket was changed while the store was off")
	}
	z.must("enable", z.mnt)
	if n, err := pread(fd, buf, 1<<20); n != len(buf) || err != nil || difference(buf, body[1<<20:1<<20+100]) != "" {
		t.Errorf("read through the descriptor that was open all the time: %d %v", n, err)
	}
	z.flush()
	if got, want := slices.Sorted(maps.Keys(d.keys(t))), []string{"dir2/", "dir2/below", "dir2/moved", "here", "kept"}; !slices.Equal(got, want) {
		t.Errorf("the bucket holds %q, want %q", got, want)
	}
	holds(t, z.path("dir2/moved"), body)
}

// Disable and a dead store: mount does not wait for it, enable says so and changes nothing.
func TestEnableWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d))
	put(t, z.path("f"), bytesOf(1, 1000))
	z.flush()
	z.must("disable", z.mnt)
	z.umount()
	there := d.endpoint
	d.endpoint = "http://" + deadAddress(t)
	z.mount()
	if c := z.run("enable", z.mnt); c.code != 1 || !strings.Contains(c.stderr, "nothing was changed") {
		t.Errorf("enable: %v", c)
	}
	holds(t, z.path("f"), bytesOf(1, 1000))
	z.umount()
	d.endpoint = there
	z.mount()
	if s := z.status(); s.Store.State != "off" {
		t.Errorf("status: %+v", s.Store)
	}
	z.must("enable", z.mnt)
	z.remount()
	if s := z.status(); s.Store.State == "off" {
		t.Errorf("off again after a restart: %+v", s.Store)
	}
	z.flush()
}
