package fs

import (
	"context"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// idleHandle is a handle that is only asked for its file.
type idleHandle struct {
	Handle
	ino cache.Ino
}

func (h idleHandle) Ino() cache.Ino            { return h.ino }
func (h idleHandle) Backing() (*os.File, bool) { return nil, true }

// heldKernel is told things, and takes its time.
type heldKernel struct {
	asked, free chan struct{}
	once        sync.Once
}

func (k *heldKernel) EntryNotify(uint64, string) fuse.Status { return fuse.OK }
func (k *heldKernel) InodeNotify(uint64, int64, int64) fuse.Status {
	k.once.Do(func() { close(k.asked) })
	<-k.free
	return fuse.OK
}

// An open must not let the kernel keep pages of which it has not heard yet that they
// are old: they would be what is read.
func TestStalePagesAreNotKept(t *testing.T) {
	q := newNotices()
	q.setLive(true)
	b := &bridge{notes: q, keepCache: true}
	kept := func(ino cache.Ino) bool {
		var out fuse.OpenOut
		b.attach(idleHandle{ino: ino}, 0, &out)
		return out.OpenFlags&fuse.FOPEN_KEEP_CACHE != 0
	}
	q.add(notice{ino: 7, what: wholeNode})
	if kept(7) {
		t.Error("pages are kept while the notice waits")
	}
	if !kept(8) {
		t.Error("pages of another file are not kept")
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	k := &heldKernel{asked: make(chan struct{}), free: make(chan struct{})}
	go func() { q.deliver(ctx, k, &throttle{}); close(ended) }()
	<-k.asked
	if kept(7) {
		t.Error("pages are kept while the kernel is being told")
	}
	close(k.free)
	for q.stale(7) {
		runtime.Gosched()
	}
	if !kept(7) {
		t.Error("pages are not kept after the kernel was told")
	}
	stop()
	<-ended
}
