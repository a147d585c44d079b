package cache_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// told is what the kernel was told of inodes.
type told struct {
	mu     sync.Mutex
	inodes map[cache.Ino]int
}

func (*told) EntryChanged(cache.Ino, string) {}

func (k *told) InodeChanged(ino cache.Ino) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inodes[ino]++
}

func (k *told) times(ino cache.Ino) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.inodes[ino]
}

// An upload reads the file, but it is not somebody who looked at it.
func TestUploadMovesNoTimeOfAccess(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.flush()
	gate := make(chan struct{})
	arrived := make(chan struct{})
	e.store.Inject(storetest.Before(storetest.Put, func(context.Context, string) error {
		close(arrived)
		<-gate
		return nil
	}))
	parent, name := e.parent("f")
	h := e.held("f", pattern(1, 70_000))
	a, err := e.c.Lookup(t.Context(), parent, name)
	if err != nil {
		t.Fatal(err)
	}
	const long = int64(1_500_000_000)
	if _, err := e.c.SetAttr(t.Context(), a.Ino, h, cache.SetAttr{Valid: cache.SetAtime | cache.SetMtime, Atime: long, Mtime: 2 * long}); err != nil {
		t.Fatal(err)
	}
	h.Release()
	<-arrived // its checksum was read; now its bytes are
	if now, err := e.lookup("f"); err != nil || now.Atime != long {
		t.Errorf("while it is uploaded the time of access is %v (%v), want %v", time.Unix(0, now.Atime), err, time.Unix(0, long))
	}
	close(gate)
	e.flush()
	defer e.mustOpen("f", os.O_RDONLY).Release() // what the share has is shown again
	if now, err := e.lookup("f"); err != nil || now.Atime != long {
		t.Errorf("after the upload the time of access is %v (%v), want %v", time.Unix(0, now.Atime), err, time.Unix(0, long))
	}
}

// A store through a mapping may come after the close that ended the writing. When the
// worker finds it, the kernel must forget what it was told of the file.
func TestKernelHearsOfWhatTheUploadFound(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	kernel := &told{inodes: map[cache.Ino]int{}}
	e.close()
	e.notify, e.settle = kernel, time.Hour // nothing goes before it is told to
	e.open()
	ino := e.write("f", pattern(1, 70_000))
	past := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(filepath.Join(e.share, "f"), past, past); err != nil {
		t.Fatal(err)
	}
	e.flush()
	if a, err := e.lookup("f"); err != nil || a.Mtime != past.UnixNano() {
		t.Errorf("stat shows %v (%v), want %v", time.Unix(0, a.Mtime), err, past)
	}
	if kernel.times(ino) == 0 {
		t.Error("the kernel was not told that its attributes are old")
	}
}
