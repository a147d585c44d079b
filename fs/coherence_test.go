package fs

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// open opens a file in the mount until the test ends.
func open(t testing.TB, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sizeElsewhere is what another process sees.
func sizeElsewhere(t testing.TB, path string) int64 {
	t.Helper()
	out, err := exec.Command("stat", "-c", "%s", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestHandlesSeeEachOther(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		path := m.write(t, "x", "hello")
		a, b := open(t, path, os.O_RDWR), open(t, path, os.O_RDONLY)
		for i := range 20 {
			want := bytes.Repeat([]byte{byte('a' + i)}, 5000+i)
			if _, err := a.WriteAt(want, 0); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want))
			if _, err := b.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("round %d: the second handle does not see what the first wrote (%v)", i, err)
			}
			if st, err := os.Stat(path); err != nil || st.Size() != int64(len(want)) {
				t.Fatalf("round %d: stat says %d bytes (%v), want %d", i, st.Size(), err, len(want))
			}
		}
		if got := sizeElsewhere(t, path); got != 5019 {
			t.Errorf("another process sees %d bytes, want 5019", got)
		}
		if err := os.Truncate(path, 3); err != nil {
			t.Fatal(err)
		}
		if n, _ := b.ReadAt(make([]byte, 10), 0); n != 3 {
			t.Errorf("after truncate by name an open handle reads %d bytes, want 3", n)
		}
		if err := a.Truncate(100); err != nil {
			t.Fatal(err)
		}
		if got := sizeElsewhere(t, path); got != 100 {
			t.Errorf("after truncate by handle another process sees %d bytes, want 100", got)
		}
		c := open(t, path, os.O_WRONLY|os.O_TRUNC)
		if st, err := b.Stat(); err != nil || st.Size() != 0 {
			t.Errorf("after O_TRUNC: size %d (%v), want 0", st.Size(), err)
		}
		if _, err := c.WriteString("new"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 10)
		if n, _ := b.ReadAt(got, 0); string(got[:n]) != "new" {
			t.Errorf("after O_TRUNC and a write: got %q, want %q", got[:n], "new")
		}
	})
}

func TestAppendersDoNotOverwrite(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		path := m.write(t, "log", "")
		a, b := open(t, path, os.O_WRONLY|os.O_APPEND), open(t, path, os.O_WRONLY|os.O_APPEND)
		var want string
		for i := range 50 {
			f, s := a, "a"+strconv.Itoa(i)
			if i%2 == 1 {
				f, s = b, "b"+strconv.Itoa(i)
			}
			if _, err := f.WriteString(s); err != nil {
				t.Fatal(err)
			}
			want += s
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("got %q (%v), want %q", got, err, want)
		}
	})
}

func TestMappingsAndReads(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		path := m.write(t, "x", strings.Repeat("-", 8192))
		a := open(t, path, os.O_RDWR)
		mem := mapElsewhere(t, path)
		mem.set(5000, 'X')
		got := make([]byte, 1)
		if _, err := a.ReadAt(got, 5000); err != nil || got[0] != 'X' {
			t.Errorf("a read does not see the store through a mapping: %q, %v", got, err)
		}
		if _, err := a.WriteAt([]byte("Y"), 6000); err != nil {
			t.Fatal(err)
		}
		if got := mem.get(6000); got != "Y" {
			t.Errorf("the mapping does not see a write: %q", got)
		}
		mem.set(7000, 'Z')
		mem.sync()
		if data, err := os.ReadFile(l.file(101).Name()); err != nil || data[5000] != 'X' || data[6000] != 'Y' || data[7000] != 'Z' {
			t.Errorf("the share does not have what was stored and synced (%v)", err)
		}
	})
}

// mmap maps a file that passes through: its faults come to no daemon.
func mmap(t testing.TB, f *os.File, size int) []byte {
	t.Helper()
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatalf("mmap: %v", err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem
}

func TestPassthroughSendsNothingHere(t *testing.T) {
	l := newLoopback(t)
	m := mount(t, l, Options{})
	requirePassthrough(t, m)
	f := open(t, m.path("x"), os.O_CREATE|os.O_RDWR)
	for i := range 100 {
		if _, err := f.WriteAt([]byte("data"), int64(i)*4096); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(make([]byte, 4), int64(i)*4096); err != nil {
			t.Fatal(err)
		}
	}
	if r, w, x := l.count("read"), l.count("write"), l.count("getxattr"); r != 0 || w != 0 || x != 0 {
		t.Errorf("got %d reads, %d writes, %d questions for attributes; want none", r, w, x)
	}
	data, err := os.ReadFile(l.file(101).Name())
	if err != nil || len(data) != 99*4096+4 || string(data[4096:4100]) != "data" {
		t.Errorf("the share has %d bytes (%v)", len(data), err)
	}
}

func TestOpenFileWithoutName(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		path := m.write(t, "x", "hello")
		f := open(t, path, os.O_RDWR)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("J"), 0); err != nil {
			t.Fatal(err)
		}
		var st syscall.Stat_t
		if err := syscall.Fstat(int(f.Fd()), &st); err != nil || st.Nlink != 0 || st.Size != 5 {
			t.Errorf("fstat: %d links, %d bytes, %v; want 0, 5", st.Nlink, st.Size, err)
		}
		got := make([]byte, 5)
		if _, err := f.ReadAt(got, 0); err != nil || string(got) != "Jello" {
			t.Errorf("got %q, %v", got, err)
		}
		if err := f.Truncate(2); err != nil {
			t.Errorf("truncate: %v", err)
		}
		if err := f.Sync(); err != nil {
			t.Errorf("fsync: %v", err)
		}
	})
}
