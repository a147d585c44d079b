package cache_test

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"depotfs/cache"
)

func (e *env) outside(path string, data []byte) {
	e.t.Helper()
	p := filepath.Join(e.share, path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o644); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) scan() {
	e.t.Helper()
	if err := e.c.Scan(context.Background(), true); err != nil {
		e.t.Fatal(err)
	}
}

// What others do in the share reaches the depot, whatever state the file was in.
func TestScanFindsWhatOthersDid(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("d")
	one, two := pattern(1, 70_000), pattern(2, 80_000)
	for _, name := range []string{"clean", "dirty", "replaced", "remote", "untouched"} {
		e.write("d/"+name, one)
	}
	e.flush()
	e.write("d/dirty", pattern(3, 100))
	e.evict("d/remote")

	e.outside("d/clean", two)
	e.outside("d/dirty", two)
	e.outside("d/new", two)
	e.outside("d/sub/deep/new", two)
	e.outside("tmp", two)
	if err := os.Rename(filepath.Join(e.share, "tmp"), filepath.Join(e.share, "d/replaced")); err != nil {
		t.Fatal(err)
	}
	puts := e.store.Calls("put")
	e.scan()
	e.scan() // directories found by the first look
	e.flush()
	for _, name := range []string{"clean", "dirty", "replaced", "new", "sub/deep/new"} {
		e.wantObject("p/d/"+name, two)
		e.mustRead("d/"+name, two)
	}
	e.wantObject("p/d/remote", one)
	e.wantObject("p/d/untouched", one)
	// Files and directory markers, and d/dirty, which may be on its way when others change it.
	if n := e.store.Calls("put") - puts; n > 5+2+1 {
		t.Errorf("%d objects were sent for 5 changed files and 2 directories", n)
	}
}

func TestVanishedFileIsRestored(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("d/sub")
	data := pattern(1, 70_000)
	e.write("d/sub/f", data)
	e.flush()
	if err := os.RemoveAll(filepath.Join(e.share, "d")); err != nil {
		t.Fatal(err)
	}
	e.scan()
	if got := e.state1("d/sub/f"); got != "remote" {
		t.Errorf("state %s", got)
	}
	e.mustRead("d/sub/f", data)
	e.flush()
	e.wantObject("p/d/sub/f", data)
	if left, err := e.c.Warm(context.Background(), nil, nil); err != nil || len(left) > 0 {
		t.Fatalf("%v %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(e.share, "d/sub/f")); err != nil {
		t.Error(err)
	}
}

// An empty directory where the share was is not a share whose files were deleted.
func TestShareThatIsNotMounted(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 1000)
	e.write("f", data)
	e.flush()
	marker := filepath.Join(e.share, ".depotfs/depot.json")
	if err := os.Rename(marker, marker+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(e.share, "f"), filepath.Join(e.share, ".depotfs/f")); err != nil {
		t.Fatal(err)
	}
	if err := e.c.Scan(context.Background(), true); !errors.Is(err, cache.ErrMarker) {
		t.Errorf("scan: %v", err)
	}
	if _, err := e.read("f"); !errors.Is(err, cache.ErrMarker) {
		t.Errorf("read: %v", err)
	}
	root, _ := e.lookup("")
	if _, err := e.c.Mkdir(context.Background(), me, root.Ino, "x", 0o755); !errors.Is(err, cache.ErrMarker) {
		t.Errorf("mkdir: %v", err)
	}
	e.close()
	if _, err := newCache(cache.Config{CacheDir: e.share, StateDir: e.state}); !errors.Is(err, cache.ErrMarker) {
		t.Errorf("open: %v", err)
	}
	for _, mv := range [][2]string{{marker + ".away", marker}, {filepath.Join(e.share, ".depotfs/f"), filepath.Join(e.share, "f")}} {
		if err := os.Rename(mv[0], mv[1]); err != nil {
			t.Fatal(err)
		}
	}
	e.open()
	e.mustRead("f", data)
	e.wantObject("p/f", data)
}

func TestRemovedFromTheShareWhileBeside(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.deploy = cache.Beside
	e.open()
	e.mkdirAll("snapshots/2")
	e.mkdirAll("template/tmpl")
	e.write("snapshots/2/s", pattern(1, 100))
	e.write("template/tmpl/t", pattern(2, 100))
	e.flush()
	for _, p := range []string{"snapshots/2/s", "template/tmpl/t"} {
		if err := os.Remove(filepath.Join(e.share, p)); err != nil {
			t.Fatal(err)
		}
	}
	e.scan()
	e.scan()
	if _, err := e.lookup("snapshots/2/s"); err != nil {
		t.Errorf("deleted after one instant of absence: %v", err)
	}
	e.ahead.Add(int64(11 * time.Minute))
	e.scan()
	if _, err := e.lookup("snapshots/2/s"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("after ten minutes: %v", err)
	}
	e.flush()
	if _, ok := e.object("p/snapshots/2/s"); ok {
		t.Error("the object of a removed snapshot still exists")
	}
	e.mustRead("template/tmpl/t", pattern(2, 100))
}
