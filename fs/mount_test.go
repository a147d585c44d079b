package fs

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
)

// mounted is a served mount of a heart in a temporary directory.
type mounted struct {
	*Server
	dir  string
	stop context.CancelFunc // ends Serve
	done chan struct{}      // closed when Serve has returned
	err  error              // what it returned
	log  *testLog
}

// testLog collects the log.
type testLog struct{ lines chan string }

func (l *testLog) Write(p []byte) (int, error) {
	select {
	case l.lines <- string(p):
	default:
	}
	return len(p), nil
}

// all returns the lines so far.
func (l *testLog) all() string {
	var b strings.Builder
	for {
		select {
		case s := <-l.lines:
			b.WriteString(s)
		default:
			return b.String()
		}
	}
}

// mount mounts heart until the test ends.
func mount(t testing.TB, heart Heart, o Options) *mounted {
	t.Helper()
	m := &mounted{dir: t.TempDir(), done: make(chan struct{}), log: &testLog{make(chan string, 1000)}}
	if err := os.Chmod(filepath.Dir(m.dir), 0o755); err != nil { // other users come by
		t.Fatal(err)
	}
	o.Mountpoint = m.dir
	o.Log = slog.New(slog.NewTextHandler(m.log, nil))
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mount(t.Context(), heart); err != nil {
		t.Fatal(err)
	}
	m.Server = s
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		m.err = s.Serve(ctx)
		close(m.done)
	}()
	t.Cleanup(m.end)
	t.Cleanup(func() {
		stop()
		select {
		case <-m.done:
			if m.err != nil {
				t.Errorf("serve: %v", m.err)
			}
		case <-time.After(2 * time.Minute):
			t.Error("the mount did not end")
		}
	})
	if err := s.WaitMount(); err != nil {
		t.Fatal(err)
	}
	return m
}

// end leaves nothing mounted, whatever the test did.
func (m *mounted) end() {
	if syscall.Unmount(m.dir, 0) == nil {
		return
	}
	syscall.Unmount(m.dir, syscall.MNT_FORCE)
	syscall.Unmount(m.dir, syscall.MNT_DETACH)
}

// path is that of a file in the mount.
func (m *mounted) path(name string) string { return filepath.Join(m.dir, name) }

// write makes a file in the mount.
func (m *mounted) write(t testing.TB, name, data string) string {
	t.Helper()
	if err := os.WriteFile(m.path(name), []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	return m.path(name)
}

// settle waits until the kernel has told of all closed files.
func (m *mounted) settle(t testing.TB) {
	t.Helper()
	waitFor(t, "all files are released", func() bool { return m.bridge.Load().files.open.Load() == 0 })
}

// needRoot says loudly that a test cannot be done.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT ROOT: this needs other users, file handles or drop_caches")
	}
}

// requirePassthrough says loudly when this machine cannot show what is asked.
func requirePassthrough(t testing.TB, m *mounted) {
	t.Helper()
	if m.Passthrough() {
		return
	}
	if os.Getenv("DEPOTFS_REQUIRE_PASSTHROUGH") == "1" {
		t.Fatal("no kernel passthrough here, but DEPOTFS_REQUIRE_PASSTHROUGH=1")
	}
	t.Skip("NO KERNEL PASSTHROUGH HERE (Linux 6.9 or later, as root): only the fallback is tested")
}

// modes are the two ways of I/O, for tests that must pass in both.
var modes = []struct {
	name string
	mode Mode
}{{"passthrough", Auto}, {"cached", Off}}

// inModes runs fn on a mount with passthrough and on one without.
func inModes(t *testing.T, o Options, fn func(t *testing.T, m *mounted, l *loopback)) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			l := newLoopback(t)
			o.Passthrough = mode.mode
			if o.Deploy == "" {
				o.Deploy = cache.Gateway
			}
			m := mount(t, l, o)
			if mode.mode == Auto {
				requirePassthrough(t, m)
			}
			fn(t, m, l)
		})
	}
}
