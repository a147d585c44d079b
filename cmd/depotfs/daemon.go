package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readyEnv tells the child of daemonise which descriptor its parent listens on.
const readyEnv = "_DEPOTFS_READY_FD"

// report is one line from the child to the parent; the last is Ready or Error.
type report struct {
	Warning string `json:"warning,omitempty"`
	Ready   string `json:"ready,omitempty"` // the sentence for the person
	Error   string `json:"error,omitempty"`
	Usage   bool   `json:"usage,omitempty"` // Error is a usageError
}

// reporter is how a daemon tells its starter how it goes: over the pipe, or on
// the terminal with --foreground.
type reporter struct{ pipe *os.File }

// takeReporter returns the child's end of the pipe, or nil in a first process.
func takeReporter(lookupEnv func(string) (string, bool)) *reporter {
	text, ok := lookupEnv(readyEnv)
	if !ok {
		return nil
	}
	os.Unsetenv(readyEnv)
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil
	}
	unix.CloseOnExec(fd) // a mount helper that inherits it would keep the parent waiting
	return &reporter{pipe: os.NewFile(uintptr(fd), "parent")}
}

func (r *reporter) send(rep report) {
	_ = json.NewEncoder(r.pipe).Encode(rep) // a parent that was killed needs no answer
	if rep.Ready != "" || rep.Error != "" {
		r.pipe.Close()
	}
}

// daemonise starts this command line again in a session of its own and waits
// until that process says that the mount answers, or why it does not.
func (s *system) daemonise(ctx context.Context, cfg Config, p places) error {
	logTo, err := createLog(cfg.LogFile)
	if err != nil {
		return err
	}
	defer logTo.Close()
	start, err := logTo.Seek(0, io.SeekEnd)
	if err != nil {
		start = 0 // a log that is a pipe
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	defer read.Close()
	child := exec.Command(ownPath(), os.Args[1:]...)
	child.Args[0] = "depotfs"
	child.Env = append(os.Environ(), readyEnv+"=3")
	child.ExtraFiles = []*os.File{write}
	child.Stdout, child.Stderr = logTo, logTo
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What our caller left open by mistake, in another mount perhaps, must not stay
	// open for as long as the daemon lives. Kernels before 5.11 cannot do it: no harm.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	err = child.Start()
	write.Close()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGTERM) })
	defer stop()
	ready, err := s.listen(read)
	if errors.Is(err, io.EOF) {
		return s.diedEarly(child, cfg.LogFile, start)
	}
	if err == nil {
		err = waitMounted(ctx, s, p.mountpoint)
	}
	if err != nil {
		_ = child.Process.Signal(syscall.SIGTERM)
		_ = child.Wait() // so that nothing is left when the command returns
		return err
	}
	fmt.Fprintln(s.out, ready)
	return child.Process.Release()
}

// ownPath is this program, by its name where that still leads to it: the name is
// what process lists show.
func ownPath() string {
	const self = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil {
		return self
	}
	named, err1 := os.Stat(path)
	running, err2 := os.Stat(self)
	if err1 != nil || err2 != nil || !os.SameFile(named, running) {
		return self
	}
	return path
}

// listen follows the child's reports to the last one; io.EOF: it died.
func (s *system) listen(pipe io.Reader) (ready string, err error) {
	for dec := json.NewDecoder(pipe); ; {
		var rep report
		if err := dec.Decode(&rep); err != nil {
			return "", io.EOF
		}
		switch {
		case rep.Error != "" && rep.Usage:
			return "", &usageError{msg: rep.Error}
		case rep.Error != "":
			return "", errors.New(rep.Error)
		case rep.Ready != "":
			return rep.Ready, nil
		case rep.Warning != "":
			fmt.Fprintf(s.err, "depotfs: %s\n", rep.Warning)
		}
	}
}

// diedEarly explains a child that ended without a word, by its last log lines.
func (s *system) diedEarly(child *exec.Cmd, logName string, start int64) error {
	how := "without a word"
	if err := child.Wait(); err != nil {
		how = "with " + err.Error()
	}
	fmt.Fprintf(s.err, "%s\n", lastLines(logName, start, 10))
	return fmt.Errorf("the daemon ended before the mount answered, %s; above is the end of its log %s", how, logName)
}

// lastLines returns the end of what was logged since start.
func lastLines(name string, start int64, n int) string {
	f, err := os.Open(name)
	if err != nil {
		return "  (" + err.Error() + ")"
	}
	defer f.Close()
	const most = 64 << 10
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		start = max(start, size-most)
	}
	_, _ = f.Seek(start, io.SeekStart)
	text, _ := io.ReadAll(io.LimitReader(f, most))
	lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
	lines = lines[max(0, len(lines)-n):]
	return "  " + strings.Join(lines, "\n  ")
}

// answerWithin is how long a mount may take to answer its first stat.
const answerWithin = 30 * time.Second

// waitMounted returns when the mount is in the mount table and answers a stat.
func waitMounted(ctx context.Context, s *system, mountpoint string) error {
	mounts, err := s.mounts()
	if err != nil {
		return err
	}
	if info := mounts.at(mountpoint); info == nil || info.FSType != fsType {
		return fmt.Errorf("%s is not in the mount table, though the daemon said so: see its log", mountpoint)
	}
	answered := make(chan error, 1)
	go func() {
		var st unix.Stat_t
		answered <- unix.Stat(mountpoint, &st)
	}()
	select {
	case err := <-answered:
		if err != nil {
			return fmt.Errorf("the mount on %s does not answer: %w", mountpoint, err)
		}
		return nil
	case <-time.After(answerWithin):
		return fmt.Errorf("the mount on %s does not answer within %v: see its log", mountpoint, answerWithin)
	case <-ctx.Done():
		return ctx.Err()
	}
}
