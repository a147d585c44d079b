package catalog

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// room knows whether the state directory's disk can take another change.
// Badger writes its log and its tables through mappings of sparse files: on a
// full disk that is a SIGBUS in one of its goroutines, which ends the process.
// So writes stop before the disk is full.
type room struct {
	dir  string
	min  int64 // bytes that must stay free
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
	if free := int64(s.Bavail) * s.Bsize; free < r.min {
		r.err = fmt.Errorf("%d MiB free, %d needed: %w", free>>20, r.min>>20, ErrFull)
	}
	return r.err
}
