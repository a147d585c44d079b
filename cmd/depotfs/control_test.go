package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
)

// fakeHeart answers as a test says; what is not set answers nothing.
type fakeHeart struct {
	flush func(ctx context.Context, paths []string, fn func(cache.Progress)) ([]cache.NotDone, error)
	walk  func(fn func(cache.FileStatus) error) error
	trashHeart
	conflictHeart
}

func (h *fakeHeart) Status(context.Context) (cache.Status, error) {
	return cache.Status{Zone: "a", Deploy: cache.Gateway, Store: cache.StoreStatus{State: "off"}}, nil
}

func (h *fakeHeart) StatPath(_ context.Context, path string) (cache.FileStatus, error) {
	if path == "missing" {
		return cache.FileStatus{}, os.ErrNotExist
	}
	return cache.FileStatus{Path: path, Type: "file", State: "clean", Size: 10, Here: 10}, nil
}

func (h *fakeHeart) Walk(_ context.Context, _, _ string, fn func(cache.FileStatus) error) error {
	return h.walk(fn)
}

func (h *fakeHeart) Flush(ctx context.Context, paths []string, fn func(cache.Progress)) ([]cache.NotDone, error) {
	return h.flush(ctx, paths, fn)
}

func (h *fakeHeart) Warm(context.Context, []string, func(cache.Progress)) ([]cache.NotDone, error) {
	return nil, errors.New("no bytes for you")
}

func (h *fakeHeart) Evict(_ context.Context, paths []string, _ func(cache.Progress)) ([]cache.NotDone, error) {
	return []cache.NotDone{{Path: paths[0], Reason: "it is open"}}, nil
}

func (h *fakeHeart) Refresh(context.Context) error { return nil }

func (h *fakeHeart) Zones(context.Context) ([]cache.ZoneStatus, error) {
	return []cache.ZoneStatus{
		{Zone: "a", State: "this", Host: "here", SeenSeconds: 3, Version: "v1"},
		{Zone: "b", State: "alive", Host: "there\x1b", SeenSeconds: 61, Version: "v1", Behind: cache.ZoneLag{Batches: 1, Records: 2, Seconds: 4},
			Waiting: cache.ZoneLag{Batches: 40, Records: -1, Seconds: 600}},
		{Zone: "c", State: "unreadable", Error: "damaged"},
	}, nil
}

func (h *fakeHeart) RemoveZone(_ context.Context, zone string) error {
	if zone == "b" {
		return errors.New("zone b is alive")
	}
	return nil
}

func (h *fakeHeart) Pin(_ context.Context, paths []string, on bool) ([]cache.NotDone, error) {
	return nil, nil
}

// daemon is a control API on a real socket, with a mount table that names it.
type daemon struct {
	*system
	stateDir, mountpoint string
	out, err             *strings.Builder
	api                  *control
}

func startDaemon(t *testing.T, h heart, stateDir string) *daemon {
	t.Helper()
	mountpoint := filepath.Join(t.TempDir(), "mnt")
	d := &daemon{stateDir: stateDir, mountpoint: mountpoint, out: &strings.Builder{}, err: &strings.Builder{}}
	d.system = fakeMounts(rootLine + "30 22 0:50 / " + mountpoint + " rw - " + fsType + " depotfs:" + stateDir + " rw\n")
	d.system.out, d.system.err = d.out, d.err
	listener, err := listenControl(stateDir)
	if err != nil {
		t.Fatal(err)
	}
	d.api = &control{
		heart:    h,
		describe: func(st *cache.Status) { st.Mountpoint = mountpoint },
		tuning:   newTestTuning(t),
		unmount:  func(context.Context) error { return errMountBusy },
		store:    &storeSwitch{},
		deletes:  &deletes{},
		log:      slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.api.serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *daemon) command(t *testing.T, args ...string) int {
	t.Helper()
	d.out.Reset()
	d.err.Reset()
	return d.run(t.Context(), append([]string{"depotfs"}, args...))
}

func TestControlSocketIsForTheOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	startDaemon(t, &fakeHeart{}, dir)
	info, err := os.Lstat(filepath.Join(dir, socketName))
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("got %v, %v; want a socket of mode 0600", info.Mode(), err)
	}
}

