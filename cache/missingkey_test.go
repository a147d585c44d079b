package cache_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A file that was written and renamed waits for its upload under its new name; another
// one has the old name and wants its key. Others have removed the first meanwhile: what
// the depot has of it is not taken for being in the way.
func TestKeyOfAFileThatOthersRemoved(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("snapshots")
	e.write("snapshots/n", []byte("the version in the depot"))
	e.flush()
	e.settle = time.Hour
	e.write("snapshots/n", []byte("waits to be uploaded"))
	dir, _ := e.parent("snapshots/n")
	if err := e.c.Rename(context.Background(), dir, "n", dir, "m", 0); err != nil {
		t.Fatal(err)
	}
	e.write("snapshots/n", []byte("another file"))
	e.write("snapshots/m", []byte("waits, and was finished last"))
	if err := os.Remove(filepath.Join(e.share, "snapshots/m")); err != nil {
		t.Fatal(err)
	}
	e.flush("snapshots/n")
	e.mustRead("snapshots/m", []byte("the version in the depot"))
	e.flush()
	e.wantObject("p/snapshots/n", []byte("another file"))
	e.wantObject("p/snapshots/m", []byte("the version in the depot"))
}
