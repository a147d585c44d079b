package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"depotfs/s3store/s3test"
)

// The store goes away and comes back.
func TestOutage(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d), with("--cold-timeout", "2s", "--part-size", "5MiB"))
	z.quiet = true
	here, away := bytesOf(1, 3<<20), bytesOf(2, 7<<20)
	put(t, z.path("volumes/1/here"), here)
	put(t, z.path("volumes/1/away"), away)
	put(t, z.path("volumes/1/renamed"), here)
	z.flush()
	z.evict("volumes/1/away")
	d.server.Stop()

	holds(t, z.path("volumes/1/here"), here)
	patched := append([]byte(nil), here...)
	copy(patched[100:], "while the store is away")
	f, err := os.OpenFile(z.path("volumes/1/here"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("while the store is away"), 100); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	holds(t, z.path("volumes/1/here"), patched)
	fresh := bytesOf(3, 12<<20)
	put(t, z.path("volumes/1/new"), fresh)
	if err := os.Rename(z.path("volumes/1/renamed"), z.path("volumes/1/other")); err != nil {
		t.Fatal(err)
	}

	eventually(t, patience, func() error { // each has to be tried once
		c := z.run("flush", "--timeout", "3s", z.mnt)
		if c.code != 1 {
			t.Fatalf("flush without a store: %v", c)
		}
		for _, name := range []string{"volumes/1/here", "volumes/1/new"} {
			line := grep(c.stderr, name+":")
			if line == "" || !strings.Contains(line, "refused") && !strings.Contains(line, "unavailable") && !strings.Contains(line, "answer") {
				return fmt.Errorf("flush does not say why %s waits:\n%s", name, c.stderr)
			}
		}
		return nil
	})
	if s := z.status(); s.Store.State != "unavailable" || s.Store.Error == "" || s.Pending.Files < 2 {
		t.Errorf("status without a store: %+v", s)
	}

	if _, err = os.ReadFile(z.path("volumes/1/away")); !errors.Is(err, unix.EIO) {
		t.Errorf("a cold read without a store: %v, want EIO", err)
	}

	d.server.Restart(t)
	eventually(t, 60*time.Second, func() error {
		if p := z.status().Pending; p.Files+p.Moves+p.Removals > 0 {
			return fmt.Errorf("there waits %+v", p)
		}
		return nil
	})
	for name, body := range map[string][]byte{"here": patched, "away": away, "new": fresh, "other": here} {
		got, _ := d.Get(t, "volumes/1/"+name)
		if diff := difference(got, body); diff != "" {
			t.Errorf("object %s: %s", name, diff)
		}
		holds(t, z.path("volumes/1/"+name), body)
	}
	if _, found := d.Get(t, "volumes/1/renamed"); found {
		t.Error("the old name of the renamed file is still in the bucket")
	}
}

// A signal ends a wait for the store at once.
func TestSignalEndsColdRead(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	p := d.behindProxy(t)
	z := newZone(t, on(d), with("--cold-timeout", "30m"))
	z.quiet = true
	put(t, z.path("volumes/1/away"), bytesOf(2, 4<<20))
	z.flush()
	z.evict()
	p.Set(s3test.Line{Stall: true})
	defer p.Set(s3test.Line{})
	read := exec.Command("dd", "if="+z.path("volumes/1/away"), "of=/dev/null", "bs=4k", "count=1")
	if err := read.Start(); err != nil {
		t.Fatal(err)
	}
	// It waits inside read when the kernel says so.
	eventually(t, 20*time.Second, func() error {
		where, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", read.Process.Pid))
		if err != nil {
			return err
		}
		if !strings.HasPrefix(string(where), fmt.Sprintf("%d ", unix.SYS_READ)) {
			return fmt.Errorf("dd is in system call %s", where)
		}
		return nil
	})
	if err := read.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = read.Wait() // or the watchdog says that it hangs, long before the cold timeout
	p.Set(s3test.Line{})
	holds(t, z.path("volumes/1/away"), bytesOf(2, 4<<20))
}

