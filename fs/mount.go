package fs

import (
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// mountOptions is what we want of go-fuse and of the kernel.
func (s *Server) mountOptions() *fuse.MountOptions {
	root := os.Geteuid() == 0
	o := &fuse.MountOptions{
		Name: fsType, FsName: s.opts.FsName,
		AllowOther:        s.opts.AllowOther || root,
		DirectMountStrict: root, // fusermount is for who may not mount
		Options:           []string{"default_permissions"},
		MaxWrite:          maxTransfer, MaxReadAhead: maxTransfer, MaxBackground: maxBackground,
		MaxStackDepth: stackDepth,
		// Measured: splicing files into replies gains nothing over reading them, and a
		// short splice would look like the end of the file.
		DisableSplice:        true,
		EnableSymlinkCaching: true, // a target never changes under one inode number
		Debug:                s.opts.Debug,
		Logger:               log.New(lineLogger{s.log, s.opts.Debug}, "", 0),
		PanicHandler:         s.panicked,
		// Not here on purpose: WRITEBACK_CACHE (the share would not have what was
		// written), DONT_MASK (the kernel applies the umask), locks and POSIX ACLs
		// (the kernel keeps locks itself; ACLs are not kept at all).
		ExtraCapabilities: fuse.CAP_EXPORT_SUPPORT | // NFS handles
			fuse.CAP_ATOMIC_O_TRUNC | // a file opened with O_TRUNC needs no old bytes
			fuse.CAP_DIRECT_IO_ALLOW_MMAP | // shared mappings of files that are not here
			fuse.CAP_ASYNC_DIO | // deep queues on O_DIRECT
			fuse.CAP_READDIRPLUS_AUTO | // attributes only for who wants them
			fuse.CAP_HANDLE_KILLPRIV_V2, // else every write asks for security.capability first
	}
	if s.opts.Passthrough == Off {
		o.DisabledCapabilities = fuse.CAP_PASSTHROUGH
	}
	return o
}

// probePassthrough registers a file with the kernel to see whether it can be done:
// the capability alone does not say that we may.
func (s *Server) probePassthrough(offered uint64) error {
	if offered&fuse.CAP_PASSTHROUGH == 0 {
		return errors.New("this kernel has none (Linux 6.9 or later has, as root)")
	}
	fd, err := unix.MemfdCreate("depotfs-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a file to probe with: %w", err)
	}
	defer unix.Close(fd)
	id, errno := s.kernel.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	if errno != 0 {
		return fmt.Errorf("register a backing file: %w", errno)
	}
	s.kernel.UnregisterBackingFd(id)
	return nil
}

// tune learns the mount's device number and lets the kernel read ahead as much as
// one request holds: the default of 128 KiB halves the speed of long reads that do
// not pass through, and INIT can only lower it. Best effort: needs root and sysfs.
func (s *Server) tune() {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, s.opts.Mountpoint, unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		return
	}
	s.minor.Store(st.Dev_minor)
	if !s.Passthrough() {
		knob := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", st.Dev_major, st.Dev_minor)
		_ = os.WriteFile(knob, fmt.Appendln(nil, maxTransfer>>10), 0)
	}
}

// panicked keeps one broken request from ending the mount.
func (s *Server) panicked(cause any) fuse.Status {
	s.log.Error("a request failed in a way that is a bug: please report it", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	return fuse.EIO
}

// lineLogger takes go-fuse's lines: all of them are requests in debug mode, else
// they are about something odd.
type lineLogger struct {
	log   *slog.Logger
	debug bool
}

func (l lineLogger) Write(p []byte) (int, error) {
	say := l.log.Warn
	if l.debug {
		say = l.log.Debug
	}
	say(strings.TrimSuffix(string(p), "\n"), "from", "go-fuse")
	return len(p), nil
}

// checkMountpoint says in one line what is wrong with a mount point.
func checkMountpoint(path string) error {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); {
	case errors.Is(err, syscall.ENOTCONN):
		return fmt.Errorf("mount point %s: a dead mount is there: run `umount -l %s` first", path, path)
	case err != nil:
		return fmt.Errorf("mount point %s: %w", path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("mount point %s: %w", path, syscall.ENOTDIR)
	}
	var sx unix.Statx_t
	var sf unix.Statfs_t
	if unix.Statx(unix.AT_FDCWD, path, 0, 0, &sx) == nil && sx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 &&
		unix.Statfs(path, &sf) == nil && sf.Type == unix.FUSE_SUPER_MAGIC {
		return fmt.Errorf("mount point %s is in use: something is mounted there already, unmount it first: %w", path, syscall.EBUSY)
	}
	return nil
}

// explain adds what to do to errors whose cause is known.
func explain(err error) error {
	switch {
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: mounting needs root, or fusermount3 (package fuse3)", err)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENODEV):
		return fmt.Errorf("%w: is /dev/fuse there? (modprobe fuse; containers need --device /dev/fuse)", err)
	}
	return err
}
