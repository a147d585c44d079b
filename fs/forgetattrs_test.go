package fs

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"depotfs/cache"
)

// mtimeOf asks for nothing but that, so that the kernel may answer from memory.
func mtimeOf(t testing.TB, path string) time.Time {
	t.Helper()
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MTIME, &st); err != nil {
		t.Fatal(err)
	}
	return time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec))
}

// holdNotices keeps all further notices from the kernel until the test ends: the one
// before them needs the lock of a directory in which a mkdir waits for its answer.
func holdNotices(t testing.TB, m *mounted, l *loopback) {
	t.Helper()
	if err := os.Mkdir(m.path("busy"), 0o755); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(m.path("busy"))
	if err != nil {
		t.Fatal(err)
	}
	asked, free, made := make(chan struct{}), make(chan struct{}), make(chan error)
	l.mu.Lock()
	l.onMkdir = func() { close(asked); <-free }
	l.mu.Unlock()
	go func() { made <- os.Mkdir(m.path("busy/new"), 0o755) }()
	t.Cleanup(func() {
		close(free)
		if err := <-made; err != nil {
			t.Error(err)
		}
	})
	<-asked
	m.EntryChanged(inoOf(st), "any")
	held := notice{ino: inoOf(st), name: "any", what: entryOf}
	waitFor(t, "the notice is on its way", func() bool {
		m.notes.mu.Lock()
		defer m.notes.mu.Unlock()
		_, flies := m.notes.telling[held]
		return flies // the directory's own, added after it, may wait behind it
	})
}

// A store through a mapping that passes through moves mtime without a request. The
// kernel must not show what it kept from before.
func TestModificationTimeOfMappings(t *testing.T) {
	l := newLoopback(t)
	m := mount(t, l, Options{Deploy: cache.Gateway})
	requirePassthrough(t, m)
	path := m.write(t, "x", strings.Repeat("-", 4096))
	m.settle(t)
	past := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	mtime := func() time.Time { return mtimeOf(t, path) }
	if got := mtime(); !got.Equal(past) { // the kernel keeps this for an hour
		t.Fatalf("got %v, want %v", got, past)
	}
	holdNotices(t, m, l)
	mem := mmap(t, open(t, path, os.O_RDWR), 4096)
	mem[0] = 'X'
	if got := mtime(); !got.After(past) {
		t.Fatal("after the first store stat shows the time from before the open")
	}
	for i := range 20 {
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
		if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
			t.Fatal(err)
		}
		mem[0] = byte(i)
		if got := mtime(); !got.After(past) {
			t.Fatalf("round %d: stat shows the time from before the store", i)
		}
	}
}

// What the heart finds when it opens a file, such as that others changed it in the
// share, is what stat shows after the open.
func TestStatAfterOpenIsNotOlder(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		path := m.write(t, "x", "hello")
		m.settle(t)
		past := time.Unix(1_000_000_000, 0)
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
		if got := mtimeOf(t, path); !got.Equal(past) {
			t.Fatalf("got %v, want %v", got, past)
		}
		holdNotices(t, m, l)
		changed := past.Add(time.Hour)
		l.mu.Lock()
		l.onOpen = func(ino cache.Ino) {
			if err := os.Chtimes(l.file(ino).Name(), changed, changed); err != nil {
				t.Error(err)
			}
			m.InodeChanged(ino)
		}
		l.mu.Unlock()
		open(t, path, os.O_RDONLY)
		if got := mtimeOf(t, path); !got.Equal(changed) {
			t.Errorf("stat shows %v after an open that found %v", got, changed)
		}
	})
}

func inoOf(st os.FileInfo) cache.Ino { return cache.Ino(st.Sys().(*syscall.Stat_t).Ino) }