// A store that is away at the mount does not keep what is cached away.
func TestMountWithoutStore(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d), with("--cold-timeout", "1s"))
	z.quiet = true
	body := bytesOf(1, 2<<20)
	put(t, z.path("template/tmpl/1/1/here"), body)
	put(t, z.path("volumes/1/away"), body)
	z.flush()
	z.evict("volumes/1/away")
	z.umount()
	d.server.Stop()
	c := z.run(z.mountArgs()...)
	if c.code != 0 || !strings.Contains(c.stderr, "mounted with what is cached") {
		t.Fatalf("%v", c)
	}
	holds(t, z.path("template/tmpl/1/1/here"), body)
	entries, err := os.ReadDir(z.path("volumes/1"))
	if err != nil || len(entries) != 1 {
		t.Errorf("the remote file is not listed: %v %v", entries, err)
	}
	if _, err := os.ReadFile(z.path("volumes/1/away")); !errors.Is(err, unix.EIO) {
		t.Errorf("a cold read: %v, want EIO", err)
	}
	put(t, z.path("template/tmpl/1/1/more"), []byte("more"))
	d.server.Restart(t)
	eventually(t, 60*time.Second, func() error {
		got, err := os.ReadFile(z.path("volumes/1/away"))
		if err == nil && difference(got, body) != "" {
			t.Fatal(difference(got, body))
		}
		return err
	})
	z.flush()
	if got, _ := d.Get(t, "template/tmpl/1/1/more"); string(got) != "more" {
		t.Errorf("the object is %q", got)
	}
}

// A bad line: every connection is cut again and again, the bytes are right.
func TestBadLine(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	p := d.behindProxy(t)
	z := newZone(t, on(d), with("--part-size", "5MiB"))
	z.quiet = true
	body := bytesOf(1, 23<<20)
	p.Set(s3test.Line{CutUp: 7 << 20, CutDown: 7 << 20})
	put(t, z.path("volumes/1/a"), body)
	z.flush()
	if got, _ := d.Get(t, "volumes/1/a"); difference(got, body) != "" {
		t.Errorf("the object: %s", difference(got, body))
	}
	z.evict()
	stop := make(chan struct{})
	go func() {
		tick := time.NewTicker(60 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				p.CutAll()
			}
		}
	}()
	defer close(stop)
	holds(t, z.path("volumes/1/a"), body)
}

// What others do to an object whose bytes are not here never shows as zeros or as
// a mixture.
func TestObjectsChangedByOthers(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d))
	z.quiet = true
	body := bytesOf(1, 8<<20)
	names := []string{"volumes/1/gone", "volumes/1/replaced", "volumes/1/same", "volumes/1/open"}
	for _, name := range names {
		put(t, z.path(name), body)
	}
	z.flush()
	z.evict()
	open, err := os.Open(z.path("volumes/1/open"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	buf := make([]byte, 4096)
	if _, err := open.ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	d.Delete(t, "volumes/1/gone")
	d.Put(t, "volumes/1/replaced", bytesOf(2, 8<<20), nil)
	d.Put(t, "volumes/1/same", body, nil)
	d.Put(t, "volumes/1/open", bytesOf(3, 8<<20), nil)
	for _, name := range names[:2] {
		if got, err := os.ReadFile(z.path(name)); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: read %d bytes, %v, want EIO", name, len(got), err)
		}
		eventually(t, time.Minute, func() error { // the reader is told first
			line := grep(z.log(), name)
			if strings.Contains(line, "vanished") || strings.Contains(line, "replaced") || strings.Contains(line, "changed") {
				return nil
			}
			return fmt.Errorf("the log does not say what happened to %s:\n%s", name, line)
		})
	}
	holds(t, z.path("volumes/1/same"), body)
	part := make([]byte, 4096)
	for off := int64(0); off < int64(len(body)); off += 1 << 20 {
		_, err := open.ReadAt(part, off)
		if err == nil && difference(part, body[off:off+4096]) != "" {
			t.Fatalf("an open file shows other bytes at %d: %s", off, difference(part, body[off:off+4096]))
		}
	}
	if _, err := open.ReadAt(part, 6<<20); err == nil && difference(part, body[6<<20:6<<20+4096]) != "" {
		t.Error("an open file mixes two versions")
	}
}

