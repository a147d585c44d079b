package fs

import (
	"bytes"
	"context"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"depotfs/cache"
)

// setAbsent makes later opens find their files not here.
func (l *loopback) setAbsent(absent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.absent = absent
}

// setWaiting sets what is called before a read of what is not here.
func (l *loopback) setWaiting(fn func(context.Context, cache.Ino) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = fn
}

// A file that is not here is read through us, also by a shared mapping; it passes
// through only after everybody who opened it so has left.
func TestFileComesWhileItIsOpen(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		want := strings.Repeat("0123456789abcdef", 4096)
		path := m.write(t, "x", want)
		m.settle(t)
		l.setAbsent(true)
		a := open(t, path, os.O_RDWR)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(a, got); err != nil || string(got) != want {
			t.Fatalf("read of what is not here: %v", err)
		}
		if l.count("read") == 0 {
			t.Fatal("nobody asked us")
		}
		mem := mapElsewhere(t, path)
		if got := mem.get(10); got != "a" {
			t.Fatalf("a shared mapping shows %q", got)
		}
		l.setAbsent(false) // now it is here
		b := open(t, path, os.O_RDWR)
		if _, err := b.WriteAt([]byte("NEW"), 100); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ReadAt(got[:3], 100); err != nil || string(got[:3]) != "NEW" {
			t.Errorf("the older handle reads %q, %v", got[:3], err)
		}
		if got := mem.get(100); got != "N" {
			t.Errorf("the mapping shows %q", got)
		}
		mem.set(0, 'M')
		mem.sync()
		if _, err := b.ReadAt(got[:1], 0); err != nil || got[0] != 'M' {
			t.Errorf("a read shows %q after a store through the mapping, %v", got[:1], err)
		}
		a.Close()
		b.Close()
		if m.Passthrough() {
			mem.end()
			m.settle(t)
			before := l.count("read")
			data, err := os.ReadFile(path)
			if err != nil || data[0] != 'M' || !bytes.Equal(data[100:103], []byte("NEW")) {
				t.Errorf("read after all closed: %v", err)
			}
			if l.count("read") != before {
				t.Error("it does not pass through although it is here and nobody has it open")
			}
		}
	})
}

// Truncating at open makes a file whole, so it passes through at once.
func TestTruncatingOpenNeedsNoBytes(t *testing.T) {
	l := newLoopback(t)
	m := mount(t, l, Options{})
	requirePassthrough(t, m)
	path := m.write(t, "x", "old bytes")
	m.settle(t)
	l.setWaiting(func(context.Context, cache.Ino) error { t.Error("old bytes were read"); return nil })
	if err := os.WriteFile(path, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n := l.count("setattr"); n != 0 {
		t.Errorf("the length was set %d times beside the open", n)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Errorf("got %q, %v", got, err)
	}
}

// Errors of the heart reach the reader as errors, never as a short file.
func TestReadErrorIsAnError(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			l := newLoopback(t)
			m := mount(t, l, Options{Passthrough: mode.mode})
			path := m.write(t, "x", strings.Repeat("x", 1<<20))
			m.settle(t)
			l.setAbsent(true)
			l.setWaiting(func(context.Context, cache.Ino) error { return cache.ErrGone })
			m.InodeChanged(101) // what the kernel kept of the file
			f := open(t, path, os.O_RDONLY)
			if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "EIO", func() bool {
				_, err := f.ReadAt(make([]byte, 100), 5000)
				return err != nil && strings.Contains(err.Error(), unix.EIO.Error())
			})
		})
	}
}

// Opens and releases of one file cross each other while it comes and goes: the
// kernel must never find the mode of an open at odds with another's.
func TestCrossingOpensNeverClash(t *testing.T) {
	l := newLoopback(t)
	m := mount(t, l, Options{})
	requirePassthrough(t, m)
	path := m.write(t, "x", strings.Repeat("x", 8192))
	var users, toggler sync.WaitGroup
	stop := make(chan struct{})
	toggler.Go(func() {
		for absent := true; ; absent = !absent {
			select {
			case <-stop:
				return
			default:
				l.setAbsent(absent)
				runtime.Gosched()
			}
		}
	})
	for i := range 8 {
		users.Go(func() {
			flags := []int{os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | unix.O_DIRECT}[i%4]
			for range 300 {
				f, err := os.OpenFile(path, flags, 0)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				if flags == os.O_RDONLY {
					if _, err := f.ReadAt(make([]byte, 100), 4000); err != nil {
						t.Errorf("read: %v", err)
					}
				} else if flags&unix.O_DIRECT == 0 {
					if _, err := f.WriteAt([]byte("y"), int64(i)); err != nil {
						t.Errorf("write: %v", err)
					}
				}
				f.Close()
			}
		})
	}
	users.Wait()
	close(stop)
	toggler.Wait()
}
