package share

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Flags of Rename.
const (
	NoReplace uint = unix.RENAME_NOREPLACE
	Exchange  uint = unix.RENAME_EXCHANGE
)

// Mkdir makes a directory.
func (s *Share) Mkdir(rel string, mode uint32) error {
	return s.on("mkdir", rel, func(dirfd int, name string) error {
		return again(func() error { return unix.Mkdirat(dirfd, name, mode) })
	})
}

// MkdirAll makes a directory and those above it that are missing. One that
// exists is no error, anything else in the place is ENOTDIR (or ELOOP).
func (s *Share) MkdirAll(rel string, mode uint32) error {
	if rel == "" {
		return nil
	}
	err := s.Mkdir(rel, mode)
	if errors.Is(err, unix.ENOENT) && parentOf(rel) != "" {
		if err := s.MkdirAll(parentOf(rel), mode); err != nil {
			return err
		}
		err = s.Mkdir(rel, mode)
	}
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	st, err := s.Stat(rel)
	if err == nil && !st.IsDir() {
		err = &os.PathError{Op: "mkdir", Path: rel, Err: unix.ENOTDIR}
	}
	return err
}

// Mknod makes a file of any type; mode has the type bits, rdev is for devices.
func (s *Share) Mknod(rel string, mode, rdev uint32) error {
	return s.on("mknod", rel, func(dirfd int, name string) error {
		return again(func() error { return unix.Mknodat(dirfd, name, mode, int(rdev)) })
	})
}

// Symlink makes rel point to target, which may be any string: nothing in this
// package ever follows it.
func (s *Share) Symlink(target, rel string) error {
	return s.on("symlink", rel, func(dirfd int, name string) error {
		return again(func() error { return unix.Symlinkat(target, dirfd, name) })
	})
}

// Readlink returns what a symlink points to.
func (s *Share) Readlink(rel string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n := 0
	err := s.on("readlink", rel, func(dirfd int, name string) error {
		var err error
		n, err = retry(func() (int, error) { return unix.Readlinkat(dirfd, name, buf) })
		return err
	})
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Link gives a file another name. A symlink is linked itself.
func (s *Share) Link(oldRel, newRel string) error {
	return s.onTwo("link", oldRel, newRel, func(od int, on string, nd int, nn string) error {
		return again(func() error { return unix.Linkat(od, on, nd, nn, 0) })
	})
}

// Unlink removes a name that is no directory.
func (s *Share) Unlink(rel string) error {
	return s.on("unlink", rel, func(dirfd int, name string) error {
		return again(func() error { return unix.Unlinkat(dirfd, name, 0) })
	})
}

// Rmdir removes an empty directory.
func (s *Share) Rmdir(rel string) error {
	return s.on("rmdir", rel, func(dirfd int, name string) error {
		return again(func() error { return unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR) })
	})
}

// Rename moves a name; flags are 0, NoReplace or Exchange.
//
// File systems without flags (NFS) get NoReplace as well: files are linked to the
// new name, which is atomic, and then unlinked from the old one, so a crash
// between the two leaves both names; what cannot be linked (directories) is
// renamed after a look, which is no protection against others at the very same
// moment. Exchange is EINVAL there.
func (s *Share) Rename(oldRel, newRel string, flags uint) error {
	return s.onTwo("rename", oldRel, newRel, func(od int, on string, nd int, nn string) error {
		err := again(func() error { return unix.Renameat2(od, on, nd, nn, flags) })
		unsupported := errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP)
		if flags == 0 || !unsupported || below(newRel, oldRel) || below(oldRel, newRel) {
			return err // EINVAL for a directory into itself is no lack of flags
		}
		if s.noFlags.CompareAndSwap(false, true) {
			s.log.Debug("the share's file system has no rename flags: emulated", "dir", s.dir, "err", err)
		}
		if flags != NoReplace {
			return unix.EINVAL
		}
		return renameNoReplace(od, on, nd, nn)
	})
}

func renameNoReplace(od int, on string, nd int, nn string) error {
	err := again(func() error { return unix.Linkat(od, on, nd, nn, 0) })
	switch {
	case err == nil:
		return again(func() error { return unix.Unlinkat(od, on, 0) })
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EMLINK):
	default:
		return err
	}
	_, err = statAt(nd, nn, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_FORCE_SYNC)
	if err == nil {
		return unix.EEXIST
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	return again(func() error { return unix.Renameat2(od, on, nd, nn, 0) })
}

// below says whether path lies in dir or is it.
func below(path, dir string) bool {
	return len(path) >= len(dir) && path[:len(dir)] == dir && (len(path) == len(dir) || path[len(dir)] == '/')
}
