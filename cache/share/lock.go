package share

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked: another process, possibly on another machine, holds the lock.
var ErrLocked = errors.New("locked by another process")

// Lock is a held lock. It ends with Close or with the process.
type Lock struct{ f *os.File }

// Lock takes an exclusive lock on the file rel, which it makes if need be, or
// says ErrLocked at once. It is an flock; NFS clients make it a byte-range lock
// at the server (unless mounted with local_lock: see MountWarnings).
func (s *Share) Lock(rel string) (*Lock, error) {
	if err := s.check("lock", rel); err != nil {
		return nil, err
	}
	f, err := s.OpenFile(rel, unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return nil, err
	}
	err = withFd(f, func(fd int) error {
		return again(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	})
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EACCES) {
			err = ErrLocked
		}
		return nil, &os.PathError{Op: "lock", Path: rel, Err: err}
	}
	return &Lock{f: f}, nil
}

// Close gives the lock back. The file stays: removing it would let two others
// lock two different files of that name.
func (l *Lock) Close() error { return l.f.Close() }