// A state directory may be deeper than the 108 bytes of a socket's address.
func TestControlInADeepDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, &fakeHeart{}, dir)
	if code := d.command(t, "status"); code != 0 || !strings.Contains(d.out.String(), "zone a on "+d.mountpoint) {
		t.Errorf("exit %d:\n%s%s", code, d.out, d.err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	dir := t.TempDir()
	first, err := listenControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	first.Close() // its file stays, as after kill -9
	d := startDaemon(t, &fakeHeart{}, dir)
	if code := d.command(t, "status"); code != 0 {
		t.Errorf("exit %d: %s", code, d.err)
	}
}

func TestDeadDaemon(t *testing.T) {
	dir := t.TempDir()
	listener, err := listenControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := fakeMounts(rootLine + "30 22 0:50 / /mnt/x rw - " + fsType + " depotfs:" + dir + " rw\n")
	var said strings.Builder
	s.err = &said
	check := func(want string) {
		t.Helper()
		said.Reset()
		if code := s.run(t.Context(), []string{"depotfs", "status"}); code != 1 || !strings.Contains(said.String(), want) {
			t.Errorf("exit %d: %s; want ...%s...", code, said.String(), want)
		}
	}
	listener.Close()
	check("its daemon is not running: say depotfs umount /mnt/x")
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil {
		t.Fatal(err)
	}
	check("its daemon is not running")
}

func TestFlushStreamsProgress(t *testing.T) {
	shown := make(chan struct{})
	h := &fakeHeart{flush: func(_ context.Context, paths []string, fn func(cache.Progress)) ([]cache.NotDone, error) {
		fn(cache.Progress{FilesTotal: 2, BytesTotal: 100, BytesDone: 40})
		<-shown // the client has it while the work goes on
		fn(cache.Progress{FilesDone: 2, FilesTotal: 2, BytesTotal: 100, BytesDone: 100})
		return nil, nil
	}}
	d := startDaemon(t, h, t.TempDir())
	var seen []progress
	err := newClient(mountEntry{StateDir: d.stateDir}).stream(t.Context(), "flush", pathsRequest{}, func(e event) error {
		if len(seen) == 0 {
			close(shown)
		}
		seen = append(seen, *e.Progress)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || seen[0].BytesDone != 40 || seen[1] != (progress{2, 2, 100, 100}) {
		t.Errorf("got %+v", seen)
	}
}

func TestClientThatLeavesEndsTheWork(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	h := &fakeHeart{flush: func(ctx context.Context, _ []string, _ func(cache.Progress)) ([]cache.NotDone, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}}
	d := startDaemon(t, h, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	code := d.run(ctx, []string{"depotfs", "flush"})
	if code != 1 || d.err.String() != "depotfs: interrupted\n" {
		t.Errorf("exit %d: %s", code, d.err)
	}
	select {
	case <-ended:
	case <-time.After(2 * time.Minute):
		t.Error("the daemon goes on flushing for nobody")
	}
}

func TestFlushTimeoutNamesWhatDidNotArrive(t *testing.T) {
	h := &fakeHeart{flush: func(ctx context.Context, paths []string, fn func(cache.Progress)) ([]cache.NotDone, error) {
		fn(cache.Progress{FilesTotal: 1, BytesTotal: 7})
		<-ctx.Done()
		return []cache.NotDone{{Path: "a/b", Reason: "the store is unavailable"}}, ctx.Err()
	}}
	d := startDaemon(t, h, t.TempDir())
	if code := d.command(t, "flush", "--timeout", "50ms"); code != 1 {
		t.Errorf("exit %d", code)
	}
	want := "depotfs: flush: " + d.mountpoint + "/a/b: the store is unavailable\ndepotfs: flush: 1 path did not arrive\n"
	if d.err.String() != want {
		t.Errorf("said %q, want %q", d.err, want)
	}
	if code := d.command(t, "flush", "--json", "--timeout=50ms"); code != 1 || !strings.Contains(d.out.String(), `"reason": "the store is unavailable"`) || d.err.Len() > 0 {
		t.Errorf("exit %d:\n%s%s", code, d.out, d.err)
	}
}

func TestCommandsOverTheSocket(t *testing.T) {
	h := &fakeHeart{
		flush: func(_ context.Context, paths []string, fn func(cache.Progress)) ([]cache.NotDone, error) {
			return nil, nil
		},
		walk: func(fn func(cache.FileStatus) error) error {
			return errors.Join(
				fn(cache.FileStatus{Path: "d", Type: "dir"}),
				fn(cache.FileStatus{Path: "d/evil\x1b[2Jname", Type: "file", State: "partial", Size: 4 << 20, Here: 1 << 20}))
		},
	}
	d := startDaemon(t, h, t.TempDir())
	for _, tt := range []struct {
		name     string
		args     []string
		code     int
		out, err string // parts; "" = nothing at all
	}{
		{name: "status", args: []string{"status"}, out: "off: a plain pass-through"},
		{name: "status by a path inside", args: []string{"status", d.mountpoint + "/a", "--json"}, out: `"zone": "a"`},
		{name: "stat", args: []string{"stat", d.mountpoint + "/a/b"}, out: "a/b\n  type      file\n  state     clean\n"},
		{name: "stat of several", args: []string{"stat", d.mountpoint + "/a", d.mountpoint + "/missing", d.mountpoint + "/c"}, code: 1, out: "\nc\n", err: "missing: no such file or directory"},
		{name: "stat as JSON", args: []string{"stat", "--json", d.mountpoint + "/a"}, out: `"state": "clean"`},
		{name: "ls", args: []string{"ls"}, out: "partial 25%      4.0 MiB  d/evil\\x1b[2Jname\n"},
		{name: "ls as JSON", args: []string{"ls", "--json"}, out: `{"path":"d",`},
		{name: "flush is silent in scripts", args: []string{"flush"}},
		{name: "flush as JSON", args: []string{"flush", "--json"}, out: `"not_done": []`},
		{name: "warm that fails", args: []string{"warm", d.mountpoint + "/a"}, code: 1, err: "depotfs: warm: no bytes for you\n"},
		{name: "evict of what is open", args: []string{"evict", d.mountpoint + "/a"}, code: 1, err: "/a: it is open\ndepotfs: evict: 1 path stayed here\n"},
		{name: "pin", args: []string{"pin", d.mountpoint + "/a"}},
		{name: "config show", args: []string{"config", "show"}, out: "flag --upload-parts"},
		{name: "umount while busy", args: []string{"umount", d.mountpoint}, code: 1, err: d.mountpoint + " is busy"},
		{name: "umount of a path inside", args: []string{"umount", d.mountpoint + "/a"}, code: 1, err: "is not a mount point, it lies in the mount on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code := d.command(t, tt.args...); code != tt.code {
				t.Errorf("exit %d, want %d", code, tt.code)
			}
			for what, got := range map[string][2]string{"out": {d.out.String(), tt.out}, "err": {d.err.String(), tt.err}} {
				if !strings.Contains(got[0], got[1]) || got[1] == "" && got[0] != "" {
					t.Errorf("%s: got %q, want ...%q...", what, got[0], got[1])
				}
			}
		})
	}
}

func TestUnknownRequestsAreRefused(t *testing.T) {
	d := startDaemon(t, &fakeHeart{}, t.TempDir())
	c := newClient(mountEntry{StateDir: d.stateDir})
	if err := c.get(t.Context(), "nonsense", new(any)); err == nil || !strings.Contains(err.Error(), "does not know /v1/nonsense") {
		t.Errorf("got %v", err)
	}
	body, err := c.do(t.Context(), "POST", "flush", "no request")
	if err == nil {
		text, _ := io.ReadAll(body)
		t.Errorf("a broken request was answered with %s", text)
	}
}
