package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// flushFor flushes with a deadline and returns what is left.
func (e *env) flushFor(d time.Duration, paths ...string) []cache.NotDone {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	left, err := e.c.Flush(ctx, paths, nil)
	if err != nil {
		e.t.Fatalf("flush: %v", err)
	}
	return left
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 100_000)
	e.write("a", data)
	e.flush()
	e.store.SetDown(true)
	e.write("b", data)
	e.mustRead("a", data)
	e.waitFor("flush says why b is left", func() bool {
		left := e.flushFor(time.Second)
		if len(left) != 1 || left[0].Path != "b" {
			t.Fatalf("left %+v", left)
		}
		return strings.Contains(left[0].Reason, "unavailable")
	})
	e.store.SetDown(false)
	e.flush()
	e.wantObject("p/b", data)
}

func TestColdReadWhileStoreIsDown(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 100_000)
	e.write("a", data)
	e.flush()
	e.close()
	e.limits.ColdTimeout = 500 * time.Millisecond
	e.open()
	e.evict("a")
	e.store.SetDown(true)
	if b, err := e.read("a"); err == nil || len(b) > 0 {
		t.Fatalf("read %d bytes, %v", len(b), err)
	}
	e.store.SetDown(false)
	// The breaker asks a few times a second whether it is back, and this test's patience is short.
	e.waitFor("a read of what is not here", func() bool {
		b, err := e.read("a")
		return err == nil && bytes.Equal(b, data)
	})
}

// The answer of a PUT or of a Complete is lost; the object is ours all the same.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, op := range []storetest.Op{storetest.Put, storetest.Complete, storetest.Copy} {
		t.Run(string(op), func(t *testing.T) {
			e := newEnv(t)
			size := 1000
			if op == storetest.Complete {
				size = 40 << 20
			}
			data := pattern(1, size)
			if op != storetest.Copy {
				e.flush()
				e.store.Inject(storetest.LoseAnswer(op).On("p/f"))
			}
			e.write("f", data)
			e.flush()
			want := "p/f"
			if op == storetest.Copy {
				e.store.Inject(storetest.LoseAnswer(op))
				parent, _ := e.parent("f")
				if err := e.c.Rename(context.Background(), parent, "f", parent, "g", 0); err != nil {
					t.Fatal(err)
				}
				e.flush()
				want = "p/g"
			}
			e.wantObject(want, data)
			if n := e.store.Pending(); n != 0 {
				t.Errorf("the fault did not strike")
			}
			if keys := e.mem.Keys("p/.depotfs/conflicts/"); len(keys) > 0 {
				t.Errorf("our own object was taken for somebody else's: %v", keys)
			}
		})
	}
}

func TestUploadResumesAfterRestart(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.limits.UploadParts, e.limits.PartSize = 1, 5<<20
	e.open()
	data := pattern(1, 31<<20)
	e.store.Inject(storetest.Fail(storetest.PutPart, cache.ErrUnavailable).After(3).Always())
	e.write("f", data)
	e.waitFor("three parts are there and the fourth failed", func() bool {
		if left := e.flushFor(time.Second); len(left) != 1 {
			t.Fatalf("left %+v", left)
		}
		return e.store.Calls(storetest.PutPart) > 3
	})
	e.restart()
	e.store.Clear()
	before := e.store.Usage().BytesSent
	e.flush()
	e.wantObject("p/f", data)
	if sent := e.store.Usage().BytesSent - before; sent > int64(len(data))-3*5<<20+1<<20 {
		t.Errorf("sent %d of %d bytes again after the restart", sent, len(data))
	}
	ups, err := e.mem.ListMultiparts(context.Background(), "")
	if err != nil || len(ups) > 0 {
		t.Errorf("unfinished uploads %v %v", ups, err)
	}
}

// TestUploadStartsAgain is of a store that does not complete an upload any more whose parts it
// still lists.
func TestUploadStartsAgain(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.limits.PartSize = 5 << 20
	e.open()
	data := pattern(1, 11<<20)
	broken, seen := "", 0
	e.store.Inject(storetest.Before(storetest.Complete, func(ctx context.Context, _ string) error {
		ups, err := e.mem.ListMultiparts(ctx, "")
		if err != nil || len(ups) != 1 {
			return errors.Join(err, fmt.Errorf("uploads %v", ups))
		}
		if broken == "" {
			broken = ups[0].UploadID
		}
		if seen++; broken == ups[0].UploadID {
			return cache.ErrRejected
		}
		return nil
	}).Always())
	e.write("f", data)
	e.flush()
	e.wantObject("p/f", data)
	if seen != 3 {
		t.Errorf("%d completions, want a second attempt at the first upload, and then another one", seen)
	}
}

func TestUnlinkDuringUploadLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 40 << 20} {
		e := newEnv(t)
		e.flush()
		entered := make(chan struct{})
		resume := make(chan struct{})
		op := storetest.Put
		if size > 16<<20 {
			op = storetest.PutPart
		}
		e.store.Inject(storetest.Before(op, func(context.Context, string) error { close(entered); <-resume; return nil }).On("p/f"))
		e.write("f", pattern(1, size))
		done := make(chan []cache.NotDone)
		go func() { done <- e.flushFor(patience) }()
		<-entered
		parent, _ := e.parent("f")
		if err := e.c.Unlink(context.Background(), parent, "f"); err != nil {
			t.Fatal(err)
		}
		close(resume)
		if left := <-done; len(left) > 0 {
			t.Errorf("left %+v", left)
		}
		e.flush()
		if b, ok := e.object("p/f"); ok {
			t.Errorf("the object of an unlinked file exists with %d bytes", len(b))
		}
		if ups, _ := e.mem.ListMultiparts(context.Background(), ""); len(ups) > 0 {
			t.Errorf("unfinished uploads %v", ups)
		}
	}
}

// A writer opens the file while it is uploaded: the object never has mixed bytes,
// and the last version arrives.
func TestWriterDuringUpload(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.flush()
	one, two := bytes.Repeat([]byte{1}, 20<<20), bytes.Repeat([]byte{2}, 20<<20)
	entered := make(chan struct{})
	e.store.Inject(storetest.Before(storetest.PutPart, func(context.Context, string) error { close(entered); return nil }).On("p/f"))
	ino := e.write("f", one)
	flushed := make(chan struct{})
	go func() { defer close(flushed); e.flushFor(patience) }()
	<-entered
	h, err := e.c.Open(context.Background(), ino, syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(context.Background(), two[:15<<20], 0); err != nil {
		t.Fatal(err)
	}
	if b, ok := e.object("p/f"); ok && !bytes.Equal(b, one) {
		t.Fatal("an object of mixed bytes is visible")
	}
	if _, err := h.WriteAt(context.Background(), two[15<<20:], 15<<20); err != nil {
		t.Fatal(err)
	}
	h.Release()
	<-flushed
	e.flush()
	e.wantObject("p/f", two)
}

func TestObjectGoneOrReplaced(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 200_000)
	for _, name := range []string{"gone", "replaced", "touched"} {
		e.write(name, data)
	}
	e.flush()
	e.evict("gone", "replaced", "touched")
	ctx := context.Background()
	if err := e.mem.Delete(ctx, "p/gone", ""); err != nil {
		t.Fatal(err)
	}
	other := pattern(2, 200_000)
	for key, b := range map[string][]byte{"p/replaced": other, "p/touched": data} {
		if _, err := e.mem.Put(ctx, key, bytes.NewReader(b), int64(len(b)), cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"gone", "replaced"} {
		b, err := e.read(name)
		if !errors.Is(err, cache.ErrGone) || len(b) > 0 {
			t.Errorf("%s: read %d bytes, %v", name, len(b), err)
		}
	}
	e.mustRead("touched", data)
}

// Bytes that were damaged on their way are noticed before the file counts as whole.
func TestDamagedBytesAreFetchedAgain(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 300_000)
	e.write("f", data)
	e.flush()
	e.evict("f")
	e.store.Inject(storetest.Corrupt(storetest.Get, 1000).On("p/f"))
	if left, err := e.c.Warm(context.Background(), []string{"f"}, nil); err != nil {
		t.Fatal(err)
	} else if len(left) > 0 {
		left, err = e.c.Warm(context.Background(), []string{"f"}, nil)
		if err != nil || len(left) > 0 {
			t.Fatalf("%v %v", left, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(e.share, "f"))
	if err != nil || !bytes.Equal(b, data) {
		t.Fatalf("plain file: %v, equal %v", err, bytes.Equal(b, data))
	}
}

func TestCutBodies(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 9<<20)
	e.write("f", data)
	e.flush()
	e.evict("f")
	for i := range 5 {
		e.store.Inject(storetest.Cut(storetest.Get, int64(i*50_000)).On("p/f"))
	}
	e.mustRead("f", data)
}

// While the image cannot be uploaded, no later file of its directory becomes
// visible, and its properties file never does.
func TestOrderWithinADirectory(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.flush()
	e.mkdirAll("template/tmpl/2/201")
	const dir = "template/tmpl/2/201/"
	e.store.Inject(storetest.Fail(storetest.Put, cache.ErrUnavailable).On("p/" + dir + "a.qcow2").Times(4))
	e.write(dir+"a.qcow2", pattern(1, 1000))
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("later%d", i))
		e.write(dir+names[i], pattern(uint64(i), 100))
	}
	e.write(dir+"template.properties", []byte("filename=a.qcow2\nqcow2.filename=a.qcow2\nuniquename=u\n"))
	stop := make(chan struct{})
	bad := make(chan string, 1)
	go func() {
		order := append(append([]string{"a.qcow2"}, names...), "template.properties")
		for {
			select {
			case <-stop:
				close(bad)
				return
			default:
			}
			have := e.mem.Keys("p/" + dir)
			for i, n := range order {
				if slices.Contains(have, "p/"+dir+n) && i > 0 && !slices.Contains(have, "p/"+dir+order[i-1]) {
					// Listed once: the one before may have come since. Look again.
					if !slices.Contains(e.mem.Keys("p/"+dir), "p/"+dir+order[i-1]) {
						bad <- n + " is visible before " + order[i-1]
						return
					}
				}
			}
		}
	}()
	e.flush()
	close(stop)
	if msg, ok := <-bad; ok {
		t.Error(msg)
	}
	e.wantObject("p/"+dir+"later9", pattern(9, 100))
}

