package share

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Options are for Open; the zero value is good.
type Options struct {
	Log *slog.Logger // nil: discard

	// Fault is a seam for tests: it is called before each operation with its
	// name (that of the method in lower case, and "write", "fsync" for what the
	// package writes itself), the tag of the Share (see Share.Tag) and the path
	// (the old one, of two). An error is returned in place of the operation.
	Fault func(op, tag, rel string) error
}

// Share is the cache directory.
type Share struct {
	*root
	tag string
}

// root is what all tagged views of a Share have in common.
type root struct {
	dir    string
	fd     int
	fsType atomic.Int64
	log    *slog.Logger
	fault  func(op, tag, rel string) error

	noFlags atomic.Bool // the file system has no renameat2 flags: said once in the log
}

// Open opens an existing directory. dir itself may be reached through symlinks.
func Open(dir string, o Options) (*Share, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	s := &Share{root: &root{dir: dir, fd: fd, log: o.Log, fault: o.Fault}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.probe(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("use %s as cache directory: %w", dir, err)
	}
	return s, nil
}

// probe makes sure that the kernel has what every operation stands on.
func (s *Share) probe() error {
	fd, err := openat2(s.fd, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			return fmt.Errorf("this kernel or container does not offer openat2, which Linux 5.6 and newer have: %w", err)
		}
		return fmt.Errorf("openat2: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Stat(procPath(fd), &st); err != nil {
		return fmt.Errorf("/proc is not mounted: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(s.fd, &fs); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	s.fsType.Store(int64(fs.Type))
	return nil
}

// Close releases the directory. Files opened through it stay open.
func (s *Share) Close() error {
	if err := unix.Close(s.fd); err != nil {
		return &os.PathError{Op: "close", Path: s.dir, Err: err}
	}
	return nil
}

// Tag returns a view of the share whose operations carry tag to Options.Fault,
// so that a test can break one step of one procedure.
func (s *Share) Tag(tag string) *Share { return &Share{root: s.root, tag: tag} }

// Dir is the directory that Open was given, for people to read.
func (s *Share) Dir() string { return s.dir }

// ask asks the seam whether an operation is to fail.
func (s *Share) ask(op, rel string) error {
	if s.fault == nil {
		return nil
	}
	if err := s.fault(op, s.tag, rel); err != nil {
		return &os.PathError{Op: op, Path: rel, Err: err}
	}
	return nil
}

// check asks the seam and validates the path: what every operation does first.
func (s *Share) check(op, rel string) error {
	if err := s.ask(op, rel); err != nil {
		return err
	}
	if err := validPath(rel); err != nil {
		return &os.PathError{Op: op, Path: rel, Err: err}
	}
	return nil
}

// on runs fn with a descriptor of rel's parent and rel's last name ("." for the
// root) and gives its error the operation and the path.
func (s *Share) on(op, rel string, fn func(dirfd int, name string) error) error {
	if err := s.check(op, rel); err != nil {
		return err
	}
	p, err := s.parent(rel)
	if err == nil {
		defer p.close()
		err = fn(p.fd, p.name)
	}
	if err != nil {
		return &os.PathError{Op: op, Path: rel, Err: err}
	}
	return nil
}

// onTwo is on for operations with two paths.
func (s *Share) onTwo(op, oldRel, newRel string, fn func(olddir int, oldname string, newdir int, newname string) error) error {
	if err := s.check(op, oldRel); err != nil {
		return err
	}
	if err := validPath(newRel); err != nil {
		return &os.PathError{Op: op, Path: newRel, Err: err}
	}
	err := func() error {
		from, err := s.parent(oldRel)
		if err != nil {
			return err
		}
		defer from.close()
		to, err := s.parent(newRel)
		if err != nil {
			return err
		}
		defer to.close()
		return fn(from.fd, from.name, to.fd, to.name)
	}()
	if err != nil {
		return &os.LinkError{Op: op, Old: oldRel, New: newRel, Err: err}
	}
	return nil
}
