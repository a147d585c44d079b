package fs

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// staleOpens answers for an inode that lost its name between the kernel's LOOKUP and
// its OPEN or READLINK, as a file does that is replaced by rename. To ESTALE the
// kernel looks the name up again and opens what has it now, which is right; but it
// tries only once, and no program expects ESTALE from open(2). So the second time in
// a row the same thread is told ENOENT: the name came and went too fast.
type staleOpens struct {
	told atomic.Int32         // threads in last: an open of any other file need not lock
	mu   sync.Mutex           // guards last
	last map[uint32]time.Time // by thread: when it was told ESTALE
}

// opened forgets a thread whose second try went well: the next file that it opens
// may have lost its name as well.
func (s *staleOpens) opened(pid uint32) {
	if s.told.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, pid)
	s.told.Store(int32(len(s.last)))
}

// retryWithin is how soon the kernel's second try comes, with room for a share
// that takes its time.
const retryWithin = time.Second

// keptStale bounds the memory of threads that never came back.
const keptStale = 1024

func (s *staleOpens) status(pid uint32) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.told.Store(int32(len(s.last))) }()
	now := time.Now()
	told, ok := s.last[pid]
	if ok && now.Sub(told) < retryWithin {
		delete(s.last, pid)
		return fuse.ENOENT
	}
	if s.last == nil || len(s.last) >= keptStale {
		s.last = map[uint32]time.Time{}
	}
	s.last[pid] = now
	return fuse.Status(syscall.ESTALE)
}
