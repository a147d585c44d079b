package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// runDirEnv names the directory of the run to the process that runs the tests.
const runDirEnv = "DEPOTFS_INTEGRATION_DIR"

// runDirPrefix is what the directories of runs are called.
const runDirPrefix = "depotfs-integration-"

// depotfsBin and storeBin are the programs under test; passthrough says whether
// this kernel serves resident files itself.
var (
	depotfsBin, storeBin string
	passthrough          bool
)

func TestMain(m *testing.M) {
	if path := os.Getenv(mapEnv); path != "" {
		if err := serveMapping(path); err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if job := os.Getenv(workerEnv); job != "" {
		os.Exit(runWorker(job))
	}
	if dir := os.Getenv(runDirEnv); dir != "" {
		os.Exit(runTests(m, dir))
	}
	code, err := supervise()
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

// runTests is the second process.
func runTests(m *testing.M, dir string) int {
	os.Setenv("TMPDIR", dir) // t.TempDir lies there too
	depotfsBin, storeBin = filepath.Join(dir, "bin", "depotfs"), filepath.Join(dir, "bin", "depotfs-store")
	var err error
	if passthrough, err = tryPassthrough(dir); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	switch {
	case passthrough:
		fmt.Println("integration: kernel passthrough is used")
	case os.Getenv("DEPOTFS_REQUIRE_PASSTHROUGH") == "1":
		fmt.Fprintln(os.Stderr, "integration: no kernel passthrough, and DEPOTFS_REQUIRE_PASSTHROUGH=1: it needs root, Linux 6.9 and CONFIG_FUSE_PASSTHROUGH")
		return 1
	default:
		fmt.Println("integration: NO kernel passthrough: every test runs on the fallback")
	}
	return m.Run()
}

// supervise is the first process: it prepares, has the tests run and tidies up.
func supervise() (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("the tests mount: run them as root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return 1, fmt.Errorf("%w: load the kernel module (modprobe fuse), or pass the device to the container", err)
	}
	base, err := realDisk()
	if err != nil {
		return 1, err
	}
	sweepOld(base)
	dir, err := os.MkdirTemp(base, runDirPrefix)
	if err != nil {
		return 1, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return 1, err
	}
	// Until then: a file that nobody refers to is closed by the collector, and the next
	// run would take this one for dead.
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, sweep(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // tests run as other users too
		return 1, err
	}
	if err := buildPrograms(dir); err != nil {
		return 1, err
	}
	tests := exec.Command("/proc/self/exe", os.Args[1:]...)
	tests.Args[0] = os.Args[0]
	tests.Env = append(os.Environ(), runDirEnv+"="+dir)
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	tests.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if err := tests.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- tests.Wait() }()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			// A process whose thread waits for a daemon that hangs cannot end, not even
			// killed, before that daemon does.
			if isZombie(tests.Process.Pid) {
				killAll(dir)
			}
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 1, err
			}
			return max(tests.ProcessState.ExitCode(), exitOfSignal(tests.ProcessState)), nil
		case sig := <-signals:
			_ = tests.Process.Signal(sig)
		}
	}
}

// exitOfSignal is 1 where a signal ended the process, which has no exit code then.
func exitOfSignal(s *os.ProcessState) int {
	if s.ExitCode() < 0 {
		return 1
	}
	return 0
}

// realDisk is a place for the run that is no memory: O_DIRECT, sparse files and
// space are like those of a real cache directory there.
func realDisk() (string, error) {
	var seen []string
	for _, dir := range []string{os.Getenv("TMPDIR"), "/var/tmp", "/tmp"} {
		var st unix.Statfs_t
		if dir == "" || unix.Statfs(dir, &st) != nil {
			continue
		}
		if free := int64(st.Bavail) * st.Bsize; st.Type != unix.TMPFS_MAGIC && free > minSpace {
			return filepath.EvalSymlinks(dir)
		}
		seen = append(seen, dir)
	}
	return "", fmt.Errorf("none of %s is on a disk with %d GiB free: name a directory with TMPDIR", strings.Join(seen, ", "), minSpace>>30)
}

// minSpace is what a run may need at its height.
const minSpace = 4 << 30

// clockEnv is the environment variable that sets the clock of a mount wrong.
const clockEnv = "TEST_CLOCK_AHEAD"

// buildPrograms builds what is tested, as make build does, but for clocks that can be wrong.
func buildPrograms(dir string) error {
	for _, b := range []struct{ from, out string }{{"../cmd/depotfs", "depotfs"}, {"../cmd/depotfs-store", "depotfs-store"}} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-X main.clockEnv="+clockEnv, "-o", filepath.Join(dir, "bin", b.out), ".")
		build.Dir = b.from
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", b.out, err, out)
		}
	}
	return nil
}

// sweepOld tidies up after runs whose first process was killed: nobody holds the
// lock of their directory any more.
func sweepOld(base string) {
	old, _ := filepath.Glob(filepath.Join(base, runDirPrefix+"*"))
	for _, dir := range old {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = sweep(dir)
		}
		f.Close()
	}
}

// sweep kills the programs that were started from dir, unmounts everything below
// it and removes it.
func sweep(dir string) error {
	killAll(dir)
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	lines := strings.Split(string(table), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if point := strings.ReplaceAll(fields[1], `\040`, " "); strings.HasPrefix(point, dir+"/") {
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
	}
	return os.RemoveAll(dir)
}

// isZombie says whether a process has ended and was not waited for yet.
func isZombie(pid int) bool {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

// killAll ends the programs that were started from dir.
func killAll(dir string) {
	for _, pid := range processesOf(dir) {
		_ = unix.Kill(pid, unix.SIGKILL)
		waitGone(pid)
	}
}

// processesOf lists the processes whose program lies below dir.
func processesOf(dir string) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	var pids []int
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(to, dir+"/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// waitGone waits until a process has ended, for a minute at most.
func waitGone(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return true
		}
	}
	return false
}
