package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// workerEnv makes the test binary a worker: a process that does what it names and
// nothing else. Workers are processes so that they can be other users, take locks
// from each other and map files of the mount.
const workerEnv = "DEPOTFS_INTEGRATION_WORKER"

// jobs are what workers do.
var jobs = map[string]func(args []string, in *bufio.Reader, out io.Writer) error{
	"checks":   checksJob,
	"exercise": exerciseJob,
}

// runWorker is the main function of a worker.
func runWorker(job string) int {
	runtime.LockOSThread()
	if err := jobs[job](os.Args[1:], bufio.NewReader(os.Stdin), os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", job, err)
		return 1
	}
	return 0
}

// worker is the other end of one.
type worker struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err strings.Builder
}

func startWorker(t testing.TB, job string, args ...string) *worker {
	t.Helper()
	w := &worker{t: t, cmd: exec.Command("/proc/self/exe", args...)}
	w.cmd.Env = append(os.Environ(), workerEnv+"="+job)
	w.cmd.Stderr = &w.err
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.in, w.out = in, bufio.NewReader(out)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// hear waits for a line.
func (w *worker) hear() string {
	w.t.Helper()
	line, err := w.out.ReadString('\n')
	if err != nil {
		_ = w.cmd.Wait()
		w.t.Fatalf("worker %v ended early: %v\n%s", w.cmd.Args, err, w.err.String())
	}
	return strings.TrimSuffix(line, "\n")
}

func (w *worker) tell(line string) {
	w.t.Helper()
	if _, err := io.WriteString(w.in, line+"\n"); err != nil {
		w.t.Fatalf("worker %v: %v\n%s", w.cmd.Args, err, w.err.String())
	}
}

func (w *worker) wait() {
	w.t.Helper()
	w.in.Close()
	_, _ = io.Copy(io.Discard, w.out)
	if err := w.cmd.Wait(); err != nil {
		w.t.Fatalf("worker %v: %v\n%s", w.cmd.Args, err, w.err.String())
	}
}

// checksJob runs checks below a directory: all of their first parts, then, when
// it is told to go on, their second parts. Its arguments are the directory and the name of the
// set.
func checksJob(args []string, in *bufio.Reader, out io.Writer) error {
	dir, set := args[0], args[1]
	// A working directory and a umask of this thread's own.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	checks := checkSet(set)
	var doing atomic.Pointer[string]
	go hurry(&doing)
	machines := make([]*machine, len(checks))
	for i, c := range checks {
		unix.Umask(0)
		m := newMachine(filepath.Join(dir, fmt.Sprintf("c%04d", i)), &doing)
		if err := os.Mkdir(m.dir, 0o777); err != nil {
			return err
		}
		before, _ := c.phases()
		m.run(before)
		machines[i] = m
	}
	doing.Store(nil)
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := clockMovesOn(dir); err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	said := make([][]string, len(checks))
	for i, c := range checks {
		_, after := c.phases()
		machines[i].run(after)
		said[i] = machines[i].said
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(said)
}

// stepTime is how long a step may take before its worker gives up. Steps that wait
// for something that never comes are mistakes in a check, or a mount that hangs.
const stepTime = 2 * time.Minute

// hurry ends the process when one step does not end.
func hurry(doing *atomic.Pointer[string]) {
	for {
		was := doing.Load()
		<-time.After(stepTime)
		if now := doing.Load(); now != nil && now == was {
			fmt.Fprintf(os.Stderr, "a step does not end: %s\n", *now)
			os.Exit(1)
		}
	}
}

// clockMovesOn waits until the clock that stamps files shows another tick.
func clockMovesOn(dir string) error {
	f, err := os.CreateTemp(dir, "clock")
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	const tick = 20e6 // ns; more than the slowest kernel's
	var first unix.Stat_t
	for {
		if err := f.Chmod(0o600); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return err
		}
		if first.Ino == 0 {
			first = st
		}
		if st.Ctim.Nano() > first.Ctim.Nano()+tick {
			return nil
		}
		runtime.Gosched()
	}
}
