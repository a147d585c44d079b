package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// words is the one place where the heart's errors become errno, first match wins.
// The store's words come before any errno in the same chain: a refused connection
// to the store wraps ECONNREFUSED, which no read(2) may answer.
var words = []struct {
	err    error
	status fuse.Status
}{
	{cache.ErrStale, fuse.Status(syscall.ESTALE)},
	{cache.ErrBusy, fuse.EBUSY},
	{cache.ErrOff, fuse.EIO},
	{cache.ErrGone, fuse.EIO},
	{cache.ErrMarker, fuse.EIO},
	{cache.ErrUnavailable, fuse.EIO},
	{cache.ErrDenied, fuse.EIO},
	{cache.ErrChecksum, fuse.EIO},
	{cache.ErrNotFound, fuse.EIO},
	{cache.ErrChanged, fuse.EIO},
	{cache.ErrRejected, fuse.EIO},
	{context.Canceled, fuse.EINTR},
	{context.DeadlineExceeded, fuse.EIO},
}

// libraryWords are the standard library's, asked after the errno in the chain.
var libraryWords = []struct {
	err    error
	status fuse.Status
}{
	{iofs.ErrNotExist, fuse.ENOENT},
	{iofs.ErrExist, fuse.Status(syscall.EEXIST)},
	{iofs.ErrPermission, fuse.EACCES},
	{iofs.ErrInvalid, fuse.EINVAL},
	{errors.ErrUnsupported, fuse.ENOTSUP},
}

// toStatus translates err; known is false for an error that has no word here.
func toStatus(err error) (st fuse.Status, known bool) {
	if err == nil {
		return fuse.OK, true
	}
	for _, w := range words {
		if errors.Is(err, w.err) {
			return w.status, true
		}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		switch errno {
		case 0:
			return fuse.EIO, false
		case syscall.ENOSYS:
			// To the kernel ENOSYS means "never ask this mount again", whatever
			// the file; the share only meant this one.
			return fuse.ENOTSUP, true
		}
		return fuse.Status(errno), true
	}
	for _, w := range libraryWords {
		if errors.Is(err, w.err) {
			return w.status, true
		}
	}
	return fuse.EIO, false
}

// fail translates err and writes a line about one that has no word.
func (b *bridge) fail(op string, ino uint64, err error) fuse.Status {
	st, known := toStatus(err)
	if !known {
		b.strange.warn("the kernel was answered EIO", "op", op, "ino", ino, "err", err)
	}
	return st
}

// strangeEvery is how often a throttle lets a line through: often enough to be
// seen, seldom enough that a failing disk does not fill another one.
const strangeEvery = time.Second

// throttle logs at most one line in strangeEvery and counts what it left out.
type throttle struct {
	log *slog.Logger

	mu   sync.Mutex // guards below
	next time.Time
	left int
}

func (t *throttle) warn(msg string, args ...any) {
	t.mu.Lock()
	now := time.Now()
	if now.Before(t.next) {
		t.left++
		t.mu.Unlock()
		return
	}
	left := t.left
	t.left, t.next = 0, now.Add(strangeEvery)
	t.mu.Unlock()
	if left > 0 {
		args = append(args, "left_out", left)
	}
	t.log.Warn(msg, args...)
}