// A file that cannot be uploaded holds others back only for so long.
func TestOrderTimeout(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.limits.OrderTimeout = 300 * time.Millisecond
	e.open()
	e.store.Inject(storetest.Fail(storetest.Put, cache.ErrRejected).On("p/bad").Always())
	e.write("bad", []byte("x"))
	e.write("bad.properties", []byte("filename=bad\n"))
	e.write("good", []byte("y"))
	e.waitFor("a file that cannot be uploaded lets others go", func() bool {
		_, ok := e.object("p/good")
		return ok
	})
	left := e.flushFor(time.Second)
	if _, ok := e.object("p/bad.properties"); ok {
		t.Error("a properties file is visible before the image that it names")
	}
	if len(left) != 2 {
		t.Errorf("left %+v", left)
	}
}

func TestConflictKeepsBoth(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	ours, theirs := pattern(1, 5000), pattern(2, 6000)
	e.write("f", pattern(3, 10))
	e.flush()
	ctx := context.Background()
	if _, err := e.mem.Put(ctx, "p/f", bytes.NewReader(theirs), int64(len(theirs)), cache.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // the later of two clock readings has to be later
	e.write("f", ours)
	e.flush()
	e.wantObject("p/f", ours)
	kept := e.mem.Keys("p/.depotfs/conflicts/")
	if len(kept) != 1 || !bytes.Equal(e.mem.Bytes(kept[0]), theirs) {
		t.Fatalf("kept %v", kept)
	}
}

// What is open and not here stays readable after its name is gone; its object goes
// with the last handle.
func TestUnlinkedRemoteFileIsReadWhileOpen(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"unlink", "rename over", "crash"} {
		t.Run(how, func(t *testing.T) {
			e := newEnv(t)
			data := pattern(1, 300_000)
			e.mkdirAll("snapshots")
			e.write("snapshots/f", data)
			e.write("snapshots/g", data[:10])
			e.flush()
			e.evict("snapshots/f")
			ctx := context.Background()
			a, _ := e.lookup("snapshots/f")
			h, err := e.c.Open(ctx, a.Ino, syscall.O_RDONLY)
			if err != nil {
				t.Fatal(err)
			}
			dir, _ := e.parent("snapshots/f")
			if how == "rename over" {
				err = e.c.Rename(ctx, dir, "g", dir, "f", 0)
			} else {
				err = e.c.Unlink(ctx, dir, "f")
			}
			if err != nil {
				t.Fatal(err)
			}
			e.flushFor(500 * time.Millisecond)
			got := make([]byte, len(data))
			if _, err := h.ReadAt(ctx, got, 0); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("read after %s: %v", how, err)
			}
			if how == "crash" {
				e.restart()
			} else {
				h.Release()
			}
			e.flush()
			if b, ok := e.object("p/snapshots/f"); how == "rename over" && len(b) != 10 || how != "rename over" && ok {
				t.Errorf("object after the last close: %v, %d bytes", ok, len(b))
			}
		})
	}
}
