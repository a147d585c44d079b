package cache_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// A file that others removed from the share can still be renamed: the depot has it.
func TestRenameOfWhatTheShareLost(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("a")
	e.write("a/n", []byte("uploaded, then removed by others"))
	e.write("a/m", []byte("in the way"))
	e.flush()
	for _, name := range []string{"a/n", "a/m"} {
		if err := os.Remove(filepath.Join(e.share, name)); err != nil {
			t.Fatal(err)
		}
	}
	dir, _ := e.parent("a/n")
	if err := e.c.Rename(context.Background(), dir, "n", dir, "m", 0); err != nil {
		t.Fatalf("rename: %v", err)
	}
	e.mustRead("a/m", []byte("uploaded, then removed by others"))
	if _, err := e.lookup("a/n"); err == nil {
		t.Error("the old name is still there")
	}
	e.flush()
	e.wantObject("p/a/m", []byte("uploaded, then removed by others"))
}
