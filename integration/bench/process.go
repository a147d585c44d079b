package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startTime = 30 * time.Second // for a program to answer or a mount to appear; a loaded machine is slow
	stopTime  = 20 * time.Second // for an orderly end, before it is killed
	lookEvery = 10 * time.Millisecond
)

// process is a server or a daemon that runs as our child. Its output goes to a file.
type process struct {
	cmd *exec.Cmd
	log string
	end chan struct{} // closed when it has ended
}

func startProcess(log string, env []string, name string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.Command(name, args...), log: log, end: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// Ctrl-C on the terminal is for us; we end what we started, in order. Should we
	// be killed, the kernel ends it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.end)
	}()
	return p, nil
}

// lastWords are the end of the log, for a message.
func (p *process) lastWords() string {
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.end:
		return nil
	case <-time.After(stopTime):
	}
	_ = p.cmd.Process.Kill()
	<-p.end
	return fmt.Errorf("%s did not end and was killed", filepath.Base(p.cmd.Path))
}

// until waits for done, for the process to end or for time to run out.
func (p *process) until(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-p.end:
			return fmt.Errorf("%s ended before %s: %s", filepath.Base(p.cmd.Path), what, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s: waiting for %s: %w", filepath.Base(p.cmd.Path), what, ctx.Err())
		}
	}
	return nil
}

// isMount says whether something is mounted on dir.
func isMount(dir string) bool {
	var at, above unix.Stat_t
	if unix.Stat(dir, &at) != nil || unix.Stat(filepath.Dir(dir), &above) != nil {
		return false
	}
	return at.Dev != above.Dev
}

// unmount takes a mount away, by force if it must.
func unmount(dir string) {
	if os.Geteuid() == 0 {
		if err := unix.Unmount(dir, 0); err == nil || errors.Is(err, unix.EINVAL) {
			return
		}
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		return
	}
	_ = exec.Command("fusermount3", "-uz", dir).Run()
}

// run runs a program to its end; its output goes into the error, if there is one.
func run(ctx context.Context, name string, args ...string) error {
	return runEnv(ctx, nil, name, args...)
}

func runEnv(ctx context.Context, env []string, name string, args ...string) error {
	_, err := output(ctx, env, name, args...)
	return err
}

// output runs a program and returns what it printed.
func output(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		text := strings.TrimSpace(stderr.String())
		if text == "" {
			text = strings.TrimSpace(string(out))
		}
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args[:min(2, len(args))], " "), err, text)
	}
	return out, nil
}

// installed says whether a program can be found.
func installed(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
