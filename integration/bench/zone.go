package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// zone is one mount of depotfs with its directories, driven by its commands.
type zone struct {
	program      string
	env          []string
	share, state string
	mnt          string
	mountArgs    []string
	pid          int // of the daemon; 0 before mount
	passthrough  bool
}

// flushTime bounds the wait for an upload, so that a bench on a broken store ends.
const flushTime = 15 * time.Minute

func newZone(program, dir string, env []string, args ...string) (*zone, error) {
	z := &zone{program: program, env: env, share: filepath.Join(dir, "share"), state: filepath.Join(dir, "state"), mnt: filepath.Join(dir, "mnt")}
	for _, d := range []string{z.share, z.mnt} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	spread(z.share)
	z.mountArgs = append([]string{"mount", "--cache-dir", z.share, "--state-dir", z.state, "--zone", filepath.Base(dir)}, args...)
	return z, nil
}

// mount returns when the mount answers and the bucket has been listed.
func (z *zone) mount(ctx context.Context) error {
	if err := runEnv(ctx, z.env, z.program, append(z.mountArgs, z.mnt)...); err != nil {
		return err
	}
	var err error
	if z.pid, err = z.daemon(); err != nil {
		return err
	}
	for end := time.Now().Add(startTime); ; {
		s, err := z.status(ctx)
		if err != nil {
			return err
		}
		z.passthrough = s.Passthrough
		if s.Store.Listing == "done" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("depotfs does not list the bucket: it is %s (%s)", s.Store.State, s.Store.Error)
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (z *zone) stop() error {
	if z.pid == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	err := runEnv(ctx, z.env, z.program, "umount", z.mnt)
	if err != nil {
		_ = unix.Kill(z.pid, unix.SIGKILL)
	}
	for end := time.Now().Add(stopTime); unix.Kill(z.pid, 0) == nil && time.Now().Before(end); {
		time.Sleep(lookEvery)
	}
	if isMount(z.mnt) {
		unmount(z.mnt)
	}
	return err
}

// control dials the daemon.
func (z *zone) control(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(z.state, "control.sock"))
}

// daemon finds the daemon's process by its socket.
func (z *zone) daemon() (int, error) {
	conn, err := z.control(context.Background())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if pid == 0 {
		return 0, errors.New("the daemon's process is unknown")
	}
	return pid, nil
}

// zoneStatus is what is used of `depotfs status --json`.
type zoneStatus struct {
	Passthrough bool `json:"passthrough"`
	Store       struct {
		State    string           `json:"state"`
		Error    string           `json:"error"`
		Listing  string           `json:"listing"`
		Sent     int64            `json:"bytes_sent"`
		Received int64            `json:"bytes_received"`
		Requests map[string]int64 `json:"requests"`
	} `json:"store"`
}

func (z *zone) status(ctx context.Context) (s zoneStatus, err error) {
	text, err := output(ctx, z.env, z.program, "status", "--json", z.mnt)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	return s, err
}

// traffic is what depotfs itself counts: bytes of objects, requests.
func (z *zone) traffic(ctx context.Context) (traffic, error) {
	s, err := z.status(ctx)
	t := traffic{Sent: s.Store.Sent, Received: s.Store.Received}
	for _, n := range s.Store.Requests {
		t.Requests += n
	}
	return t, err
}

func (z *zone) path(name string) string { return filepath.Join(z.mnt, name) }

func (z *zone) flush(ctx context.Context) error {
	return runEnv(ctx, z.env, z.program, "flush", "--timeout", flushTime.String(), z.mnt)
}

// evict drops the local bytes of the cold objects.
func (z *zone) evict(ctx context.Context) error {
	return runEnv(ctx, z.env, z.program, "evict", z.path(coldDir), z.path(fillDir))
}

// evictFile drops the local bytes of one file.
func (z *zone) evictFile(ctx context.Context, name string) error {
	return runEnv(ctx, z.env, z.program, "evict", z.path(name))
}

// warm fetches one file whole.
func (z *zone) warm(ctx context.Context, name string) error {
	return runEnv(ctx, z.env, z.program, "warm", z.path(name))
}

// onDisk is what a file takes on the disk, wherever the zone keeps it: its bytes
// are at the plain path, or still below .depotfs.
func (z *zone) onDisk(name string) (int64, error) {
	var sum int64
	for _, path := range []string{filepath.Join(z.share, name), filepath.Join(z.share, ".depotfs", "partial")} {
		err := filepath.WalkDir(path, func(path string, _ os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return os.NewSyscallError("lstat", err)
			}
			sum += st.Blocks * 512
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// kill ends the daemon as a failure would, and takes the dead mount away.
func (z *zone) kill() error {
	if err := unix.Kill(z.pid, unix.SIGKILL); err != nil {
		return os.NewSyscallError("kill", err)
	}
	for end := time.Now().Add(stopTime); unix.Kill(z.pid, 0) == nil; time.Sleep(lookEvery) {
		if time.Now().After(end) {
			return fmt.Errorf("daemon %d survives kill -9", z.pid)
		}
	}
	z.pid = 0
	_ = unix.Unmount(z.mnt, unix.MNT_DETACH) // where it cannot, the next mount says so
	return nil
}

// memory reads the daemon's resident set: now and at its peak.
func (z *zone) memory() (now, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", z.pid))
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "VmRSS":
			now = kib << 10
		case "VmHWM":
			peak = kib << 10
		}
	}
	return now, peak, err
}

// profile saves a CPU profile of the next d.
func (z *zone) profile(ctx context.Context, file string, d time.Duration) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return z.control(ctx) }}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://depotfs/debug/pprof/profile?seconds=%d", int(d.Seconds())), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: the daemon answers %s", resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
