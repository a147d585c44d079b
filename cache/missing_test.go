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
	"strings"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// With --share-deletes delete a removed tree goes everywhere after ten minutes; what
// nobody could see when it was removed stays, and so do templates. Nothing that only
// looks at the tree in between brings it back.
func TestRemovedTreeWhileBeside(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.deploy = cache.Beside
	e.open()
	data := pattern(1, 100_000)
	for _, dir := range []string{"snapshots/1", "snapshots/2/x", "template/t"} {
		e.mkdirAll(dir)
		e.write(dir+"/a", data)
		e.write(dir+"/b.properties", data[:100])
	}
	e.flush()
	h := e.mustOpen("snapshots/1/a", syscall.O_RDONLY)
	for _, dir := range []string{"snapshots/1", "snapshots/2", "template/t"} {
		if err := os.RemoveAll(filepath.Join(e.share, dir)); err != nil {
			t.Fatal(err)
		}
	}
	e.scan()
	if _, err := e.read("snapshots/2/x/a"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("open of a file that was removed: %v, want ErrNotExist", err)
	}
	for range 2 {
		e.ahead.Add(int64(6 * time.Minute))
		e.scan()
		e.scan()
	}
	for range 3 { // directories go when nothing is left in them
		e.scan()
	}
	for _, name := range []string{"snapshots/1", "snapshots/2"} {
		if _, err := e.lookup(name); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("%s still exists: %v", name, err)
		}
	}
	got, err := io.ReadAll(io.NewSectionReader(readerAt{h}, 0, 1<<20))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("who had a removed file open reads %d bytes, %v", len(got), err)
	}
	h.Release()
	e.flush()
	for _, key := range e.mem.Keys("p/snapshots/") {
		if key != "p/snapshots/" {
			t.Errorf("%s still exists in the depot", key)
		}
	}
	e.mustRead("template/t/a", data)
	e.wantObject("p/template/t/a", data)
}

// A removal that does not last is none.
func TestRemovedAndMadeAgainWhileBeside(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.deploy = cache.Beside
	e.open()
	e.mkdirAll("volumes")
	data := pattern(1, 1000)
	e.write("volumes/v", data)
	e.flush()
	full := filepath.Join(e.share, "volumes/v")
	if err := os.Rename(full, full+".away"); err != nil {
		t.Fatal(err)
	}
	a, err := e.lookup("volumes/v")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.c.Open(context.Background(), a.Ino, syscall.O_RDONLY); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if err := os.Rename(full+".away", full); err != nil {
		t.Fatal(err)
	}
	e.scan()
	e.ahead.Add(int64(11 * time.Minute))
	e.scan()
	e.flush()
	e.mustRead("volumes/v", data)
	e.wantObject("p/volumes/v", data)
}

// A file that others remove before it was uploaded holds up neither a flush nor the
// other files of its directory; after ten minutes its name goes.
func TestRemovedBeforeItWasUploaded(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("volumes")
	e.settle = time.Hour
	e.write("volumes/lost", pattern(1, 1000))
	e.write("volumes/other", pattern(2, 1000))
	if err := os.Remove(filepath.Join(e.share, "volumes/lost")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.read("volumes/lost"); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v, want EIO", err)
	}
	left := e.flushFor(patience)
	if len(left) != 1 || left[0].Path != "volumes/lost" || !strings.Contains(left[0].Reason, "removed") {
		t.Errorf("flush left %+v", left)
	}
	e.wantObject("p/volumes/other", pattern(2, 1000))
	e.scan()
	e.ahead.Add(int64(11 * time.Minute))
	e.scan()
	if _, err := e.lookup("volumes/lost"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("after ten minutes: %v", err)
	}
	e.flush()
}

// The answer to an upload is lost, and then others remove the file: what the depot
// has is the new version or the old one, and either can be read.
func TestRemovedAfterAnUnansweredUpload(t *testing.T) {
	t.Parallel()
	for _, arrived := range []bool{true, false} {
		for _, open := range []bool{false, true} {
			t.Run(fmt.Sprintf("arrived=%v,open=%v", arrived, open), func(t *testing.T) {
				e := newEnv(t)
				old, data := pattern(1, 1000), pattern(2, 90_000)
				e.write("f", old)
				e.flush()
				e.settle = time.Hour
				puts := e.store.Calls(storetest.Put)
				e.write("f", data)
				want := old
				if arrived {
					e.store.Inject(storetest.LoseAnswer(storetest.Put).On("p/f"))
					want = data
				}
				e.store.Inject(storetest.Fail(storetest.Put, cache.ErrUnavailable).On("p/f").Always())
				e.waitFor("an upload is tried again", func() bool {
					if left := e.flushFor(500 * time.Millisecond); len(left) != 1 {
						t.Fatalf("flush left %+v", left)
					}
					return e.store.Calls(storetest.Put) > puts+1
				})
				if open {
					defer e.mustOpen("f", syscall.O_RDONLY).Release()
				}
				if err := os.Remove(filepath.Join(e.share, "f")); err != nil {
					t.Fatal(err)
				}
				e.scan()
				e.store.Clear()
				e.flush()
				e.scan()
				if got, _ := e.object("p/f"); open && bytes.Equal(got, data) {
					want = data // sent from the file that was open, when the store came back
				}
				e.mustRead("f", want)
				e.wantObject("p/f", want)
			})
		}
	}
}
