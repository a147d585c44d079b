package fs

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"depotfs/cache"
)

// mountCache mounts the real heart, with its store off.
func mountCache(t *testing.T, o Options) (*mounted, string) {
	t.Helper()
	share := t.TempDir()
	if err := os.Chmod(share, 0o777); err != nil {
		t.Fatal(err)
	}
	late := &lateNotifier{}
	c, err := cache.New(cache.Config{CacheDir: share, StateDir: t.TempDir(), Zone: "a", Deploy: cache.Gateway, Notify: late})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	o.Deploy = cache.Gateway
	m := mount(t, FromCache(c), o)
	late.server.Store(m.Server)
	return m, share
}

// lateNotifier stands in until the mount is made: before, the kernel knows nothing.
type lateNotifier struct{ server atomic.Pointer[Server] }

func (l *lateNotifier) EntryChanged(parent cache.Ino, name string) {
	if s := l.server.Load(); s != nil {
		s.EntryChanged(parent, name)
	}
}

func (l *lateNotifier) InodeChanged(ino cache.Ino) {
	if s := l.server.Load(); s != nil {
		s.InodeChanged(ino)
	}
}

func TestPosixOnTheRealHeart(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			m, _ := mountCache(t, Options{Passthrough: mode.mode})
			if mode.mode == Auto {
				requirePassthrough(t, m)
			}
			for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
				if slices.Contains(notOurs, name) {
					continue
				}
				t.Run(name, func(t *testing.T) {
					dir := m.path(name)
					if err := os.Mkdir(dir, 0o755); err != nil {
						t.Fatal(err)
					}
					posixtest.All[name](t, dir)
				})
			}
		})
	}
}

// Writes that pass through are in the share and in stat at once, for everybody.
func TestWritesShowAtOnce(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			m, share := mountCache(t, Options{Passthrough: mode.mode})
			f := open(t, m.path("x"), os.O_CREATE|os.O_RDWR)
			for i := range int64(10) {
				if _, err := f.WriteAt([]byte("data"), i*1000); err != nil {
					t.Fatal(err)
				}
				if got := sizeElsewhere(t, m.path("x")); got != i*1000+4 {
					t.Fatalf("another process sees %d bytes, want %d", got, i*1000+4)
				}
			}
			data, err := os.ReadFile(filepath.Join(share, "x"))
			if err != nil || len(data) != 9004 || string(data[9000:]) != "data" {
				t.Errorf("the share has %d bytes, %v", len(data), err)
			}
			f.Close()
			if got := sizeElsewhere(t, m.path("x")); got != 9004 {
				t.Errorf("after close: %d bytes, want 9004", got)
			}
		})
	}
}
