package fs

import (
	"context"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// what a notice invalidates.
type what uint8

const (
	entryOf   what = 1 + iota // a name in directory ino
	wholeNode                 // attributes and pages of ino
)

// notice is something that the kernel has to forget. Two equal ones are one.
type notice struct {
	ino  cache.Ino
	name string // entryOf only
	what what
}

// notices is the queue between the heart, which must never wait for the kernel,
// and the goroutine that does: the kernel wants the directory's lock, which a
// request that we have not answered yet may hold. It has no bound but what can
// change, since equal notices wait once.
type notices struct {
	mu      sync.Mutex // guards below
	waiting map[notice]struct{}
	telling map[notice]struct{} // taken, and perhaps not told yet
	live    bool                // false: nobody is there who could remember anything

	wake chan struct{} // capacity 1
}

func newNotices() *notices {
	return &notices{waiting: map[notice]struct{}{}, wake: make(chan struct{}, 1)}
}

// add queues n. It never blocks.
func (q *notices) add(n notice) {
	q.mu.Lock()
	if q.live {
		q.waiting[n] = struct{}{}
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// setLive starts and ends the queue's life; what waits at the end is dropped.
func (q *notices) setLive(live bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.live = live
	clear(q.waiting)
}

// take swaps what waits for an empty map.
func (q *notices) take(empty map[notice]struct{}) map[notice]struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	full := q.waiting
	q.waiting, q.telling = empty, full
	return full
}

// told ends what take began.
func (q *notices) told() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.telling = nil
}

// stale says whether the kernel may not know yet that its pages of ino are old.
func (q *notices) stale(ino cache.Ino) bool {
	n := notice{ino: ino, what: wholeNode}
	q.mu.Lock()
	defer q.mu.Unlock()
	_, waits := q.waiting[n]
	_, flies := q.telling[n]
	return waits || flies
}

// kernelCache is what a notice is told to: *fuse.Server.
type kernelCache interface {
	EntryNotify(parent uint64, name string) fuse.Status
	InodeNotify(node uint64, off, length int64) fuse.Status
}

// deliver tells k until ctx ends. strange hears of answers that are not expected.
func (q *notices) deliver(ctx context.Context, k kernelCache, strange *throttle) {
	batch := map[notice]struct{}{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		batch = q.take(batch)
		for n := range batch {
			if ctx.Err() != nil {
				return
			}
			switch st := n.tell(k); st {
			case fuse.OK, fuse.ENOENT, fuse.ENOSYS:
				// ENOENT: the kernel did not know it anyway. ENOSYS: an old kernel,
				// whose timeouts have to do.
			case fuse.EBADF, fuse.ENODEV, enotconn:
				return // unmounted
			default:
				strange.warn("invalidate in the kernel", "ino", uint64(n.ino), "name", n.name, "status", st.String())
			}
		}
		q.told()
		if len(batch) > keepBatch {
			batch = map[notice]struct{}{} // a burst's map is not kept: maps never shrink
		}
		clear(batch)
	}
}

// keepBatch is the most notices for which a map is kept for the next batch.
const keepBatch = 4096

func (n notice) tell(k kernelCache) fuse.Status {
	if n.what == entryOf {
		return k.EntryNotify(uint64(n.ino), n.name)
	}
	return k.InodeNotify(uint64(n.ino), 0, 0) // length 0: to the end
}

// forgetAttrs has the kernel forget the attributes of ino before it returns. Only
// the answer to an open of ino may do that: whoever opens holds the inode, and for
// attributes alone the kernel takes no lock that a request could have.
func (b *bridge) forgetAttrs(ino cache.Ino) {
	switch st := b.kernel.InodeNotify(uint64(ino), -1, 0); st { // a negative offset leaves the pages
	case fuse.OK, fuse.ENOENT, fuse.ENOSYS, fuse.EBADF, fuse.ENODEV, enotconn: // as in deliver
	default:
		b.strange.warn("invalidate attributes in the kernel", "ino", uint64(ino), "status", st.String())
	}
}
