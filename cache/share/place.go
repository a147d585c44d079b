package share

import (
	"os"

	"golang.org/x/sys/unix"
)

// A Share holds its directory open, so it goes on reaching it when the file system
// is lazily unmounted, or another one is mounted over it. Whoever did that does not
// want it used any more, and may be about to check or replace it.

// InPlace says whether the path that the share was opened by still leads to it.
func (s *Share) InPlace() (bool, error) {
	if err := s.ask("inplace", ""); err != nil {
		return false, err
	}
	var at, ours unix.Stat_t
	if err := again(func() error { return unix.Stat(s.dir, &at) }); err != nil {
		return false, &os.PathError{Op: "stat", Path: s.dir, Err: err}
	}
	if err := again(func() error { return unix.Fstat(s.fd, &ours) }); err != nil {
		return false, &os.PathError{Op: "fstat", Path: s.dir, Err: err}
	}
	return at.Dev == ours.Dev && at.Ino == ours.Ino, nil
}

// Become makes s, and everybody who uses it, use the directory of other from now on;
// other is closed. Files that are open stay what they are.
func (s *Share) Become(other *Share) error {
	if err := again(func() error { return unix.Dup3(other.fd, s.fd, unix.O_CLOEXEC) }); err != nil {
		return &os.PathError{Op: "dup3", Path: s.dir, Err: err}
	}
	s.fsType.Store(other.fsType.Load())
	return other.Close()
}
