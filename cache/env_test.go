package cache_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/catalog"
	"depotfs/cache/storetest"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what has to happen: a busy machine is slow,
// and only what never comes may fail.
const patience = 3 * time.Minute

// env is one zone: a share, a state directory and a store in memory.
type env struct {
	t      testing.TB
	share  string
	state  string
	store  *storetest.Faulty
	mem    *storetest.Mem
	c      *cache.Cache
	stop   context.CancelFunc
	done   chan error
	limits cache.Limits
	settle time.Duration
	region string
	deploy cache.Deploy
	ahead  atomic.Int64 // ns by which the zone's clock is ahead
	fault  func(op, tag, rel string) error
	notify cache.Notifier
	config func(*cache.Config) // sets what the fields above do not
	zone   string              // "": z1
	poll   time.Duration       // between looks at other zones; 0: the default
}

// A test has nothing in common with others but the machine, and waits for the disk most of
// the time: it is parallel. Alone is who counts allocations, and who lets simulated hours
// pass, which take ten times as long where others compute.
func newEnv(t testing.TB) *env {
	t.Helper()
	mem := storetest.NewMem()
	e := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: mem, store: storetest.NewFaulty(mem)}
	e.open()
	t.Cleanup(e.close)
	return e
}

func (e *env) open() {
	e.t.Helper()
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	cfg := cache.Config{CacheDir: e.share, StateDir: e.state, Zone: cmp.Or(e.zone, "z1"), PollInterval: e.poll, DepotRegion: e.region, Prefix: "p/", Deploy: e.deploy, Limits: e.limits, Settle: &e.settle, ShareFault: e.fault, Notify: e.notify,
		Now: func() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) },
		Log: slog.New(slog.NewTextHandler(testWriter{e.t}, &slog.HandlerOptions{Level: level})).With("in", cmp.Or(e.zone, "z1"))}
	if e.config != nil {
		e.config(&cfg)
	}
	c, err := newCache(cfg)
	for end := time.Now().Add(patience); err != nil && strings.Contains(err.Error(), "in use by another depotfs") && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond) // a program that another test starts holds the lock for a moment
		c, err = newCache(cfg)
	}
	if err != nil {
		e.t.Fatalf("open cache: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	e.c, e.stop, e.done = c, stop, make(chan error, 1)
	if _, off, err := c.Disabled(); err != nil {
		e.t.Fatal(err)
	} else if e.store != nil && !off {
		c.SetStore(e.store, cache.StoreInfo{Bucket: "b"})
	}
	go func() { e.done <- c.Run(ctx) }()
}

// newCache opens a cache whose directories another one may have had until now. A program
// that another test is starting has our files until it runs, the lock of the one before
// among them.
func newCache(cfg cache.Config) (*cache.Cache, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return cache.New(cfg)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

func (e *env) close() {
	if e.c == nil {
		return
	}
	e.stop()
	if err := <-e.done; err != nil {
		e.t.Errorf("run: %v", err)
	}
	if err := e.c.Close(); err != nil {
		e.t.Errorf("close: %v", err)
	}
	e.c = nil
}

func (e *env) restart() {
	e.t.Helper()
	e.close()
	e.open()
}

var me = cache.Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}

// lookup walks a path.
func (e *env) lookup(path string) (cache.Attr, error) {
	ctx := context.Background()
	a, err := e.c.Attr(ctx, catalog.Root)
	for _, name := range split(path) {
		if err != nil {
			return a, err
		}
		a, err = e.c.Lookup(ctx, a.Ino, name)
	}
	return a, err
}

func split(path string) []string {
	var out []string
	for path != "" && path != "." {
		dir, name := filepath.Split(path)
		out = append([]string{name}, out...)
		path = filepath.Clean(dir)
		if dir == "" {
			break
		}
	}
	return out
}

func (e *env) parent(path string) (cache.Ino, string) {
	e.t.Helper()
	dir, name := filepath.Split(path)
	a, err := e.lookup(filepath.Clean("./" + dir))
	if err != nil {
		e.t.Fatalf("lookup %q: %v", dir, err)
	}
	return a.Ino, name
}

func (e *env) mkdirAll(path string) {
	e.t.Helper()
	var sofar string
	for _, name := range split(path) {
		p, err := e.lookup(sofar)
		if err != nil {
			e.t.Fatal(err)
		}
		sofar = filepath.Join(sofar, name)
		if _, err := e.lookup(sofar); err == nil {
			continue
		}
		if _, err := e.c.Mkdir(context.Background(), me, p.Ino, name, 0o755); err != nil {
			e.t.Fatalf("mkdir %q: %v", sofar, err)
		}
	}
}

// write makes or overwrites a file whole.
func (e *env) write(path string, data []byte) cache.Ino {
	e.t.Helper()
	ctx := context.Background()
	parent, name := e.parent(path)
	a, h, err := e.c.Create(ctx, me, parent, name, 0o644, syscall.O_RDWR)
	if err != nil {
		a, err = e.lookup(path)
		if err != nil {
			e.t.Fatalf("create %q: %v", path, err)
		}
		if h, err = e.c.Open(ctx, a.Ino, syscall.O_RDWR|syscall.O_TRUNC); err != nil {
			e.t.Fatalf("open %q: %v", path, err)
		}
	}
	defer h.Release()
	if _, err := h.WriteAt(ctx, data, 0); err != nil {
		e.t.Fatalf("write %q: %v", path, err)
	}
	return a.Ino
}

func (e *env) read(path string) ([]byte, error) {
	ctx := context.Background()
	a, err := e.lookup(path)
	if err != nil {
		return nil, err
	}
	h, err := e.c.Open(ctx, a.Ino, syscall.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	var out []byte
	buf := make([]byte, 100_000)
	for {
		n, err := h.ReadAt(ctx, buf, int64(len(out)))
		out = append(out, buf[:n]...)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

func (e *env) mustRead(path string, want []byte) {
	e.t.Helper()
	got, err := e.read(path)
	if err != nil {
		e.t.Fatalf("read %q: %v", path, err)
	}
	if !bytes.Equal(got, want) {
		e.t.Fatalf("%q: got %d bytes, want %d, or other bytes", path, len(got), len(want))
	}
}

func (e *env) flush(paths ...string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	left, err := e.c.Flush(ctx, paths, nil)
	if err != nil {
		e.t.Fatalf("flush: %v", err)
	}
	if len(left) > 0 {
		e.t.Fatalf("flush left %+v", left)
	}
}

func (e *env) evict(paths ...string) {
	e.t.Helper()
	left, err := e.c.Evict(context.Background(), paths, nil)
	if err != nil || len(left) > 0 {
		e.t.Fatalf("evict: %v %v", left, err)
	}
}

// object returns the bytes under a key of the store.
func (e *env) object(key string) ([]byte, bool) {
	e.t.Helper()
	body, _, err := e.mem.Get(context.Background(), key, 0, -1, "")
	if err != nil {
		return nil, false
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		e.t.Fatal(err)
	}
	return b, true
}

func (e *env) wantObject(key string, want []byte) {
	e.t.Helper()
	got, ok := e.object(key)
	if !ok || !bytes.Equal(got, want) {
		e.t.Fatalf("object %q: exists %v, %d bytes, want %d", key, ok, len(got), len(want))
	}
}

func (e *env) state1(path string) string {
	e.t.Helper()
	f, err := e.c.StatPath(context.Background(), path)
	if err != nil {
		e.t.Fatalf("stat %q: %v", path, err)
	}
	return f.State
}

func pattern(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func setSize(n int64) cache.SetAttr { return cache.SetAttr{Valid: cache.SetSize, Size: n} }

// waitFor waits until something is so.
func (e *env) waitFor(what string, so func() bool) {
	e.t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) { // it asks, it does not hope
		if time.Now().After(end) {
			e.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// copyState is what a kill -9 at this moment would leave of the state directory. A kill
// has one moment for all files: a copy during which the catalog was written to is none.
func (e *env) copyState() string {
	e.t.Helper()
	for try := 0; ; try++ {
		before, image := e.stateTree(), e.t.TempDir()
		out, err := exec.Command("cp", "-a", e.state+"/.", image).CombinedOutput()
		if err == nil && bytes.Equal(before, e.stateTree()) {
			return image
		}
		if try == 50 {
			e.t.Fatalf("copy the catalog, which is written to all the time: %v %s", err, out)
		}
	}
}

// sumOfData is a sum of what a file holds, and where. Logs of the catalog are 32 MiB of
// holes but for their first pages: they are not read.
func sumOfData(path string) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for at := int64(0); ; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			info, err := f.Stat()
			if err == nil {
				fmt.Fprint(sum, info.Size())
			}
			return sum.Sum32(), err
		} else if err != nil {
			return 0, err
		}
		if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
			return 0, err
		}
		fmt.Fprint(sum, from)
		if _, err := io.Copy(sum, io.NewSectionReader(f, from, at-from)); err != nil {
			return 0, err
		}
	}
}

// stateTree has a sum of each file of the state directory, and is empty while one comes or goes.
func (e *env) stateTree() []byte {
	var tree []byte
	err := filepath.WalkDir(e.state, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		sum, err := sumOfData(path)
		tree = fmt.Appendf(tree, "%s %x\n", path, sum)
		return err
	})
	if err != nil {
		return fmt.Appendf(nil, "%v %v", err, time.Now())
	}
	return tree
}
