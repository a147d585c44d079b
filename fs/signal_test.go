package fs

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"depotfs/cache"
)

// cold is a mount whose only file waits for gate.
func cold(t *testing.T) (m *mounted, path string, asked, interrupted, gate chan struct{}) {
	l := newLoopback(t)
	m = mount(t, l, Options{})
	requirePassthrough(t, m)
	path = m.write(t, "x", strings.Repeat("x", 4096))
	m.settle(t)
	l.setAbsent(true)
	asked, interrupted, gate = make(chan struct{}, 10), make(chan struct{}, 10), make(chan struct{})
	l.setWaiting(func(ctx context.Context, _ cache.Ino) error {
		asked <- struct{}{}
		select {
		case <-ctx.Done():
			interrupted <- struct{}{}
			return ctx.Err()
		case <-gate:
			return nil
		}
	})
	return m, path, asked, interrupted, gate
}

func TestSignalEndsAWaitingRead(t *testing.T) {
	_, path, asked, interrupted, _ := cold(t)
	cmd, _, out, tid := startChild(t, "read "+path)
	<-asked
	if err := unix.Tgkill(cmd.Process.Pid, tid, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	<-interrupted
	if line, err := out.ReadString('\n'); err != nil || line != "read: interrupted system call\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestKillEndsAWaitingReader(t *testing.T) {
	_, path, asked, interrupted, _ := cold(t)
	cmd, _, _, _ := startChild(t, "read "+path)
	<-asked
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-interrupted
	cmd.Wait() // returns, although the bytes never came
}

// A page fault cannot be interrupted: an error would be SIGBUS.
func TestSignalDoesNotBreakAPageFault(t *testing.T) {
	_, path, asked, interrupted, gate := cold(t)
	cmd, _, out, tid := startChild(t, "fault "+path)
	<-asked
	if err := unix.Tgkill(cmd.Process.Pid, tid, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-interrupted:
		t.Error("the signal ended the request of a page fault")
	case <-time.After(300 * time.Millisecond): // as long as it had a chance to
	}
	close(gate)
	if line, err := out.ReadString('\n'); err != nil || line != "fault: x\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v", err)
	}
}
