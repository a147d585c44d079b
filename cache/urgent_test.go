package cache

import (
	"context"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"depotfs/cache/catalog"
)

// A flush has a file go now, while it is put into the queue for later elsewhere (its last
// close, a join that reads the queue): now is what counts, whoever comes last.
func TestFlushIsNotOverwrittenByALaterTime(t *testing.T) {
	t.Parallel()
	settle := time.Hour
	c, err := New(Config{CacheDir: t.TempDir(), StateDir: t.TempDir(), Zone: "z1", Settle: &settle})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, h, err := c.Create(t.Context(), Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, catalog.Root, "f", 0o644, syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(t.Context(), []byte("f"), 0); err != nil {
		t.Fatal(err)
	}
	h.Release()
	rec, err := c.record(a.Ino)
	if err != nil {
		t.Fatal(err)
	}
	it, err := c.cat.QueueItem(a.Ino)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		var both sync.WaitGroup
		both.Go(func() { c.schedule(it, rec) })
		both.Go(func() {
			c.urgent.Store(rec.Ino, struct{}{})
			c.schedule(it, rec)
		})
		both.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		ino, err := c.work.Take(ctx, laneFiles)
		cancel()
		if err != nil {
			t.Fatalf("round %d: the file waits for its later time: %v", i, err)
		}
		c.urgent.Delete(ino)
		c.work.Done(ino, time.Time{})
	}
}
