package integration

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crashRounds is how often the daemon is killed in a run of the tests.
func crashRounds(t testing.TB) int {
	text := os.Getenv("DEPOTFS_CRASH_ROUNDS")
	if text == "" {
		return 6
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("DEPOTFS_CRASH_ROUNDS: %v", err)
	}
	return n
}

// writer changes the files of one directory and remembers what was acknowledged.
type writer struct {
	random  *rand.Rand
	dir     string
	maxSize int
	only    bool // only patches: its files are elsewhere

	files map[string][]byte // acknowledged
	doing *change           // begun and not acknowledged, when the daemon died
	count int
	fault error // something that no crash excuses
}

// change is one system call: what the files are before and after it. A nil body is
// no file.
type change struct {
	what          string
	before, after map[string][]byte
}

// do makes one change; false when the daemon is gone.
func (w *writer) do(what string, after map[string][]byte, call func() error) bool {
	c := &change{what: what, before: map[string][]byte{}, after: after}
	for name := range after {
		c.before[name] = w.files[name]
	}
	w.doing = c
	if err := call(); err != nil {
		if !crashed(err) {
			w.fault = fmt.Errorf("%s: %w", what, err)
		}
		return false
	}
	for name, body := range after {
		if body == nil {
			delete(w.files, name)
		} else {
			w.files[name] = body
		}
	}
	w.doing = nil
	w.count++
	return true
}

