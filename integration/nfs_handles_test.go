package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// takeHandle asks the kernel for what it gives to an NFS server: the file's handle,
// for directories and files alike; of a symlink, not of its target.
func takeHandle(t testing.TB, path string) unix.FileHandle {
	t.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		t.Fatalf("handle of %s: %v", path, err)
	}
	return h
}

// openHandle opens what a handle means in the mount on mnt.
func openHandle(mnt string, h unix.FileHandle, flags int) (*os.File, error) {
	dir, err := unix.Open(mnt, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.OpenByHandleAt(dir, h, flags|unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "by handle"), nil
}

// forgetAll has the kernel drop the inodes that nobody uses.
func forgetAll(t testing.TB) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
}

// byHandle checks that a handle means the file with these bytes.
func byHandle(t testing.TB, mnt string, h unix.FileHandle, body []byte) {
	t.Helper()
	f, err := openHandle(mnt, h, unix.O_RDONLY)
	if err != nil {
		t.Errorf("open by handle: %v", err)
		return
	}
	defer f.Close()
	got := make([]byte, len(body)+1)
	n, _ := f.ReadAt(got, 0)
	if diff := difference(got[:n], body); diff != "" {
		t.Errorf("by handle: %s", diff)
	}
}

// stale checks that a handle means nothing any more.
func stale(t testing.TB, mnt string, h unix.FileHandle) {
	t.Helper()
	f, err := openHandle(mnt, h, unix.O_PATH)
	if err == nil {
		name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		f.Close()
		t.Errorf("a handle that should be stale opens %s", name)
	} else if !errors.Is(err, unix.ESTALE) {
		t.Errorf("a handle that should be stale: %v, want %v", err, unix.ESTALE)
	}
}

// taken are the handles of a tree whose files are here, in part and elsewhere.
type taken struct {
	files           map[string]unix.FileHandle // by where they were
	dirs            map[string]unix.FileHandle // by what is in them, a name
	link, gone, end unix.FileHandle
	bodies          map[string][]byte
}

// takeAll makes the tree and takes its handles.
func takeAll(z *zone) taken {
	t := z.t
	t.Helper()
	k := taken{files: map[string]unix.FileHandle{}, dirs: map[string]unix.FileHandle{}, bodies: map[string][]byte{}}
	for i, name := range []string{"resident", "a/b/c/partial", "a/b/remote", "x/y/renamed", "x/y/moved", "old/sub/inside", "replaced", "gone"} {
		k.bodies[name] = bytesOf(uint64(i), 3<<20)
		put(t, z.path(name), k.bodies[name])
		k.files[name] = takeHandle(t, z.path(name))
	}
	if err := os.Symlink("a/b", z.path("link")); err != nil {
		t.Fatal(err)
	}
	k.link, k.gone = takeHandle(t, z.path("link")), k.files["gone"]
	delete(k.files, "gone")
	for dir, inside := range map[string]string{"": "a", "a": "b", "a/b/c": "partial", "old": "sub", "old/sub": "inside"} {
		k.dirs[inside] = takeHandle(t, z.path(dir))
	}
	z.flush()
	z.evict("a/b/c/partial", "a/b/remote")
	readAt(t, z.path("a/b/c/partial"), 1<<20, 4096, k.bodies["a/b/c/partial"])
	for _, r := range [][2]string{{"x/y/renamed", "x/y/renamed2"}, {"x/y/moved", "a/moved"}, {"old", "a/b/new"}} {
		if err := os.Rename(z.path(r[0]), z.path(r[1])); err != nil {
			t.Fatal(err)
		}
	}
	over := bytesOf(99, 1000)
	put(t, z.path("over"), over)
	k.end, k.bodies["over"] = takeHandle(t, z.path("over")), over
	if err := os.Rename(z.path("over"), z.path("replaced")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(z.path("gone")); err != nil {
		t.Fatal(err)
	}
	return k
}

func readAt(t testing.TB, path string, off int64, n int, body []byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, n)
	if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, body[off:off+int64(n)]) {
		t.Fatalf("read of %s at %d: %v", path, off, err)
	}
}

