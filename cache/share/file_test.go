package share_test

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"depotfs/cache/share"
)

func nothing(io.Writer) error { return nil }

// within fails a test whose step hangs: opening a FIFO would.
func within(t *testing.T, d time.Duration, step func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); step() }()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatal("blocked")
	}
}

func TestOpensRegularFilesAlone(t *testing.T) {
	s, dir := open(t)
	must(t, s.Mknod("fifo", unix.S_IFIFO|0o666, 0))
	must(t, s.Mknod("socket", unix.S_IFSOCK|0o666, 0))
	must(t, s.Mkdir("dir", 0o755))
	must(t, s.Symlink("plain", "link"))
	put(t, s, "plain", "x")
	want := map[string]error{"fifo": unix.ENXIO, "socket": unix.ENXIO, "dir": unix.EISDIR, "link": unix.ELOOP, "plain": nil}
	if os.Geteuid() == 0 {
		// /dev/null's number: had it been opened, writing would work.
		if err := s.Mknod("device", unix.S_IFCHR|0o666, uint32(unix.Mkdev(1, 3))); err == nil {
			want["device"] = unix.ENXIO
		}
	}
	for name, errno := range want {
		for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR | unix.O_CREAT, unix.O_RDWR | unix.O_TRUNC} {
			within(t, 2*time.Minute, func() {
				f, err := s.OpenFile(name, flags, 0o644)
				if err == nil {
					f.Close()
				}
				if !errors.Is(err, errno) {
					t.Errorf("open %s with %#o: got %v, want %v", name, flags, err, errno)
				}
			})
		}
	}
	// As a place to look at, everything can be opened.
	for name := range want {
		f, err := s.OpenFile(name, unix.O_PATH, 0)
		must(t, err)
		st, err := s.StatFile(f, false)
		must(t, err)
		byName, err := s.Stat(name)
		must(t, err)
		if st.Ino != byName.Ino {
			t.Errorf("%s: another inode", name)
		}
		f.Close()
	}
	f, err := s.OpenFile("dir", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	f.Close()
	if _, err := s.OpenFile("plain", unix.O_RDONLY|unix.O_DIRECTORY, 0); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file opened as directory: %v", err)
	}
	_ = dir
}

func TestOpenFlags(t *testing.T) {
	s, dir := open(t)
	f, err := s.OpenFile("new", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o751)
	must(t, err)
	_, err = f.WriteString("hello")
	must(t, err)
	fi, err := os.Stat(filepath.Join(dir, "new"))
	must(t, err)
	if mode := fi.Sys().(*syscall.Stat_t).Mode; mode != unix.S_IFREG|0o751 {
		t.Errorf("mode %o", mode)
	}
	raw, err := f.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Error("stays open over exec")
		}
		if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Error("is not blocking")
		}
	}))
	must(t, f.Close())
	if _, err := s.OpenFile("new", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0); !errors.Is(err, iofs.ErrExist) {
		t.Errorf("O_EXCL over a file: %v", err)
	}
	f, err = s.OpenFile("new", unix.O_RDWR|unix.O_CREAT, 0)
	must(t, err)
	b, err := io.ReadAll(f)
	if err != nil || string(b) != "hello" {
		t.Errorf("O_CREAT over a file: %q %v", b, err)
	}
	must(t, f.Close())
	f, err = s.OpenFile("new", unix.O_RDWR|unix.O_TRUNC, 0)
	must(t, err)
	must(t, f.Close())
	if got := get(t, s, "new"); got != "" {
		t.Errorf("after O_TRUNC: %q", got)
	}
}

