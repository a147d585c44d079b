package s3store

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
)

// Under a limit, a reader that somebody waits for has the line nearly for itself,
// however many fill files in the background; they share what it leaves, and are not
// stopped by one that never pauses.
func TestDemandBeforeBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 1 << 20
		l := newLimit(perSecond)
		ctx, stop := context.WithCancel(t.Context())
		var filled, read atomic.Int64
		stream := func(ctx context.Context, count *atomic.Int64) {
			for {
				n := l.chunk(128 << 10)
				if l.wait(ctx, n) != nil {
					return
				}
				count.Add(int64(n))
			}
		}
		for range 16 {
			go stream(cache.InBackground(ctx), &filled)
		}
		time.Sleep(10 * time.Second)
		if n := filled.Load(); n < 9*perSecond || n > 11*perSecond {
			t.Errorf("alone, the background got %d bytes in 10 s at %d a second", n, perSecond)
		}
		before := filled.Load()
		go stream(ctx, &read)
		time.Sleep(10 * time.Second)
		if n := read.Load(); n < 8*perSecond {
			t.Errorf("a reader got %d bytes in 10 s at %d a second, beside 16 in the background", n, perSecond)
		}
		if n := filled.Load() - before; n < perSecond/2 || n > 2*perSecond {
			t.Errorf("beside it the background got %d bytes", n)
		}
		l.set(0)
		stop()
		synctest.Wait()
	})
}

// A single read does not wait for what the background has in its queue.
func TestDemandDoesNotQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(100 << 10)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		for range 32 {
			go func() {
				for l.wait(cache.InBackground(ctx), l.chunk(128<<10)) == nil {
				}
			}()
		}
		time.Sleep(time.Minute)
		for range 100 {
			start := time.Now()
			if err := l.wait(ctx, 4<<10); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 300*time.Millisecond { // a chunk of the background's and its own
				t.Errorf("4 KiB waited for %v at 100 KiB/s", took)
			}
			time.Sleep(time.Second)
		}
	})
}
