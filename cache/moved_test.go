package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
)

// A rename by others costs no upload and leaves one name, in whichever order the two
// directories are looked at.
func TestRenamedByOthers(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"from", "to"} {
		t.Run(first+" is looked at first", func(t *testing.T) {
			e := newEnv(t)
			e.mkdirAll("from")
			e.mkdirAll("to")
			data := pattern(1, 300_000)
			e.write("from/f", data)
			e.flush()
			e.settle = time.Hour
			h := e.mustOpen("from/f", syscall.O_RDONLY)
			puts := e.store.Calls("put")
			if err := os.Rename(filepath.Join(e.share, "from/f"), filepath.Join(e.share, "to/g")); err != nil {
				t.Fatal(err)
			}
			dir, err := e.lookup(first)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.c.OpenDir(context.Background(), dir.Ino); err != nil {
				t.Fatal(err)
			}
			e.scan()
			if _, err := e.lookup("from/f"); !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("the old name: %v", err)
			}
			got, err := io.ReadAll(io.NewSectionReader(readerAt{h}, 0, 1<<20))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("who had it open reads %d bytes, %v", len(got), err)
			}
			h.Release()
			e.flush()
			e.mustRead("to/g", data)
			e.wantObject("p/to/g", data)
			if _, there := e.object("p/from/f"); there {
				t.Error("the object of the old name still exists")
			}
			if n := e.store.Calls("put") - puts; n > 0 {
				t.Errorf("%d objects were sent for a rename", n)
			}
			e.evict("to/g")
			e.mustRead("to/g", data)
		})
	}
}

// A renamed file may have been uploaded under its new name before it is missed under
// its old one: that name goes all the same.
func TestRenamedByOthersAndUploaded(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("from")
	e.mkdirAll("to")
	data := pattern(1, 300_000)
	e.write("from/f", data)
	e.flush()
	if err := os.Rename(filepath.Join(e.share, "from/f"), filepath.Join(e.share, "to/g")); err != nil {
		t.Fatal(err)
	}
	dir, err := e.lookup("to")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.c.OpenDir(context.Background(), dir.Ino); err != nil {
		t.Fatal(err)
	}
	e.flush()
	e.scan()
	e.flush()
	if _, err := e.lookup("from/f"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
	if _, there := e.object("p/from/f"); there {
		t.Error("the object of the old name still exists")
	}
	e.mustRead("to/g", data)
	e.wantObject("p/to/g", data)
}

// What others make in a directory is listed, though we change the directory after them.
func TestOwnChangesDoNotHideOthers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("d")
	e.write("d/one", pattern(1, 10))
	dir, err := e.lookup("d")
	if err != nil {
		t.Fatal(err)
	}
	list := func() (names []string) {
		if err := e.c.OpenDir(context.Background(), dir.Ino); err != nil {
			t.Fatal(err)
		}
		if err := e.c.ReadDir(context.Background(), dir.Ino, 0, func(d cache.DirEntry) bool {
			names = append(names, d.Name)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	list()
	for i, own := range []func(){
		func() { e.write("d/own", pattern(2, 10)) },
		func() { e.mkdirAll("d/sub") },
		func() { _ = e.c.Unlink(context.Background(), dir.Ino, "own") },
		func() { _ = e.c.Rename(context.Background(), dir.Ino, "one", dir.Ino, "two", 0) },
	} {
		theirs := fmt.Sprintf("theirs%d", i)
		e.outside("d/"+theirs, pattern(3, 10))
		own()
		if names := list(); !slices.Contains(names, theirs) {
			t.Errorf("change %d: %s is not listed: %v", i, theirs, names)
		}
	}
}

// Others may make a directory again that only the depot has, and put files into it.
func TestOthersMakeARemoteDirectory(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("snapshots/1")
	e.write("snapshots/1/s", pattern(1, 100_000))
	e.flush()
	e.close()
	e.share, e.state = t.TempDir(), t.TempDir() // another zone: all of it is remote
	e.open()
	e.joined()
	e.scan()
	e.outside("snapshots/1/theirs", pattern(2, 100))
	dir, err := e.lookup("snapshots/1")
	if err == nil {
		err = e.c.OpenDir(context.Background(), dir.Ino)
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := e.c.ReadDir(context.Background(), dir.Ino, 0, func(d cache.DirEntry) bool {
		names = append(names, d.Name)
		return true
	}); err != nil || len(names) != 2 {
		t.Errorf("listed: %v, %v", names, err)
	}
	e.outside("snapshots/2/theirs", pattern(2, 100))
	e.scan()
	e.scan()
	e.flush()
	e.wantObject("p/snapshots/1/theirs", pattern(2, 100))
	e.wantObject("p/snapshots/2/theirs", pattern(2, 100))
	e.mustRead("snapshots/1/s", pattern(1, 100_000))
}

// Others rename a file whose old name was restored meanwhile, and written to through
// the mount: what was written stays.
func TestRenamedByOthersAndWrittenAnew(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("from")
	e.mkdirAll("to")
	one, two := pattern(1, 5000), pattern(2, 70_000)
	e.write("from/f", one)
	e.flush()
	if err := os.Rename(filepath.Join(e.share, "from/f"), filepath.Join(e.share, "to/g")); err != nil {
		t.Fatal(err)
	}
	e.list("from")
	e.write("from/f", two)
	e.flush()
	e.evict("from/f")
	e.scan()
	e.flush()
	e.mustRead("from/f", two)
	e.mustRead("to/g", one)
	e.wantObject("p/from/f", two)
}