// Many make and remove one name: nobody sees EEXIST or ENOENT without cause.
func TestOpenCreateRace(t *testing.T) {
	s, _ := open(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 300 {
				f, err := s.OpenFile("x", unix.O_RDWR|unix.O_CREAT, 0o600)
				if err != nil {
					t.Error(err)
					return
				}
				f.Close()
				if err := s.Unlink("x"); err != nil && !errors.Is(err, iofs.ErrNotExist) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestAttributes(t *testing.T) {
	s, dir := open(t)
	put(t, s, "f", "12345")
	must(t, s.Mkdir("d", 0o755))
	must(t, s.Mknod("p", unix.S_IFIFO|0o600, 0))
	must(t, s.Symlink("f", "l"))
	for _, name := range []string{"f", "d", "p"} {
		must(t, s.Chmod(name, 0o4751))
		if st, err := s.Stat(name); err != nil || st.Mode&0o7777 != 0o4751 {
			t.Errorf("%s: mode %o %v", name, st.Mode, err)
		}
	}
	if err := s.Chmod("l", 0o600); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("chmod of a symlink: %v", err)
	}
	times := func(rel string) [2]int64 {
		st, err := s.Stat(rel)
		must(t, err)
		return [2]int64{st.Atime, st.Mtime}
	}
	before := times("f")
	at, mt := int64(-1_500_000_000), int64(1_700_000_000_123_456_789)
	for _, name := range []string{"f", "d", "p", "l"} {
		must(t, s.Utimes(name, &at, &mt))
		if got := times(name); got != [2]int64{at, mt} {
			t.Errorf("%s: times %v", name, got)
		}
	}
	must(t, s.Utimes("f", nil, nil))
	if got := times("f"); got != [2]int64{at, mt} {
		t.Errorf("nil changed times: %v", got)
	}
	now := share.UtimeNow
	must(t, s.Utimes("f", nil, &now))
	if got := times("f"); got[0] != at || got[1] < before[1] {
		t.Errorf("now: times %v", got)
	}
	f, err := s.OpenFile("f", unix.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, s.Unlink("f"))
	one, two := int64(1), int64(2)
	must(t, s.UtimesFile(f, &one, &two))
	must(t, s.UtimesFile(f, nil, nil))
	st, err := s.StatFile(f, true)
	must(t, err)
	if st.Atime != 1 || st.Mtime != 2 || st.Nlink != 0 || st.Size != 5 {
		t.Errorf("unlinked open file: %+v", st)
	}
	if stamp := st.Stamp(); stamp.Ino != st.Ino || stamp.Size != 5 || stamp.Mtime != 2 || stamp.Ctime != st.Ctime {
		t.Errorf("stamp %+v of %+v", stamp, st)
	}
	if os.Geteuid() == 0 {
		must(t, s.Chown("l", 12, 34))
		must(t, s.Chown("l", -1, 35))
		var sys syscall.Stat_t
		must(t, syscall.Lstat(filepath.Join(dir, "l"), &sys))
		if sys.Uid != 12 || sys.Gid != 35 {
			t.Errorf("owner of the symlink: %d:%d", sys.Uid, sys.Gid)
		}
	}
	if got, err := s.Readlink("l"); err != nil || got != "f" {
		t.Errorf("readlink: %q %v", got, err)
	}
}

func TestRenameFlags(t *testing.T) {
	s, _ := open(t)
	put(t, s, "a", "a")
	put(t, s, "b", "b")
	if err := s.Rename("a", "b", share.NoReplace); !errors.Is(err, iofs.ErrExist) {
		t.Errorf("NoReplace over a file: %v", err)
	}
	must(t, s.Rename("a", "b", share.Exchange))
	if get(t, s, "a") != "b" || get(t, s, "b") != "a" {
		t.Error("Exchange did not")
	}
	must(t, s.Rename("a", "b", 0))
	if get(t, s, "b") != "b" {
		t.Error("rename over did not")
	}
	must(t, s.MkdirAll("d/e", 0o755))
	if err := s.Rename("d", "d/e/f", share.NoReplace); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a directory into itself: %v", err)
	}
	if err := s.Rename("none", "x", share.NoReplace); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("nothing renamed: %v", err)
	}
}

func TestReadDir(t *testing.T) {
	s, _ := open(t)
	must(t, s.Mkdir("many", 0o755))
	var want []string
	for i := range 3000 { // several buffers
		name := fmt.Sprintf("many/file-with-a-rather-long-name-%04d", i)
		put(t, s, name, "")
		want = append(want, filepath.Base(name))
	}
	if got := names(t, s, "many"); !slices.Equal(got, want) {
		t.Errorf("got %d names, want %d", len(got), len(want))
	}
	must(t, s.Mkdir("types", 0o755))
	must(t, s.Mkdir("types/dir", 0o755))
	must(t, s.Symlink("x", "types/link"))
	must(t, s.Mknod("types/fifo", unix.S_IFIFO|0o600, 0))
	put(t, s, "types/file", "")
	types := map[string]uint32{"dir": unix.S_IFDIR, "link": unix.S_IFLNK, "fifo": unix.S_IFIFO, "file": unix.S_IFREG}
	must(t, s.ReadDir("types", func(name string, ino uint64, typ uint32) error {
		st, err := s.Stat("types/" + name)
		must(t, err)
		if types[name] != typ || st.Ino != ino || st.Type() != typ {
			t.Errorf("%s: type %o inode %d, stat says %o %d", name, typ, ino, st.Type(), st.Ino)
		}
		return nil
	}))
	stop := errors.New("enough")
	calls := 0
	if err := s.ReadDir("many", func(string, uint64, uint32) error { calls++; return stop }); err != stop || calls != 1 {
		t.Errorf("after an error: %v, %d calls", err, calls)
	}
	if err := s.ReadDir("types/file", nil); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("readdir of a file: %v", err)
	}
}

func TestMkdirAll(t *testing.T) {
	s, _ := open(t)
	must(t, s.MkdirAll("", 0o755))
	must(t, s.MkdirAll("a/b/c", 0o751))
	must(t, s.MkdirAll("a/b/c", 0o700))
	if st, _ := s.Stat("a/b"); st.Mode != unix.S_IFDIR|0o751 {
		t.Errorf("mode %o", st.Mode)
	}
	put(t, s, "a/f", "")
	for _, rel := range []string{"a/f", "a/f/x"} {
		if err := s.MkdirAll(rel, 0o755); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("MkdirAll(%q) over a file: %v", rel, err)
		}
	}
}

