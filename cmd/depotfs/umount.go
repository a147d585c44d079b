package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func (s *system) umountCommand() *cli.Command {
	return &cli.Command{
		Name:        "umount",
		Usage:       "unmount; what waits to be uploaded goes on at the next mount",
		ArgsUsage:   "MOUNTPOINT",
		Description: "Returns when the daemon has ended. Also removes what a daemon left that was killed.",
		Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 || c.Args().First() == "" {
				return usagef("umount: name one mount point")
			}
			if err := s.umount(c.Context, c.Args().First()); err != nil {
				return fmt.Errorf("umount: %w", err)
			}
			return nil
		},
	}
}

func (s *system) umount(ctx context.Context, name string) error {
	mounts, err := s.mounts()
	if err != nil {
		return err
	}
	t, err := mounts.target(name)
	if err != nil {
		return err
	}
	m := t.mount
	if full, err := mounts.resolve(name); err != nil || full != m.Mountpoint {
		return fmt.Errorf("%s is not a mount point, it lies in the mount on %s", name, m.Mountpoint)
	}
	if m.Root != "/" { // a bind mount of a part: the daemon goes on
		return busyText(m.Mountpoint, detach(m.Mountpoint))
	}
	daemon := newClient(m)
	ended, err := watchProcess(daemon.pid(ctx))
	if err != nil {
		return err
	}
	defer ended.Close()
	body, err := daemon.do(ctx, "POST", "umount", nil)
	switch {
	case err == nil:
		body.Close()
		return ended.wait(ctx)
	case errors.Is(err, errMountBusy):
		return busyText(m.Mountpoint, unix.EBUSY)
	case errors.Is(err, errNoDaemon):
		return busyText(m.Mountpoint, detach(m.Mountpoint))
	case !s.mounted(m):
		return ended.wait(ctx) // the daemon has unmounted it, and ended before its answer was out
	default:
		return err
	}
}

// mounted says whether a mount is in the table as it is now.
func (s *system) mounted(m mountEntry) bool {
	now, err := s.mounts()
	if err != nil {
		return true // nobody knows
	}
	e, ok := entry(now.at(m.Mountpoint))
	return ok && e == m
}

// detach removes a mount from the table without asking a daemon.
func detach(mountpoint string) error { return detachHow(mountpoint, 0, "-u") }

// detachLazily removes it even when it is busy; what is open stays open.
func detachLazily(mountpoint string) error { return detachHow(mountpoint, unix.MNT_DETACH, "-uz") }

func detachHow(mountpoint string, flags int, helperFlag string) error {
	err := unix.Unmount(mountpoint, unix.UMOUNT_NOFOLLOW|flags)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	// An ordinary user needs the set-uid helper of fuse.
	for _, helper := range []string{"fusermount3", "fusermount"} {
		if _, missing := exec.LookPath(helper); missing != nil {
			continue
		}
		said, err := exec.Command(helper, helperFlag, "--", mountpoint).CombinedOutput()
		switch {
		case err == nil:
			return nil
		case strings.Contains(string(said), "busy"):
			return unix.EBUSY
		default:
			return fmt.Errorf("%s: %s", helper, strings.TrimSpace(string(said)))
		}
	}
	return fmt.Errorf("unmount %s: %w, and fusermount3 is not installed", mountpoint, err)
}

// busyText says what a person can do about a mount that is in use.
func busyText(mountpoint string, err error) error {
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	users := usersOf(mountpoint)
	if len(users) == 0 {
		return fmt.Errorf("%s is busy: a file in it is open, or a process stands in it; end that and try again (fuser -vm %s shows it)", mountpoint, mountpoint)
	}
	return fmt.Errorf("%s is busy, used by %s: end that and try again", mountpoint, strings.Join(users, ", "))
}

// processEnd waits for the end of a process that is not a child.
type processEnd struct{ pidfd *os.File }

// watchProcess takes hold of a process; pid 0 is one that nobody need wait for.
func watchProcess(pid int) (processEnd, error) {
	if pid <= 0 {
		return processEnd{}, nil
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return processEnd{}, nil
	}
	if err != nil {
		return processEnd{}, fmt.Errorf("watch the daemon: %w", err)
	}
	return processEnd{pidfd: os.NewFile(uintptr(fd), "daemon")}, nil
}

// pollStep is how often a waiting umount looks whether it was interrupted.
const pollStep = 100 // ms

func (p processEnd) wait(ctx context.Context) error {
	if p.pidfd == nil {
		return nil
	}
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(p.pidfd.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, pollStep)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the daemon's end: %w", err)
		}
	}
	return fmt.Errorf("unmounted, but the daemon was still ending: %w", ctx.Err())
}

// Close lets go of the process.
func (p processEnd) Close() error {
	if p.pidfd == nil {
		return nil
	}
	return p.pidfd.Close()
}
