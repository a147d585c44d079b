package fs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"depotfs/cache"
)

func modeOf(t testing.TB, path string) uint32 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Mode & 07777
}

// Who writes to a program that runs as somebody else takes that right from it.
func TestSetIDBitsGo(t *testing.T) {
	needRoot(t)
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		nobody := func(script string) {
			t.Helper()
			cmd := exec.Command("sh", "-c", script)
			cmd.Dir = m.dir
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", script, err, out)
			}
		}
		for _, tc := range []struct {
			name   string
			absent bool
			do     func(path string)
			want   uint32
		}{
			{"another user appends", false, func(path string) { nobody("echo x >> " + path) }, 0o777},
			{"another user truncates", false, func(path string) { nobody(": > " + path) }, 0o777},
			{"another user sets the length", false, func(path string) { nobody("truncate -s 3 " + path) }, 0o777},
			{"another user writes what is not here", true, func(path string) { nobody("echo x >> " + path) }, 0o777},
			{"another user reads", false, func(path string) { nobody("cat " + path) }, 0o6777},
			{"root writes", false, func(path string) {
				if err := os.WriteFile(path, []byte("x"), 0); err != nil {
					t.Fatal(err)
				}
			}, 0o6777},
			{"a new owner", false, func(path string) {
				if err := os.Chown(path, 1000, 1000); err != nil {
					t.Fatal(err)
				}
			}, 0o777},
			{"a new owner of a directory", false, func(path string) {
				if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o777), syscall.Chmod(path, 0o2777), os.Chown(path, 1000, 1000)); err != nil {
					t.Fatal(err)
				}
			}, 0o2777},
		} {
			t.Run(tc.name, func(t *testing.T) {
				path := m.write(t, "prog", "hello")
				if err := syscall.Chmod(path, 0o6777); err != nil {
					t.Fatal(err)
				}
				m.settle(t)
				l.setAbsent(tc.absent)
				defer l.setAbsent(false)
				tc.do(path)
				if got := modeOf(t, path); got != tc.want {
					t.Errorf("got mode %o, want %o", got, tc.want)
				}
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
}

func TestRenameFlags(t *testing.T) {
	m := mount(t, newLoopback(t), Options{})
	a, b := m.write(t, "a", "A"), m.write(t, "b", "B")
	rename := func(flags uint) error { return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, flags) }
	if err := rename(unix.RENAME_NOREPLACE); err != unix.EEXIST {
		t.Errorf("no replace: got %v, want EEXIST", err)
	}
	if err := rename(unix.RENAME_EXCHANGE); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(a); string(got) != "B" {
		t.Errorf("after the exchange a has %q", got)
	}
	if err := rename(unix.RENAME_WHITEOUT); err != unix.EINVAL && err != unix.EPERM {
		t.Errorf("whiteout: got %v, want EINVAL", err)
	}
	if err := rename(0); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(b); string(got) != "B" {
		t.Errorf("after rename over it b has %q", got)
	}
}

func TestCopyPunchSeek(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		src := open(t, m.path("src"), os.O_CREATE|os.O_RDWR)
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<18/16)
		if _, err := src.WriteAt(want, 0); err != nil {
			t.Fatal(err)
		}
		dst := open(t, m.path("dst"), os.O_CREATE|os.O_RDWR)
		var off, to int64
		for off < int64(len(want)) {
			n, err := unix.CopyFileRange(int(src.Fd()), &off, int(dst.Fd()), &to, len(want), 0)
			if err != nil || n == 0 {
				t.Fatalf("copy at %d: %d, %v", off, n, err)
			}
		}
		if l.count("copy") == 0 {
			t.Error("the heart was not asked to copy")
		}
		if got, err := os.ReadFile(m.path("dst")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the copy differs (%d bytes, %v)", len(got), err)
		}
		if err := unix.Fallocate(int(dst.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 65536, 65536); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 65536)
		if _, err := dst.ReadAt(got, 65536); err != nil || !bytes.Equal(got, make([]byte, 65536)) {
			t.Errorf("the hole has bytes, %v", err)
		}
		if hole, err := unix.Seek(int(dst.Fd()), 0, unix.SEEK_HOLE); err != nil || hole != 65536 {
			t.Errorf("the hole is at %d, %v; want 65536", hole, err)
		}
		if data, err := unix.Seek(int(dst.Fd()), 65536, unix.SEEK_DATA); err != nil || data != 131072 {
			t.Errorf("data goes on at %d, %v; want 131072", data, err)
		}
		if err := unix.Fdatasync(int(dst.Fd())); err != nil || l.count("fdatasync") != 1 || l.count("fsync") != 0 {
			t.Errorf("fdatasync: %v, %d and %d calls", err, l.count("fdatasync"), l.count("fsync"))
		}
		if err := dst.Sync(); err != nil || l.count("fsync") != 1 {
			t.Errorf("fsync: %v, %d calls", err, l.count("fsync"))
		}
		d := open(t, m.dir, os.O_RDONLY)
		if err := d.Sync(); err != nil || l.count("syncdir") != 1 {
			t.Errorf("fsync of a directory: %v, %d calls", err, l.count("syncdir"))
		}
		if _, err := unix.IoctlGetInt(int(dst.Fd()), unix.FS_IOC_GETFLAGS); err != unix.ENOTTY {
			t.Errorf("ioctl: got %v, want ENOTTY", err)
		}
	})
}