// crashed says whether an error is what the end of a daemon gives its users.
func crashed(err error) bool {
	for _, errno := range []error{unix.ENOTCONN, unix.ECONNABORTED, unix.EIO, unix.ENODEV} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// run makes changes until the daemon is gone.
func (w *writer) run() {
	for w.step() {
	}
}

func (w *writer) step() bool {
	names := slices.Sorted(maps.Keys(w.files))
	kind := w.random.IntN(10)
	if w.only {
		kind = 9
	}
	switch {
	case len(names) == 0 || kind < 4:
		return w.writeFile(fmt.Sprintf("f%d", w.random.IntN(12)))
	case kind < 6:
		from, to := names[w.random.IntN(len(names))], fmt.Sprintf("f%d", w.random.IntN(12))
		if from == to {
			return true
		}
		return w.do("rename "+from+" "+to, map[string][]byte{from: nil, to: w.files[from]}, func() error {
			return os.Rename(filepath.Join(w.dir, from), filepath.Join(w.dir, to))
		})
	case kind < 7:
		name := names[w.random.IntN(len(names))]
		return w.do("unlink "+name, map[string][]byte{name: nil}, func() error { return os.Remove(filepath.Join(w.dir, name)) })
	default:
		return w.patch(names[w.random.IntN(len(names))])
	}
}

// writeFile replaces a file by truncation, in pieces.
func (w *writer) writeFile(name string) bool {
	var fd int
	if !w.do("create "+name, map[string][]byte{name: {}}, func() (err error) {
		fd, err = unix.Open(filepath.Join(w.dir, name), unix.O_CREAT|unix.O_TRUNC|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
		return err
	}) {
		return false
	}
	defer unix.Close(fd)
	body := bytesOf(w.random.Uint64(), 1+w.random.IntN(w.maxSize))
	for done := 0; done < len(body); {
		n := min(1+w.random.IntN(1<<20), len(body)-done)
		if !w.do(fmt.Sprintf("write %s %d+%d", name, done, n), map[string][]byte{name: body[:done+n]}, func() error {
			return pwriteAll(fd, body[done:done+n], done)
		}) {
			return false
		}
		done += n
	}
	return w.sync(fd, name)
}

// patch overwrites a part, perhaps beyond the end.
func (w *writer) patch(name string) bool {
	var fd int
	if !w.do("open "+name, map[string][]byte{}, func() (err error) {
		fd, err = unix.Open(filepath.Join(w.dir, name), unix.O_RDWR|unix.O_CLOEXEC, 0)
		return err
	}) {
		return false
	}
	defer unix.Close(fd)
	old := w.files[name]
	off, n := w.random.IntN(len(old)+1), 1+w.random.IntN(100_000)
	body := bytes.Clone(old)
	if off+n > len(body) {
		body = append(body, make([]byte, off+n-len(body))...)
	}
	copy(body[off:], bytesOf(w.random.Uint64(), n))
	return w.do(fmt.Sprintf("patch %s %d+%d", name, off, n), map[string][]byte{name: body}, func() error {
		return pwriteAll(fd, body[off:off+n], off)
	}) && w.sync(fd, name)
}

func (w *writer) sync(fd int, name string) bool {
	return w.random.IntN(3) > 0 || w.do("fsync "+name, map[string][]byte{}, func() error { return unix.Fsync(fd) })
}

func pwriteAll(fd int, body []byte, off int) error {
	for len(body) > 0 {
		n, err := unix.Pwrite(fd, body, int64(off))
		if err != nil {
			return err
		}
		body, off = body[n:], off+n
	}
	return nil
}

// check compares the directory with what was acknowledged, and takes over what the
// last call, which nobody acknowledged, has left.
func (w *writer) check() error {
	if w.fault != nil {
		return w.fault
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	found := map[string][]byte{}
	for _, e := range entries {
		body, err := os.ReadFile(filepath.Join(w.dir, e.Name()))
		if err != nil {
			return err
		}
		found[e.Name()] = body
	}
	last := "nothing was under way"
	if w.doing != nil {
		last = "under way was: " + w.doing.what
	}
	for name := range w.files {
		if _, ok := found[name]; !ok && !w.excused(name, nil) {
			return fmt.Errorf("%s, acknowledged with %d bytes, is lost (%s)", name, len(w.files[name]), last)
		}
	}
	for name, body := range found {
		want, acknowledged := w.files[name]
		switch {
		case acknowledged && bytes.Equal(body, want), w.excused(name, body):
		case acknowledged:
			return fmt.Errorf("%s: %s (%s)", name, difference(body, want), last)
		default:
			return fmt.Errorf("%s is there and should not be (%s)", name, last)
		}
	}
	if w.doing != nil && strings.HasPrefix(w.doing.what, "rename") {
		gone, here := 0, 0
		for name, body := range w.doing.after {
			if _, ok := found[name]; !ok {
				gone++
			} else if body != nil && bytes.Equal(found[name], body) {
				here++
			}
		}
		if gone == 2 {
			return fmt.Errorf("a rename that was under way lost the file: %s", w.doing.what)
		}
	}
	w.files, w.doing = found, nil
	return nil
}

// excused says whether the call that was under way explains a file: each byte is
// that before it or that after it.
func (w *writer) excused(name string, body []byte) bool {
	if w.doing == nil {
		return false
	}
	after, touched := w.doing.after[name]
	if !touched {
		return false
	}
	before := w.doing.before[name]
	if body == nil {
		return before == nil || after == nil
	}
	if len(body) < min(len(before), len(after)) || len(body) > max(len(before), len(after)) {
		return false
	}
	for i, b := range body {
		if (i >= len(before) || before[i] != b) && (i >= len(after) || after[i] != b) {
			return false
		}
	}
	return true
}

// kill -9 at any instant: what was acknowledged is there, what is dirty arrives.
func TestKilledDaemonLosesNothing(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(20120509)
			random := rand.New(rand.NewPCG(seed, uint64(len(way.name))))
			d := newDepot(t)
			z := newZone(t, on(d), way.set, with("--settle", "100ms", "--part-size", "5MiB"))
			z.quiet = true
			writers := []*writer{{dir: "many", maxSize: 60_000}, {dir: "template/tmpl/1/9", maxSize: 12 << 20}, {dir: "volumes/1", only: true}}
			for i, w := range writers {
				w.random = rand.New(rand.NewPCG(seed, uint64(i)))
				w.dir, w.files = z.path(w.dir), map[string][]byte{}
				if err := os.MkdirAll(w.dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			elsewhere := writers[2]
			for i := range 4 {
				elsewhere.files[fmt.Sprint("image", i)] = bytesOf(uint64(i), 6<<20)
				put(t, filepath.Join(elsewhere.dir, fmt.Sprint("image", i)), bytesOf(uint64(i), 6<<20))
			}
			for round := range crashRounds(t) {
				z.watchdog.Reset(hangTime)
				z.flush()
				z.evict("volumes")
				var running sync.WaitGroup
				for _, w := range writers {
					running.Go(w.run)
				}
				wait := time.Duration(random.IntN(1200)) * time.Millisecond
				<-time.After(wait) // the instant of the crash
				z.kill()
				running.Wait()
				z.mount()
				for _, w := range writers {
					if err := w.check(); err != nil {
						t.Fatalf("round %d, killed after %v, seed %d: %v", round, wait, seed, err)
					}
				}
				if left := ofDepotfs(t, z, "open", "evict"); len(left) > 0 {
					t.Errorf("round %d: left after the restart: %v", round, left)
				}
				z.flush()
				if sameInBucket(t, d, z); t.Failed() {
					t.FailNow()
				}
				if left, partial := ofDepotfs(t, z, "partial"), z.status().Cache; int64(len(left)) > 2*(partial.Partial+partial.Remote) {
					t.Errorf("round %d: .depotfs/partial holds %v, with %d partial files", round, left, partial.Partial)
				}
			}
			// A part that was on its way when the daemon died may arrive after the upload
			// was aborted, and S3 then keeps the upload (its documentation says so): the
			// sweep takes it days later. Those are few; an upload per file would be a leak.
			if left := d.Uploads(t); len(left) > crashRounds(t) {
				t.Errorf("unfinished multipart uploads stay: %q", left)
			} else if len(left) > 0 {
				t.Logf("unfinished multipart uploads wait for the sweep: %q", left)
			}
			total := 0
			for _, w := range writers {
				total += w.count
			}
			t.Logf("%d changes were acknowledged in %d rounds", total, crashRounds(t))
		})
	}
}

// ofDepotfs lists files below .depotfs in the cache directory.
func ofDepotfs(t testing.TB, z *zone, dirs ...string) []string {
	t.Helper()
	var found []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(z.share, ".depotfs", dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			found = append(found, dir+"/"+e.Name())
		}
	}
	return found
}

// sameInBucket holds that the bucket has exactly the files of the mount.
func sameInBucket(t testing.TB, d *depot, z *zone) {
	t.Helper()
	objects := d.keys(t)
	err := filepath.WalkDir(z.mnt, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(z.mnt, path)
		if err != nil {
			return err
		}
		if e.Type()&os.ModeSymlink != 0 {
			target, _ := os.Readlink(path)
			if got, found := d.Get(t, d.prefix+name); !found || string(got) != target {
				t.Errorf("object %s is %q (found: %v), the link leads to %q", name, got, found, target)
			}
			delete(objects, name)
		}
		if !e.Type().IsRegular() {
			return nil
		}
		o, found := objects[name]
		delete(objects, name)
		info, err := e.Info()
		switch {
		case err != nil:
			return err
		case !found:
			t.Errorf("%s has no object", name)
		case o.Size != info.Size() || d.SHA256(t, d.prefix+name) != sumOf(t, path):
			got, _ := d.Get(t, d.prefix+name)
			want, _ := os.ReadFile(path)
			t.Errorf("object %s is not as its file: %s\n%+v\n%s", name, difference(got, want), z.stat(name), grep(z.log(), name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range objects {
		if !strings.HasSuffix(name, "/") {
			t.Errorf("object %s has no file\n%s", name, grep(z.log(), name))
		}
	}
}
