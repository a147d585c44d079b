package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// zone is one mount with its directories. Its commands run the built program; its
// daemon ends with the test.
type zone struct {
	t    testing.TB
	name string // among the zones of its depot

	dir   string // all of it
	share string // the cache directory
	state string
	mnt   string

	depot *depot   // nil: the store is off
	args  []string // options of every mount of it
	env   []string // further environment of its commands

	quiet bool // the log may hold errors: the test makes them

	watchdog *time.Timer
}

// hangTime is when a test counts as hanging. Its system call waits for the daemon
// and cannot be interrupted: the daemon is killed, after it has told what it does.
const hangTime = 8 * time.Minute

func (z *zone) hangs() {
	z.t.Errorf("it hangs; the daemon does:\n%s", z.goroutines())
	if pid := z.pid(); pid != 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// setting changes a zone before its first mount.
type setting func(*zone)

// on has the zone use a depot.
func on(d *depot) setting {
	return func(z *zone) { z.depot, z.name = d, fmt.Sprintf("z%d", d.zones.Add(1)) }
}

// with adds mount options.
func with(args ...string) setting { return func(z *zone) { z.args = append(z.args, args...) } }

// quiet allows errors in the log: the test makes them.
func quiet(z *zone) { z.quiet = true }

// newZone makes the directories of a zone and mounts it.
func newZone(t testing.TB, settings ...setting) *zone {
	t.Helper()
	z := newUnmounted(t, settings...)
	z.mount()
	return z
}

// newUnmounted makes the directories of a zone.
func newUnmounted(t testing.TB, settings ...setting) *zone {
	t.Helper()
	z := &zone{t: t, name: "z1", dir: t.TempDir()}
	z.share, z.state, z.mnt = filepath.Join(z.dir, "share"), filepath.Join(z.dir, "state"), filepath.Join(z.dir, "mnt")
	for _, dir := range []string{z.share, z.mnt} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// t.TempDir is for its owner only; tests use the mount as other users too.
	for _, dir := range []string{z.dir, filepath.Dir(z.dir)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range settings {
		s(z)
	}
	z.watchdog = time.AfterFunc(hangTime, z.hangs)
	t.Cleanup(z.end)
	return z
}

// as is the zone for a subtest.
func (z *zone) as(t testing.TB) *zone {
	sub := *z
	sub.t = t
	return &sub
}

// ways are the two ways in which the kernel reaches resident files; every test of
// bytes runs on both.
var ways = []struct {
	name string
	set  setting
}{
	{"passthrough", with("--passthrough", "auto")},
	{"daemon", with("--passthrough", "off")},
}

// command is a run of the program that has ended.
type command struct {
	args           []string
	stdout, stderr string
	code           int
}

func (c command) String() string {
	return fmt.Sprintf("depotfs %s: exit %d\n%s%s", strings.Join(c.args, " "), c.code, c.stdout, c.stderr)
}

// commandTime is how long a command may take before the test gives it up.
const commandTime = patience + time.Minute

// run runs depotfs.
func (z *zone) run(args ...string) command {
	z.t.Helper()
	return z.runIn("", args...)
}

// inside runs depotfs in the mount, which it need not name then.
func (z *zone) inside(args ...string) command {
	z.t.Helper()
	return z.runIn(z.mnt, args...)
}

func (z *zone) runIn(dir string, args ...string) command {
	z.t.Helper()
	cmd := exec.Command(depotfsBin, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + z.dir, "TMPDIR=" + os.Getenv("TMPDIR")}, z.env...)
	if z.depot != nil {
		cmd.Env = append(cmd.Env, "AWS_ACCESS_KEY_ID="+z.depot.AccessKey, "AWS_SECRET_ACCESS_KEY="+z.depot.SecretKey)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		z.t.Fatal(err)
	}
	timer := time.AfterFunc(commandTime, func() { _ = cmd.Process.Signal(unix.SIGQUIT) }) // shows its goroutines
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		z.t.Fatalf("depotfs %s: %v", strings.Join(args, " "), err)
	}
	return command{args: args, stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// must runs depotfs and fails the test when it does.
func (z *zone) must(args ...string) string {
	z.t.Helper()
	c := z.run(args...)
	if c.code != 0 {
		z.t.Fatalf("%v%s", c, z.logTail())
	}
	return c.stdout
}

// mountArgs is the command line of a mount of this zone.
func (z *zone) mountArgs(extra ...string) []string {
	args := []string{"mount", "--cache-dir", z.share, "--state-dir", z.state, "--zone", z.name}
	if z.depot != nil {
		args = append(args, "--bucket", z.depot.Name, "--endpoint", z.depot.endpoint, "--prefix", z.depot.prefix)
	}
	args = append(args, z.args...)
	return append(append(args, extra...), z.mnt)
}

// mount mounts it; options given here count for this time only.
func (z *zone) mount(extra ...string) {
	z.t.Helper()
	z.must(z.mountArgs(extra...)...)
}

// umount unmounts it; nothing may be open.
func (z *zone) umount() {
	z.t.Helper()
	z.must("umount", z.mnt)
}

// remount unmounts and mounts again.
func (z *zone) remount(extra ...string) {
	z.t.Helper()
	z.umount()
	z.mount(extra...)
}

// dial connects to the control socket. Its path may be too long for an address.
func (z *zone) dial() (net.Conn, error) {
	dir, err := os.Open(z.state)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/control.sock", dir.Fd()))
}

// pid is the daemon, 0 when there is none.
func (z *zone) pid() int {
	conn, err := z.dial()
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// kill ends the daemon as a failure would.
func (z *zone) kill() {
	z.t.Helper()
	pid := z.pid()
	if pid == 0 {
		z.t.Fatalf("no daemon to kill%s", z.logTail())
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		z.t.Fatal(err)
	}
	if !waitGone(pid) {
		z.t.Fatalf("daemon %d survives kill -9", pid)
	}
}

// end leaves nothing behind and holds what every test promises: a clean unmount, no
// panic in the log, nothing left over among depotfs's own files.
func (z *zone) end() {
	z.watchdog.Stop()
	if z.pid() != 0 && !z.t.Failed() {
		if c := z.run("umount", z.mnt); c.code != 0 {
			z.t.Errorf("unmount at the end: %v", c)
		}
	}
	if pid := z.pid(); pid != 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
		waitGone(pid)
	}
	_ = unix.Unmount(z.mnt, unix.MNT_DETACH)
	if log := z.log(); strings.Contains(log, "panic:") || strings.Contains(log, "fatal error:") {
		z.t.Errorf("the daemon panicked%s", z.logTail())
	} else if !z.quiet && strings.Contains(log, "level=ERROR") {
		z.t.Errorf("the log holds errors:\n%s", grep(log, "level=ERROR"))
	}
	if z.t.Failed() {
		z.t.Logf("the log ends:%s", z.logTail())
		return
	}
	for _, name := range []string{"open", "evict"} {
		if left, _ := os.ReadDir(filepath.Join(z.share, ".depotfs", name)); len(left) > 0 {
			z.t.Errorf(".depotfs/%s in the cache directory still holds %d files after the unmount, the first is %s", name, len(left), left[0].Name())
		}
	}
}

func grep(text, word string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) && len(found) < 40 {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// log is what the daemons of this zone have logged.
func (z *zone) log() string {
	text, _ := os.ReadFile(filepath.Join(z.state, "depotfs.log"))
	return string(text)
}

// logTail is the end of the log, for a message.
func (z *zone) logTail() string {
	lines := strings.Split(strings.TrimSpace(z.log()), "\n")
	return "\n" + strings.Join(lines[max(0, len(lines)-60):], "\n")
}

// path is a path in the mount.
func (z *zone) path(name string) string { return filepath.Join(z.mnt, name) }

// paths are names as paths in the mount; none is all of it.
func (z *zone) paths(names []string) []string {
	if len(names) == 0 {
		return []string{z.mnt}
	}
	var paths []string
	for _, name := range names {
		paths = append(paths, z.path(name))
	}
	return paths
}

// flush uploads everything, or the named files.
func (z *zone) flush(names ...string) {
	z.t.Helper()
	c := z.run(append([]string{"flush", "--timeout", patience.String()}, z.paths(names)...)...)
	if c.code != 0 {
		z.t.Fatalf("%v\n%+v%s\n%s", c, z.status(), z.logTail(), z.goroutines())
	}
}

// goroutines is what the daemon's are doing, without those that only wait for work.
func (z *zone) goroutines() string {
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return z.dial()
	}}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://daemon/debug/pprof/goroutine?debug=2")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	var busy []string
	for one := range strings.SplitSeq(string(text), "\n\n") {
		if strings.Contains(one, "depotfs/cache.") && !strings.Contains(one, ").Take(") {
			busy = append(busy, one)
		}
	}
	return strings.Join(busy, "\n\n")
}

// evict drops the local bytes of files.
func (z *zone) evict(names ...string) {
	z.t.Helper()
	z.must(append([]string{"evict"}, z.paths(names)...)...)
}
