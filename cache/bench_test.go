package cache_test

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
)

// The kernel's questions as package fs asks them, without the kernel: what a
// create, a stat or a removal costs depotfs itself. `make bench` has the whole.

const (
	benchDir   = "template/tmpl/2/201" // as deep as CloudStack's files are
	benchNames = 5000
)

// benchEnv is a zone that uploads nothing meanwhile, with benchNames files.
func benchEnv(b *testing.B, files int) (*env, cache.Ino, []cache.Ino) {
	b.Helper()
	e := newEnv(b)
	e.close()
	e.settle = time.Hour
	e.open()
	e.mkdirAll(benchDir)
	dir, _ := e.parent(benchDir + "/x")
	inos := make([]cache.Ino, files)
	for i := range inos {
		inos[i] = e.benchCreate(dir, benchName(i))
	}
	b.ReportAllocs()
	b.ResetTimer()
	return e, dir, inos
}

func benchName(i int) string { return fmt.Sprintf("file-%d.properties", i) }

// benchCreate is what open(O_CREAT) and close ask.
func (e *env) benchCreate(dir cache.Ino, name string) cache.Ino {
	ctx := context.Background()
	if _, err := e.c.Lookup(ctx, dir, name); !errors.Is(err, iofs.ErrNotExist) {
		e.t.Fatalf("lookup %s: %v", name, err)
	}
	a, h, err := e.c.Create(ctx, me, dir, name, 0o644, os.O_WRONLY)
	if err != nil {
		e.t.Fatal(err)
	}
	h.Release()
	return a.Ino
}

func BenchmarkCreate(b *testing.B) {
	e, dir, _ := benchEnv(b, 0)
	for i := 0; b.Loop(); i++ {
		e.benchCreate(dir, benchName(i))
	}
}

func BenchmarkRemove(b *testing.B) {
	e, dir, _ := benchEnv(b, 0)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		e.benchCreate(dir, benchName(i))
		b.StartTimer()
		if err := e.c.Unlink(context.Background(), dir, benchName(i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	e, dir, _ := benchEnv(b, benchNames)
	for i := 0; b.Loop(); i++ {
		if _, err := e.c.Lookup(context.Background(), dir, benchName(i%benchNames)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookupUnknown(b *testing.B) {
	e, dir, _ := benchEnv(b, 1)
	for b.Loop() {
		if _, err := e.c.Lookup(context.Background(), dir, "nothing.properties"); err == nil {
			b.Fatal("found")
		}
	}
}

func BenchmarkAttr(b *testing.B) {
	e, _, inos := benchEnv(b, benchNames)
	for i := 0; b.Loop(); i++ {
		if _, err := e.c.Attr(context.Background(), inos[i%benchNames]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList is one `ls -l` of benchNames files.
func BenchmarkList(b *testing.B) {
	e, dir, _ := benchEnv(b, benchNames)
	for b.Loop() {
		n := 0
		if err := e.c.ReadDir(context.Background(), dir, 0, func(d cache.DirEntry) bool { n++; return true }); err != nil || n != benchNames {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkOpenRead(b *testing.B) {
	e, _, inos := benchEnv(b, 1)
	for b.Loop() {
		h, err := e.c.Open(context.Background(), inos[0], syscall.O_RDONLY)
		if err != nil {
			b.Fatal(err)
		}
		h.Release()
	}
}
