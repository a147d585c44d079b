package fs

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
)

// change runs fn on what the heart knows, behind the kernel's back.
func (l *loopback) change(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
}

// remembers says whether the kernel answers from memory, which ok finds out. Whoever
// needs memory on this machine, or drops its caches, may take that from it at any
// time: what it does keep it keeps in one of a few attempts.
func remembers(ok func() bool) bool {
	for range 20 {
		if ok() {
			return true
		}
	}
	return false
}

// writeSecretly writes to a file in the share; its times do not give it away.
func (l *loopback) writeSecretly(t testing.TB, ino cache.Ino, data string) {
	t.Helper()
	f := l.file(ino)
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(data), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(f.Name(), time.Time{}, st.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// In gateway the kernel keeps what it knows until it is told, and then forgets.
func TestKernelForgetsWhatItIsTold(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		path := m.write(t, "x", "old")
		other := m.write(t, "y", "other")
		m.settle(t)
		ino := func(path string) uint64 {
			var st syscall.Stat_t
			if err := syscall.Stat(path, &st); err != nil {
				return 0
			}
			return st.Ino
		}
		mode := func() os.FileMode {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			return st.Mode()
		}
		x, y := ino(path), ino(other)
		asked := func() int { return l.count("lookup") + l.count("attr") }
		if !remembers(func() bool { mode(); before := asked(); mode(); return asked() == before }) {
			t.Error("the kernel asks for what it knows")
		}

		chmod := func(mode uint32) {
			l.change(func() { l.nodes[cache.Ino(x)].attr.Mode = syscall.S_IFREG | mode })
		}
		if !remembers(func() bool { old := mode(); chmod(uint32(old ^ 0o007)); return mode() == old }) {
			t.Error("untold of a new mode the kernel does not show the old one")
		}
		chmod(0o600)
		m.InodeChanged(cache.Ino(x))
		waitFor(t, "the new mode", func() bool { return mode() == 0o600 })

		change := func(ino uint64) { l.change(func() { l.nodes[1].entries[0].Ino = cache.Ino(ino) }) }
		if !remembers(func() bool { old := ino(path); change(x + y - old); return ino(path) == old }) {
			t.Error("untold of a new inode the kernel does not show the old one")
		}
		change(y)
		m.EntryChanged(1, "x")
		waitFor(t, "the new inode", func() bool { return ino(path) == y })

		l.change(func() { l.nodes[1].entries = l.nodes[1].entries[1:] })
		m.EntryChanged(1, "x")
		waitFor(t, "the name is gone", func() bool { return ino(path) == 0 })
		l.change(func() {
			l.nodes[1].entries = append(l.nodes[1].entries, cache.DirEntry{Name: "x", Ino: cache.Ino(x), Type: syscall.S_IFREG, Cookie: 999})
		})
		if got := ino(path); got != x {
			t.Errorf("a name that was missing: got inode %d at once, want %d: missing names must not be kept", got, x)
		}
	})
}

// Pages that the kernel keeps go with the file they are of.
func TestKernelForgetsPages(t *testing.T) {
	l := newLoopback(t)
	m := mount(t, l, Options{Passthrough: Off, Deploy: cache.Gateway})
	path := m.write(t, "x", strings.Repeat("o", 100))
	m.settle(t)
	read := func() string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data[:3])
	}
	if !remembers(func() bool { read(); before := l.count("read"); read(); return l.count("read") == before }) {
		t.Error("a second open reads what the kernel keeps")
	}
	l.writeSecretly(t, 101, "NEW")
	m.InodeChanged(101)
	waitFor(t, "the new bytes", func() bool { return read() == "NEW" })
}

// Beside, hypervisors write to the share: an open sees what was there when it came.
func TestBesideOpensAfresh(t *testing.T) {
	l := newLoopback(t)
	m := mount(t, l, Options{Passthrough: Off, Deploy: cache.Beside})
	path := m.write(t, "x", "old")
	m.settle(t)
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Fatalf("got %q, %v", got, err)
	}
	l.writeSecretly(t, 101, "NEW")
	if got, err := os.ReadFile(path); err != nil || string(got) != "NEW" {
		t.Errorf("got %q, %v; want what is in the share", got, err)
	}
}

func TestTimeouts(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   Options
		want time.Duration
	}{
		{"gateway", Options{Deploy: cache.Gateway}, time.Hour},
		{"gateway, asked", Options{Deploy: cache.Gateway, EntryTimeout: time.Hour, AttrTimeout: time.Hour}, time.Hour},
		{"beside", Options{Deploy: cache.Beside}, time.Second},
		{"beside, asked for too much", Options{Deploy: cache.Beside, EntryTimeout: time.Hour, AttrTimeout: time.Hour}, time.Second},
		{"unknown is beside", Options{}, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.in.Mountpoint = "/"
			s, err := New(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if s.opts.EntryTimeout != tc.want || s.opts.AttrTimeout != tc.want {
				t.Errorf("got %v and %v, want %v", s.opts.EntryTimeout, s.opts.AttrTimeout, tc.want)
			}
		})
	}
}
