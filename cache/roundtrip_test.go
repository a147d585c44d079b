package cache_test

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"depotfs/cache/storetest"
)

func TestWriteFlushEvictRead(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 4096, 1 << 20, 37<<20 + 123} {
		e := newEnv(t)
		data := pattern(uint64(size), size)
		e.mkdirAll("template/tmpl/2/201")
		const path = "template/tmpl/2/201/a.qcow2"
		e.write(path, data)
		if got := e.state1(path); got != "dirty" && got != "uploading" && got != "clean" {
			t.Fatalf("state %s", got)
		}
		e.flush()
		e.wantObject("p/"+path, data)
		if got := e.state1(path); got != "clean" {
			t.Fatalf("state after flush: %s", got)
		}
		if b, err := os.ReadFile(filepath.Join(e.share, path)); err != nil || len(b) != size {
			t.Fatalf("plain path: %v", err)
		}
		e.evict(path)
		if got := e.state1(path); got != "remote" {
			t.Fatalf("state after evict: %s", got)
		}
		if _, err := os.Stat(filepath.Join(e.share, path)); !errors.Is(err, iofs.ErrNotExist) {
			t.Fatalf("plain path after evict: %v", err)
		}
		a, err := e.lookup(path)
		if err != nil || a.Size != int64(size) {
			t.Fatalf("lookup: %+v %v", a, err)
		}
		e.mustRead(path, data)
		left, err := e.c.Warm(context.Background(), []string{path}, nil)
		if err != nil || len(left) > 0 {
			t.Fatalf("warm: %v %v", left, err)
		}
		if got := e.state1(path); got != "clean" {
			t.Fatalf("state after warm: %s", got)
		}
		e.evict(path)
		e.restart()
		e.mustRead(path, data)
	}
}

func TestRenameAndDeleteReachTheStore(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("a/b")
	data := pattern(1, 300_000)
	e.write("a/b/f", data)
	e.write("a/b/g", data[:1000])
	e.flush()
	e.evict("a/b/f")
	root, _ := e.lookup("")
	if err := e.c.Rename(context.Background(), root.Ino, "a", root.Ino, "z", 0); err != nil {
		t.Fatal(err)
	}
	e.mustRead("z/b/g", data[:1000])
	e.flush()
	e.wantObject("p/z/b/f", data)
	e.wantObject("p/z/b/g", data[:1000])
	for _, k := range []string{"p/a/", "p/a/b/", "p/a/b/f", "p/a/b/g"} {
		if _, ok := e.object(k); ok {
			t.Errorf("%s still exists", k)
		}
	}
	e.mustRead("z/b/f", data)
	b, _ := e.lookup("z/b")
	if err := e.c.Unlink(context.Background(), b.Ino, "g"); err != nil {
		t.Fatal(err)
	}
	e.flush()
	if _, ok := e.object("p/z/b/g"); ok {
		t.Error("deleted file still has its object")
	}
	// Two files swap places.
	e.write("z/b/g", data[:5])
	e.flush()
	if err := e.c.Rename(context.Background(), b.Ino, "f", b.Ino, "g", 2); err != nil {
		t.Fatal(err)
	}
	e.flush()
	e.wantObject("p/z/b/f", data[:5])
	e.wantObject("p/z/b/g", data)
}

func TestWriteIntoRemoteFile(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(7, 3<<20)
	e.write("f", data)
	e.flush()
	e.evict("f")
	a, _ := e.lookup("f")
	h, err := e.c.Open(context.Background(), a.Ino, syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(context.Background(), []byte("hello"), 1_000_000); err != nil {
		t.Fatal(err)
	}
	copy(data[1_000_000:], "hello")
	if _, err := h.WriteAt(context.Background(), []byte("end"), int64(len(data))+10); err != nil {
		t.Fatal(err)
	}
	data = append(append(data, make([]byte, 10)...), "end"...)
	h.Release()
	e.restart()
	e.mustRead("f", data)
	e.flush()
	e.wantObject("p/f", data)
	e.evict("f")
	a, _ = e.lookup("f")
	if _, err := e.c.SetAttr(context.Background(), a.Ino, nil, setSize(2_000_000)); err != nil {
		t.Fatal(err)
	}
	e.mustRead("f", data[:2_000_000])
	e.flush()
	e.wantObject("p/f", data[:2_000_000])
	e.evict("f")
	if _, err := e.c.SetAttr(context.Background(), a.Ino, nil, setSize(0)); err != nil {
		t.Fatal(err)
	}
	e.flush()
	e.wantObject("p/f", nil)
}

func TestExchangeOfRemoteFiles(t *testing.T) {
	t.Parallel()
	for _, evict := range [][]string{{"d/f", "e/g"}, {"d/f"}, {"e/g"}, nil} {
		e := newEnv(t)
		e.mkdirAll("d")
		e.mkdirAll("e")
		one, two := pattern(1, 1000), pattern(2, 2000)
		e.write("d/f", one)
		e.write("e/g", two)
		e.flush()
		for _, p := range evict {
			e.evict(p)
		}
		dp, _ := e.parent("d/f")
		ep, _ := e.parent("e/g")
		for range 3 {
			if err := e.c.Rename(context.Background(), dp, "f", ep, "g", 2); err != nil {
				t.Fatal(err)
			}
			one, two = two, one
			e.flush()
			e.wantObject("p/d/f", one)
			e.wantObject("p/e/g", two)
			if got := e.mem.Keys("p/.depotfs/moving/"); len(got) > 0 {
				t.Errorf("left under moving/: %v", got)
			}
		}
		e.mustRead("d/f", one)
		e.mustRead("e/g", two)
	}
}

// A clean file that loses one of its names is still clean: nobody changed its bytes.
func TestUnlinkOfOneNameLeavesAFileClean(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 10_000)
	a := e.write("f", data)
	parent, _ := e.parent("f")
	if _, err := e.c.Link(context.Background(), a, parent, "g"); err != nil {
		t.Fatal(err)
	}
	e.flush()
	e.unlink("f")
	e.flush()
	puts := e.store.Calls(storetest.Put)
	e.mustRead("g", data)
	if got := e.state1("g"); got != "clean" {
		t.Errorf("the file is %s", got)
	}
	e.flush()
	e.wantObject("p/g", data)
	if n := e.store.Calls(storetest.Put) - puts; n != 0 {
		t.Errorf("%d objects were put", n)
	}
}
