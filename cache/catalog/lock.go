package catalog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is a file of our own: Badger locks the directory itself, but only
// after the point where the files must no longer change under verify.
const lockName = "catalog.lock"

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

// bootID is the kernel's random name of the current boot.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// guard is deferred around calls into Badger: tables and logs are mapped into
// memory, and damage in them surfaces as a panic or a memory fault. It must
// not surround a caller's function, whose panics are its own.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = damagedf("%v", p)
	}
}

// faults makes memory faults in the calling goroutine panics, for guard:
//
//	defer guard(&err)
//	defer faults()()
func faults() func() {
	old := debug.SetPanicOnFault(true)
	return func() { debug.SetPanicOnFault(old) }
}

// room knows whether the state directory's disk can take another change.
// Badger writes its log and its tables through mappings of sparse files: on a
// full disk that is a SIGBUS in one of its goroutines, which ends the process.
// So writes stop before the disk is full.
type room struct {
	dir  string
	mu   sync.Mutex
	next time.Time // when to look again; guarded by mu
	err  error     // guarded by mu
}

const (
	// minRoom covers two logs (32 MiB each), two tables of level 0 and the output of a compaction.
	minRoom = 256 << 20
	// roomPause is how long an answer holds; at 200 MB/s of commits 20 MB pass in it.
	roomPause = 100 * time.Millisecond
)

// check returns ErrFull when there is too little room.
func (r *room) check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Before(r.next) {
		return r.err
	}
	var s unix.Statfs_t
	if err := unix.Statfs(r.dir, &s); err != nil {
		return fmt.Errorf("statfs %s: %w", r.dir, err)
	}
	r.next, r.err = now.Add(roomPause), nil
	if free := int64(s.Bavail) * s.Bsize; free < minRoom {
		r.err = fmt.Errorf("%d MiB free, %d needed: %w", free>>20, minRoom>>20, ErrFull)
	}
	return r.err
}
