package cache_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// newUnsettled is a zone in which the depot has the second version of a file and does
// not know it: the answer was lost, and nothing more arrives.
func newUnsettled(t *testing.T, path string, first, second []byte) *env {
	t.Helper()
	e := newEnv(t)
	e.mkdirAll(filepath.Dir(path))
	e.write(path, first)
	e.flush()
	e.settle = time.Hour
	e.store.Inject(storetest.LoseAnswer(storetest.Put).On(path), storetest.Fail(storetest.Put, cache.ErrUnavailable).Always())
	e.write(path, second)
	e.waitFor("the depot has it", func() bool {
		e.flushFor(300*time.Millisecond, path)
		b, _ := e.object("p/" + path)
		return bytes.Equal(b, second)
	})
	return e
}

// The answer to an upload was lost. Others replace the file, and remove theirs: what
// the depot has is read, whichever version that is.
func TestReplacedWhileAnAnswerIsLost(t *testing.T) {
	t.Parallel()
	first, second := pattern(1, 100), pattern(2, 70_000)
	e := newUnsettled(t, "snapshots/n", first, second)
	e.outside("snapshots/n", []byte("others"))
	e.list("snapshots")
	if err := os.Remove(filepath.Join(e.share, "snapshots/n")); err != nil {
		t.Fatal(err)
	}
	e.store.Clear()
	e.scan()
	e.flush()
	e.mustRead("snapshots/n", second)
}

// The same where the file is open when others remove it: until the depot was asked,
// the open file has the version.
func TestRemovedWhileAnAnswerIsLost(t *testing.T) {
	t.Parallel()
	first, second := pattern(1, 100), pattern(2, 70_000)
	e := newUnsettled(t, "snapshots/n", first, second)
	h := e.mustOpen("snapshots/n", syscall.O_RDONLY)
	defer h.Release()
	if err := os.Remove(filepath.Join(e.share, "snapshots/n")); err != nil {
		t.Fatal(err)
	}
	e.mustRead("snapshots/n", second)
	e.store.Clear()
	e.flush()
	e.scan()
	e.mustRead("snapshots/n", second)
	e.wantObject("p/snapshots/n", second)
	got := make([]byte, len(second))
	if n, err := h.ReadAt(context.Background(), got, 0); n != len(got) || !bytes.Equal(got, second) {
		t.Errorf("who had it open reads %d bytes, %v", n, err)
	}
}