func TestXattrsThatNobodyKeeps(t *testing.T) {
	m := mount(t, newLoopback(t), Options{})
	path := m.write(t, "x", "")
	for _, name := range []string{"security.capability", "system.posix_acl_access"} {
		if err := unix.Setxattr(path, name, make([]byte, 20), 0); err == nil {
			t.Errorf("set %s: accepted, though nobody would ever see it", name)
		}
	}
	if err := unix.Setxattr(path, "user.a", []byte("value"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Getxattr(path, "user.a", make([]byte, 3)); err != unix.ERANGE {
		t.Errorf("a buffer that is too small: got %v, want ERANGE", err)
	}
	if n, err := unix.Getxattr(path, "user.a", nil); err != nil || n != 5 {
		t.Errorf("size: got %d, %v; want 5", n, err)
	}
	if _, err := unix.Listxattr(path, make([]byte, 3)); err != unix.ERANGE {
		t.Errorf("a list that is too small: got %v, want ERANGE", err)
	}
}

// A name that is replaced again and again can be opened at any time, or is said to
// be missing; nobody is told ESTALE.
func TestOpenWhileTheNameIsReplaced(t *testing.T) {
	m, _ := mountCache(t, Options{})
	path := m.write(t, "x", "data")
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			err := os.WriteFile(path+".new", []byte("data"), 0o644)
			if err == nil {
				err = os.Rename(path+".new", path)
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	missing := 0
	for range 1000 {
		data, err := os.ReadFile(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			missing++
		case err != nil || string(data) != "data":
			t.Fatalf("got %q, %v", data, err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if missing > 100 {
		t.Errorf("missing %d times of 1000, although a file always has the name", missing)
	}
	t.Logf("missing %d times of 1000", missing)
}

// A bug in one request is an error of that request.
func TestPanicIsEIO(t *testing.T) {
	l := newLoopback(t)
	m := mount(t, l, Options{AttrTimeout: -1})
	path := m.write(t, "x", "")
	l.change(func() { l.onAttr = func(ino cache.Ino) { panic("a bug") } })
	if _, err := os.Stat(path); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
	l.change(func() { l.onAttr = nil })
	if _, err := os.Stat(path); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if log := m.log.all(); !strings.Contains(log, "a bug") || !strings.Contains(log, "file_test.go") {
		t.Errorf("the log has no cause and stack: %s", log)
	}
}
