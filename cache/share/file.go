package share

import (
	"errors"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// OpenFile opens a file. Besides the caller's flags it never follows a symlink
// (ELOOP) and closes on exec. Without O_DIRECTORY or O_PATH it opens regular
// files alone, and looks before it opens: a FIFO cannot block it and a device
// does not notice (ENXIO; EISDIR for directories). mode is for new files.
func (s *Share) OpenFile(rel string, flags int, mode uint32) (*os.File, error) {
	if err := s.check("open", rel); err != nil {
		return nil, err
	}
	var fd int
	var err error
	if flags&(unix.O_DIRECTORY|unix.O_PATH) != 0 {
		fd, err = s.root.open(rel, flags, mode)
	} else {
		fd, err = s.openRegular(rel, flags, mode)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: rel, Err: err}
	}
	return os.NewFile(uintptr(fd), rel), nil
}

// openRegular opens what is there if it is a regular file, or makes one.
func (s *Share) openRegular(rel string, flags int, mode uint32) (int, error) {
	const create = unix.O_CREAT | unix.O_EXCL
	for {
		if flags&create != create {
			fd, err := s.reopen(rel, flags&^create)
			if flags&unix.O_CREAT == 0 || !errors.Is(err, unix.ENOENT) {
				return fd, err
			}
		}
		fd, err := s.root.open(rel, flags|create, mode)
		if flags&unix.O_EXCL != 0 || !errors.Is(err, unix.EEXIST) {
			return fd, err
		}
		// Somebody made it between the two calls: open theirs.
	}
}

// reopen pins the inode first, so that what was looked at is what is opened.
func (s *Share) reopen(rel string, flags int) (int, error) {
	pin, err := s.root.open(rel, unix.O_PATH, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pin)
	st, err := statFd(pin, 0)
	if err != nil {
		return -1, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return -1, unix.EISDIR
	case unix.S_IFLNK:
		return -1, unix.ELOOP
	default:
		return -1, unix.ENXIO
	}
	return retry(func() (int, error) {
		return unix.Open(procPath(pin), flags&^unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

// Clone makes the new file rel share the blocks of src, where the file system
// can (XFS, btrfs, NFS 4.2); otherwise the error is EOPNOTSUPP and rel is not there.
func (s *Share) Clone(src *os.File, rel string) error {
	dst, err := s.OpenFile(rel, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = s.check("clone", rel); err == nil {
		err = withFd(dst, func(d int) error {
			return withFd(src, func(sfd int) error {
				return again(func() error { return unix.IoctlFileClone(d, sfd) })
			})
		})
		switch {
		case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
			err = unix.EOPNOTSUPP
		}
		if err != nil {
			err = &os.PathError{Op: "clone", Path: rel, Err: err}
		}
	}
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errors.Join(err, s.Unlink(rel))
	}
	return nil
}

// ReadFile reads a small file; one larger than limit bytes is EFBIG.
func (s *Share) ReadFile(rel string, limit int64) ([]byte, error) {
	f, err := s.OpenFile(rel, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = &os.PathError{Op: "read", Path: rel, Err: unix.EFBIG}
	}
	return b, err
}

// TempSuffix marks files of .depotfs that a rename is about to put in place. One that a kill
// left means nothing.
const TempSuffix = ".new"

// ReplaceFile gives rel new content, durably and at once or not at all: a file
// beside it (rel + ".new") is written, synced and renamed over it.
func (s *Share) ReplaceFile(rel string, mode uint32, write func(w io.Writer) error) error {
	temp := rel + TempSuffix
	f, err := s.OpenFile(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if err = s.ask("write", temp); err == nil {
		err = write(f)
	}
	if err == nil {
		err = s.fsync(f, temp)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.Rename(temp, rel, 0)
	}
	if err != nil {
		return errors.Join(err, ignoreNotExist(s.Unlink(temp)))
	}
	return s.SyncDir(parentOf(rel))
}

func (s *Share) fsync(f *os.File, rel string) error {
	if err := s.check("fsync", rel); err != nil {
		return err
	}
	return f.Sync()
}

// withFd lends a file's descriptor to fn; the file cannot be closed meanwhile.
func withFd(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = fn(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

func parentOf(rel string) string {
	if dir := path.Dir(rel); dir != "." {
		return dir
	}
	return ""
}

func ignoreNotExist(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
