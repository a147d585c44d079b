package fs

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// slowKernel takes notices one by one when it is let.
type slowKernel struct {
	mu   sync.Mutex
	got  []notice
	gate chan struct{}
	says fuse.Status
}

func (k *slowKernel) note(n notice) fuse.Status {
	<-k.gate
	k.mu.Lock()
	defer k.mu.Unlock()
	k.got = append(k.got, n)
	return k.says
}

func (k *slowKernel) EntryNotify(parent uint64, name string) fuse.Status {
	return k.note(notice{ino: cache.Ino(parent), name: name, what: entryOf})
}

func (k *slowKernel) InodeNotify(node uint64, off, length int64) fuse.Status {
	return k.note(notice{ino: cache.Ino(node), what: wholeNode})
}

// waitFor fails the test when cond does not become true; a busy machine is slow.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

func TestNoticesCoalesceAndNeverBlock(t *testing.T) {
	q, k := newNotices(), &slowKernel{gate: make(chan struct{}), says: fuse.ENOENT}
	q.add(notice{ino: 1, what: wholeNode}) // nobody is mounted: dropped
	q.setLive(true)
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	done := make(chan struct{})
	go func() {
		q.deliver(ctx, k, &throttle{log: slog.New(slog.NewTextHandler(&out, nil))})
		close(done)
	}()
	q.add(notice{ino: 2, what: wholeNode})
	waitFor(t, "the first notice is on its way", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return len(q.waiting) == 0 })
	for range 1000 { // the kernel does not answer, and nobody waits for it
		q.add(notice{ino: 3, what: wholeNode})
		q.add(notice{ino: 4, what: wholeNode})
		q.add(notice{ino: 3, name: "x", what: entryOf})
	}
	close(k.gate)
	waitFor(t, "all notices arrive", func() bool { k.mu.Lock(); defer k.mu.Unlock(); return len(k.got) == 4 })
	cancel()
	<-done
	if len(k.got) != 4 {
		t.Errorf("got %v, want each notice once", k.got)
	}
	if out.Len() > 0 {
		t.Errorf("what the kernel did not know is no news: %s", out.String())
	}
}

func TestNoticesEndWithTheMount(t *testing.T) {
	q, k := newNotices(), &slowKernel{gate: make(chan struct{}), says: fuse.ENODEV}
	close(k.gate)
	q.setLive(true)
	q.add(notice{ino: 2, what: wholeNode})
	q.deliver(t.Context(), k, nil) // returns
	q.setLive(false)
	q.add(notice{ino: 3, what: wholeNode})
	if len(q.waiting) != 0 {
		t.Error("notices pile up with nobody to tell")
	}
}