func TestRemoveAllStaysInPrivate(t *testing.T) {
	s, dir := open(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "kept"), nil, 0o600))
	must(t, s.MkdirAll(share.Private+"/evict/d/e", 0o755))
	must(t, os.Symlink(outside, filepath.Join(dir, share.Private, "evict/d/out")))
	put(t, s, share.Private+"/evict/d/e/f", "")
	put(t, s, "precious", "")
	for _, rel := range []string{"", "precious", share.Private, share.Private + "/", share.Private + "/../precious", share.Private + "x/y"} {
		if err := s.RemoveAll(rel); err == nil {
			t.Errorf("RemoveAll(%q) worked", rel)
		}
	}
	must(t, s.RemoveAll(share.Private+"/evict/d"))
	must(t, s.RemoveAll(share.Private+"/evict/d"))
	if got := names(t, s, share.Private+"/evict"); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil {
		t.Errorf("followed a symlink out: %v", err)
	}
	get(t, s, "precious")
}

func TestReplaceFileIsAtomic(t *testing.T) {
	broken := errors.New("broken")
	for _, step := range []string{"open", "write", "fsync", "rename", ""} {
		t.Run("broken at "+step, func(t *testing.T) {
			on := false
			s, _ := openWith(t, share.Options{Fault: func(op, _, _ string) error {
				if on && op == step {
					return broken
				}
				return nil
			}})
			put(t, s, "f", "old")
			on = true
			err := s.ReplaceFile("f", 0o600, func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err })
			on = false
			want := "new"
			if step != "" {
				want = "old"
				if !errors.Is(err, broken) {
					t.Errorf("got %v", err)
				}
			} else if err != nil {
				t.Error(err)
			}
			if got := get(t, s, "f"); got != want {
				t.Errorf("content %q, want %q", got, want)
			}
			if got := names(t, s, ""); len(got) != 1 {
				t.Errorf("left over: %q", got)
			}
		})
	}
}

func TestReadFileIsBounded(t *testing.T) {
	s, _ := open(t)
	put(t, s, "f", "12345")
	if _, err := s.ReadFile("f", 4); !errors.Is(err, unix.EFBIG) {
		t.Errorf("got %v", err)
	}
	if b, err := s.ReadFile("f", 5); err != nil || string(b) != "12345" {
		t.Errorf("got %q %v", b, err)
	}
}

func TestClone(t *testing.T) {
	s, _ := open(t)
	put(t, s, "f", "content")
	f, err := s.OpenFile("f", unix.O_RDONLY, 0)
	must(t, err)
	defer f.Close()
	switch err := s.Clone(f, "clone"); {
	case err == nil:
		if got := get(t, s, "clone"); got != "content" {
			t.Errorf("the clone has %q", got)
		}
	case errors.Is(err, unix.EOPNOTSUPP):
		if got := names(t, s, ""); !slices.Equal(got, []string{"f"}) {
			t.Errorf("left over: %q", got)
		}
	default:
		t.Error(err)
	}
	put(t, s, "there", "kept")
	if err := s.Clone(f, "there"); !errors.Is(err, iofs.ErrExist) || get(t, s, "there") != "kept" {
		t.Errorf("clone over a file: %v", err)
	}
}

func TestLock(t *testing.T) {
	s, dir := open(t)
	must(t, s.MakePrivate())
	l, err := s.Lock(share.LockPath)
	must(t, err)
	if _, err := s.Lock(share.LockPath); !errors.Is(err, share.ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	other, err := share.Open(dir, share.Options{})
	must(t, err)
	defer other.Close()
	if _, err := other.Lock(share.LockPath); !errors.Is(err, share.ErrLocked) {
		t.Errorf("locked through another Share: %v", err)
	}
	if flock, err := exec.LookPath("flock"); err == nil {
		if exec.Command(flock, "-n", filepath.Join(dir, share.LockPath), "true").Run() == nil {
			t.Error("another process got the lock")
		}
	}
	must(t, l.Close())
	l, err = other.Lock(share.LockPath)
	must(t, err)
	must(t, l.Close())
}

func TestNowIsTheSharesClock(t *testing.T) {
	s, _ := open(t)
	var last int64
	for range 3 { // the first makes the file
		now, err := s.Now()
		must(t, err)
		put(t, s, "f", "")
		must(t, s.Utimes("f", nil, nil))
		st, err := s.StatSync("f")
		must(t, err)
		if now < last || st.Mtime < now || st.Mtime-now > int64(time.Minute) {
			t.Errorf("clock says %d after %d, a new file %d", now, last, st.Mtime)
		}
		last = now
	}
}

func TestStatfs(t *testing.T) {
	s, dir := open(t)
	got, err := s.Statfs()
	must(t, err)
	var want unix.Statfs_t
	must(t, unix.Statfs(dir, &want))
	if got.Total != int64(want.Blocks)*want.Frsize || got.Total <= 0 || got.Free < got.Avail || got.NameLen != 255 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
