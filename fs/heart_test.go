package fs

import (
	"context"
	"maps"
	"os"
	"slices"
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
	late.Notifier = m.Server
	return m, share
}

// lateNotifier stands in until the mount is made.
type lateNotifier struct{ cache.Notifier }

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
