package fs

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// forget makes the kernel drop the inodes that nobody uses.
func forget(t testing.TB) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
}

// handleOf is what an NFS server hands to its clients.
func handleOf(t testing.TB, path string) unix.FileHandle {
	t.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		t.Fatalf("handle of %s: %v", path, err)
	}
	return h
}

// byHandle reads the file that h means in the mount on dir.
func byHandle(t testing.TB, dir string, h unix.FileHandle) (string, error) {
	t.Helper()
	mnt := open(t, dir, os.O_RDONLY)
	fd, err := unix.OpenByHandleAt(int(mnt.Fd()), h, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, 100)
	n, err := unix.Read(fd, buf)
	return string(buf[:max(n, 0)]), err
}

func TestHandlesOutliveCachesAndRestarts(t *testing.T) {
	needRoot(t)
	l := newLoopback(t)
	m := mount(t, l, Options{})
	for _, dir := range []string{"d", "d/e"} {
		if err := os.Mkdir(m.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.write(t, "d/e/x", "hello")
	m.write(t, "d/gone", "gone")
	root, dir, file, gone := handleOf(t, m.dir), handleOf(t, m.path("d/e")), handleOf(t, m.path("d/e/x")), handleOf(t, m.path("d/gone"))
	if err := os.Remove(m.path("d/gone")); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	for ino, n := range l.nodes { // as the heart forgets what has no name
		if n.attr.Nlink == 0 {
			delete(l.nodes, ino)
		}
	}
	l.mu.Unlock()

	check := func(t *testing.T, mnt string) {
		t.Helper()
		if got, err := byHandle(t, mnt, file); err != nil || got != "hello" {
			t.Errorf("file by handle: got %q, %v", got, err)
		}
		if _, err := byHandle(t, mnt, dir); !errors.Is(err, syscall.EISDIR) {
			t.Errorf("directory by handle: reading it gives %v, want EISDIR", err)
		}
		if _, err := byHandle(t, mnt, root); !errors.Is(err, syscall.EISDIR) {
			t.Errorf("root by handle: reading it gives %v, want EISDIR", err)
		}
		if got, err := byHandle(t, mnt, gone); !errors.Is(err, syscall.ESTALE) {
			t.Errorf("removed file by handle: got %q, %v; want ESTALE", got, err)
		}
		if _, err := os.Stat(filepath.Join(mnt, "d/e/x")); err != nil {
			t.Errorf("the tree suffered: %v", err)
		}
	}
	t.Run("as it is", func(t *testing.T) { check(t, m.dir) })
	forget(t)
	t.Run("after drop_caches", func(t *testing.T) { check(t, m.dir) })
	if l.count("parent") == 0 {
		t.Error("the directory was not connected to its parents again: the caches were not dropped")
	}
	again := mount(t, l, Options{})
	t.Run("after a restart", func(t *testing.T) { check(t, again.dir) })

	lost := newLoopback(t) // a new catalog: the same numbers mean other files
	lost.epoch++
	other := mount(t, lost, Options{})
	other.write(t, "a", "other")
	lost.mu.Lock()
	lost.nodes[103] = lost.nodes[101] // the number that d/e/x had
	lost.mu.Unlock()
	forget(t)
	if got, err := byHandle(t, other.dir, file); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("handle of another epoch: got %q, %v; want ESTALE", got, err)
	}
	if got, err := os.ReadFile(other.path("a")); err != nil || string(got) != "other" {
		t.Errorf("the mount suffered: %q, %v", got, err)
	}
}