// Losing the state directory loses no content, and sends nothing twice.
func TestStateLoss(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set, with("--part-size", "5MiB"))
			files := cloudFiles()
			for _, f := range files {
				put(t, z.path(f.path), f.body)
			}
			if err := os.Symlink("201", z.path("template/tmpl/1/link")); err != nil {
				t.Fatal(err)
			}
			z.flush()
			z.evict(files[0].path, files[3].path)
			put(t, z.path("volumes/7/dirty"), []byte("not uploaded"))
			before := treeOf(t, z.mnt)
			z.evict(files[0].path, files[3].path) // treeOf has read them
			z.umount()
			if err := os.RemoveAll(z.state); err != nil {
				t.Fatal(err)
			}
			z.mount()
			eventually(t, 30*time.Second, func() error {
				if s := z.status().Store; s.Listing != "done" {
					return fmt.Errorf("listing %s %s", s.Listing, s.Error)
				}
				return nil
			})
			if diff := mapDifference(treeOf(t, z.mnt), before); diff != "" {
				t.Errorf("after the loss the tree is another: %s", diff)
			}
			z.flush()
			if sent := z.status().Store.Sent; sent > ownTraffic {
				t.Errorf("%d bytes were sent again", sent)
			}
			if got, _ := d.Get(t, "volumes/7/dirty"); string(got) != "not uploaded" {
				t.Errorf("what was dirty is %q in the bucket", got)
			}
			sameInBucket(t, d, z)
			if _, err := os.Stat(filepath.Join(z.share, files[1].path)); err != nil {
				t.Error(err)
			}
		})
	}
}

// An open file outlives its name, also when its bytes are elsewhere.
func TestUnlinkedWhileElsewhere(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set)
			body := bytesOf(1, 9<<20)
			names := []string{"iso/removed", "iso/replaced", "iso/overwritten"}
			for _, name := range names {
				put(t, z.path(name), body)
			}
			z.flush()
			z.evict()
			var open []*os.File
			for _, name := range names {
				f, err := os.Open(z.path(name))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				open = append(open, f)
			}
			put(t, z.path("iso/new"), []byte("new"))
			if err := os.Remove(z.path(names[0])); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(z.path("iso/new"), z.path(names[1])); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(z.path(names[2])); err != nil {
				t.Fatal(err)
			}
			put(t, z.path(names[2]), []byte("again"))
			z.run("flush", "--timeout", "3s", z.mnt) // what is open may have to wait
			for i, f := range open {
				got := make([]byte, len(body))
				if _, err := f.ReadAt(got, 0); err != nil {
					t.Errorf("%s: read after its name went: %v", names[i], err)
				} else if diff := difference(got, body); diff != "" {
					t.Errorf("%s: %s", names[i], diff)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			z.flush()
			if _, found := d.Get(t, names[0]); found {
				t.Error("the object of the removed file is still there")
			}
			for name, want := range map[string]string{names[1]: "new", names[2]: "again"} {
				if got, _ := d.Get(t, name); string(got) != want {
					t.Errorf("object %s is %d bytes, want %q", name, len(got), want)
				}
			}
			for key := range d.keys(t) {
				if !strings.HasSuffix(key, "/") && !strings.HasPrefix(key, "iso/") {
					t.Errorf("object %s is left", key)
				}
			}
		})
	}
}