// check holds what an NFS client expects of its handles.
func (k taken) check(t *testing.T, z *zone) {
	t.Helper()
	for name, h := range k.files {
		if name == "replaced" {
			stale(t, z.mnt, h) // another file has the name
			continue
		}
		byHandle(t, z.mnt, h, k.bodies[name])
	}
	byHandle(t, z.mnt, k.end, k.bodies["over"])
	stale(t, z.mnt, k.gone)
	for inside, h := range k.dirs {
		dir, err := openHandle(z.mnt, h, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			t.Errorf("directory with %s: %v", inside, err)
			continue
		}
		names, err := dir.Readdirnames(-1)
		if err != nil || !strings.Contains("\n"+strings.Join(names, "\n")+"\n", "\n"+inside+"\n") {
			t.Errorf("directory with %s lists %q, %v", inside, names, err)
		}
		// Its path in the kernel is connected up to the root.
		var up, root unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), strings.Repeat("../", 6), &up, 0); err != nil {
			t.Errorf("directory with %s has no parents: %v", inside, err)
		}
		if err := unix.Stat(z.mnt, &root); err != nil {
			t.Error(err)
		}
		dir.Close()
	}
	link, err := openHandle(z.mnt, k.link, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		t.Errorf("symlink: %v", err)
		return
	}
	defer link.Close()
	buf := make([]byte, 100)
	if n, err := unix.Readlinkat(int(link.Fd()), "", buf); err != nil || string(buf[:max(n, 0)]) != "a/b" {
		t.Errorf("symlink: %q, %v", buf[:max(n, 0)], err)
	}
}

// A handle means the same file for as long as the file exists: after the kernel
// forgot it, after a restart and after a kill.
func TestHandlesOfEveryKind(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			z := newZone(t, on(newDepot(t)), way.set)
			k := takeAll(z)
			t.Run("at once", func(t *testing.T) { k.check(t, z) })
			forgetAll(t)
			t.Run("after drop_caches", func(t *testing.T) { k.check(t, z) })
			z.remount()
			forgetAll(t)
			t.Run("after a restart", func(t *testing.T) { k.check(t, z) })
			z.kill()
			z.mount()
			t.Run("after a kill", func(t *testing.T) { k.check(t, z) })
			f, err := openHandle(z.mnt, k.files["a/b/remote"], unix.O_RDWR)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("written by handle"), 100); err != nil {
				t.Error(err)
			}
			f.Close()
			copy(k.bodies["a/b/remote"][100:], "written by handle")
			holds(t, z.path("a/b/remote"), k.bodies["a/b/remote"])
		})
	}
}

// Handles that were given out before the state directory was lost mean nothing; they
// never mean another file, however many there are by then.
func TestHandlesAfterStateLoss(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	var old []unix.FileHandle
	for i := range 300 {
		name := z.path(fmt.Sprintf("d%d/f%d", i%10, i))
		put(t, name, []byte(name))
		old = append(old, takeHandle(t, name))
	}
	for i := range 10 {
		old = append(old, takeHandle(t, z.path(fmt.Sprintf("d%d", i))))
	}
	z.umount()
	if err := os.RemoveAll(z.state); err != nil {
		t.Fatal(err)
	}
	z.mount()
	for i := range 300 {
		put(t, z.path(fmt.Sprintf("new%d", i)), []byte("new"))
	}
	if err := filepath.WalkDir(z.mnt, func(path string, _ os.DirEntry, err error) error { return err }); err != nil {
		t.Fatal(err)
	}
	for _, h := range old {
		stale(t, z.mnt, h)
	}
	forgetAll(t)
	for _, h := range old {
		stale(t, z.mnt, h)
	}
}

// A handle that says which directory a file is in (as knfsd's do with subtree_check)
// connects it there.
func TestHandlesWithParents(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	put(t, z.path("a/b/file"), []byte("file"))
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, z.path("a/b/file"), handleConnectable)
	if errors.Is(err, unix.EINVAL) {
		t.Logf("this kernel gives no such handles to programs (Linux 6.13 does): only the others are tried")
		h = takeHandle(t, z.path("a/b/file"))
	} else if err != nil {
		t.Fatal(err)
	}
	for _, restart := range []bool{false, true} {
		if restart {
			z.remount()
		}
		forgetAll(t)
		f, err := openHandle(z.mnt, h, unix.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err == nil && got != z.path("a/b/file") && got != "/" {
			t.Errorf("the file is at %s, want %s", got, z.path("a/b/file"))
		}
		f.Close()
		byHandle(t, z.mnt, h, []byte("file"))
	}
}

// handleConnectable is AT_HANDLE_CONNECTABLE of Linux 6.13.
const handleConnectable = 0x002
