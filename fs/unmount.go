package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// releaseWait is how long a polite unmount tries: the kernel tells of closed files
// a moment after close(2) returned to its caller.
const releaseWait = 2 * time.Second

// Unmount unmounts. syscall.EBUSY says that somebody has files open or stands in
// the mount, which goes on as before. What is not mounted any more is no error.
func (s *Server) Unmount() error {
	if s.kernel == nil {
		return nil
	}
	if s.tryUnmount(releaseWait) {
		return nil
	}
	return s.notGone()
}

// Detach takes the mount out of the tree even when it is busy. Those who have files
// open go on, and so does Serve, until the last of them leaves.
func (s *Server) Detach() error {
	if s.kernel == nil {
		return nil
	}
	err := s.umount(unix.MNT_DETACH)
	if err == nil || notMounted(err) {
		return nil
	}
	return fmt.Errorf("detach %s: %w", s.opts.Mountpoint, err)
}

// Done is closed when the kernel has let go of the mount.
func (s *Server) Done() <-chan struct{} { return s.served }

// notGone is the answer of the last attempt.
func (s *Server) notGone() error {
	err := s.umount(0)
	if err == nil || notMounted(err) || s.ended() {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", s.opts.Mountpoint, err)
}

// tryUnmount tries until the mount is gone, for as long as it is only busy.
func (s *Server) tryUnmount(wait time.Duration) (gone bool) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	const first, longest = 5 * time.Millisecond, 250 * time.Millisecond
	for pause := first; ; pause = min(2*pause, longest) {
		err := s.umount(0)
		if err == nil || notMounted(err) || s.ended() {
			return true
		}
		if !errors.Is(err, syscall.EBUSY) {
			return false
		}
		select {
		case <-timeout.C:
			return false
		case <-s.served:
			return true
		case <-time.After(pause):
		}
	}
}

// leave unmounts because depotfs ends. It waits BusyWait for users to leave; who
// then still has files open gets errors.
func (s *Server) leave() error {
	if !s.tryUnmount(s.opts.BusyWait) {
		s.log.Warn("the mount is busy and depotfs ends: its users get errors", "path", s.opts.Mountpoint,
			"open_files", s.bridge.Load().files.open.Load(), "reason", s.notGone())
		s.abort()
		if err := s.Detach(); err != nil {
			return err
		}
	}
	if s.servedWithin(releaseWait) {
		return nil
	}
	s.abort() // it was detached before, and still has users
	if s.servedWithin(s.opts.BusyWait) {
		return nil
	}
	return fmt.Errorf("unmount %s: %d files are still open; they end with depotfs", s.opts.Mountpoint, s.bridge.Load().files.open.Load())
}

// abort ends the connection to the kernel, so that requests of those who still use
// the mount fail at once. Best effort: one way needs root and the mount in the
// tree, the other the fusectl file system.
func (s *Server) abort() {
	if os.Geteuid() == 0 {
		_ = unix.Unmount(s.opts.Mountpoint, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW) // says EBUSY, but has aborted
	}
	if minor := s.minor.Load(); minor != 0 {
		_ = os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", minor), []byte("1"), 0)
	}
}

func (s *Server) servedWithin(wait time.Duration) bool {
	select {
	case <-s.served:
		return true
	case <-time.After(wait):
		return false
	}
}

func (s *Server) ended() bool {
	select {
	case <-s.served:
		return true
	default:
		return false
	}
}

// abandon undoes a mount that nobody serves yet.
func (s *Server) abandon() error {
	go s.kernel.Serve() // reads the end of the connection
	s.abort()
	return s.Detach()
}

// notMounted says whether umount2 found nothing of ours.
func notMounted(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT)
}

// helperTimeout bounds fusermount3: it only asks the kernel.
const helperTimeout = 10 * time.Second

// umount is umount2(2), by fusermount3 for who may not.
func (s *Server) umount(flags int) error {
	err := unix.Unmount(s.opts.Mountpoint, flags|unix.UMOUNT_NOFOLLOW)
	if !errors.Is(err, syscall.EPERM) {
		return err
	}
	args := []string{"-u", "--", s.opts.Mountpoint}
	if flags&unix.MNT_DETACH != 0 {
		args = append([]string{"-z"}, args...)
	}
	ctx, cancel := context.WithTimeout(s.bridge.Load().ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fusermount3", args...)
	cmd.Dir = "/" // never inside the mount
	said, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case bytes.Contains(said, []byte("busy")):
		return syscall.EBUSY
	case bytes.Contains(said, []byte("not found")), bytes.Contains(said, []byte("not mounted")):
		return syscall.EINVAL
	}
	return fmt.Errorf("fusermount3: %s: %w", bytes.TrimSpace(said), err)
}
