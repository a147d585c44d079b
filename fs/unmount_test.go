package fs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func isMounted(t testing.TB, dir string) bool {
	t.Helper()
	return mountLine(t, dir) != ""
}

// mountLine is the line of /proc/self/mountinfo for dir.
func mountLine(t testing.TB, dir string) string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); f[4] == dir {
			return line
		}
	}
	return ""
}

func TestUnmountSaysBusy(t *testing.T) {
	m := mount(t, newLoopback(t), Options{})
	f := open(t, m.write(t, "x", "hello"), os.O_RDWR)
	if err := m.Unmount(); !errors.Is(err, syscall.EBUSY) {
		t.Fatalf("got %v, want EBUSY", err)
	}
	if got, err := os.ReadFile(m.path("x")); err != nil || string(got) != "hello" {
		t.Errorf("after a refused unmount: got %q, %v", got, err)
	}
	f.Close()
	if err := m.Unmount(); err != nil {
		t.Fatalf("right after the last close: %v", err)
	}
	<-m.Done()
	<-m.done
	if isMounted(t, m.dir) || m.err != nil {
		t.Errorf("still mounted, or Serve failed: %v", m.err)
	}
	if err := m.Unmount(); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func TestDetachLetsUsersFinish(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			m := mount(t, newLoopback(t), Options{Passthrough: mode.mode})
			f := open(t, m.write(t, "x", "hello"), os.O_RDWR)
			if err := m.Detach(); err != nil {
				t.Fatal(err)
			}
			if isMounted(t, m.dir) {
				t.Error("still in the tree")
			}
			if _, err := f.WriteAt([]byte("J"), 0); err != nil {
				t.Errorf("write: %v", err)
			}
			if err := f.Sync(); err != nil {
				t.Errorf("fsync: %v", err)
			}
			select {
			case <-m.Done():
				t.Error("gone while a file is open")
			default:
			}
			f.Close()
			<-m.Done()
		})
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT ROOT: only root can end a mount under its users; Serve says how many are left")
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			m := mount(t, newLoopback(t), Options{Passthrough: mode.mode, BusyWait: 50 * time.Millisecond})
			f := open(t, m.write(t, "x", "hello"), os.O_RDWR)
			m.stop()
			<-m.done
			if m.err != nil || isMounted(t, m.dir) {
				t.Errorf("got %v, mounted %v", m.err, isMounted(t, m.dir))
			}
			if err := f.Sync(); err == nil {
				t.Error("fsync of a file whose mount is gone says all is well")
			}
			if !strings.Contains(m.log.all(), "busy") {
				t.Error("nothing in the log says why")
			}
		})
	}
}

func TestMountFromOutsideEndsServe(t *testing.T) {
	m := mount(t, newLoopback(t), Options{})
	if err := syscall.Unmount(m.dir, 0); err != nil {
		t.Skip("NOT ROOT: umount(2) is not for us")
	}
	<-m.done
	if m.err != nil {
		t.Error(m.err)
	}
}

func TestWhatTheSystemSeesOfTheMount(t *testing.T) {
	m := mount(t, newLoopback(t), Options{FsName: "zone-a"})
	line := mountLine(t, m.dir)
	_, after, _ := strings.Cut(line, " - ")
	if f := strings.Fields(after); len(f) < 3 || f[0] != "fuse.depotfs" || f[1] != "zone-a" || !strings.Contains(f[2], "default_permissions") {
		t.Errorf("mountinfo: %s", line)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(m.dir, &st); err != nil || uint64(st.Bsize)*st.Blocks != 1<<50 || st.Frsize != st.Bsize || st.Namelen != 255 {
		t.Errorf("statfs: %+v, %v", st, err)
	}
}

func TestMountRefuses(t *testing.T) {
	m := mount(t, newLoopback(t), Options{})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, path, says string }{
		{"a mount", m.dir, "in use"},
		{"a file", file, "not a directory"},
		{"nothing", file + "x", "no such file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := New(Options{Mountpoint: tc.path})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Mount(t.Context(), newLoopback(t)); err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tc.says)
			}
		})
	}
	for _, o := range []Options{{}, {Mountpoint: m.dir, Passthrough: "maybe"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}
