package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// An hour in which the store is down costs a request every few seconds, however many
// files wait and readers ask; what was under way when it began counts once. When it is
// back, all goes on by itself.
func TestOutageOfAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.close() // within the bubble
		e.mkdirAll("cold")
		for i := range 8 {
			e.write(fmt.Sprintf("cold/%d", i), pattern(uint64(i), 1<<20))
		}
		e.flush()
		for i := range 8 {
			e.evict(fmt.Sprintf("cold/%d", i))
		}
		e.mkdirAll("hot")
		e.c.SetStore(nil, cache.StoreInfo{})
		e.write("hot/large", pattern(1, 40<<20))
		for i := range 200 {
			e.mkdirAll(fmt.Sprintf("hot/%d", i))
			e.write(fmt.Sprintf("hot/%d/f", i), pattern(uint64(i), 100))
		}
		var mu sync.Mutex
		var asked []time.Time
		down := true
		e.store.Inject(storetest.Before(storetest.Any, func(ctx context.Context, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if !down {
				return nil
			}
			asked = append(asked, time.Now())
			mu.Unlock()
			time.Sleep(time.Second) // a line that is silent
			mu.Lock()
			return cache.ErrUnavailable
		}).On("p/").After(12).Always()) // joined, and some files went up
		e.use(e.store)
		e.waitFor("the store to go down", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(asked) > 0
		})
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					start := time.Now()
					_, err := e.read(fmt.Sprintf("cold/%d", i))
					mu.Lock()
					isDown := down
					mu.Unlock()
					if took := time.Since(start); isDown && (!errors.Is(err, cache.ErrUnavailable) || took > 25*time.Second) {
						t.Errorf("a cold read answers %v after %v", err, took)
						return
					}
					time.Sleep(5 * time.Second) // in the test's own time, like all here
				}
			})
		}
		<-ctx.Done()
		wg.Wait()
		mu.Lock()
		first := asked[0]
		var early, later int
		for _, at := range asked {
			if at.Sub(first) < 10*time.Second {
				early++
			} else {
				later++
			}
		}
		down = false
		mu.Unlock()
		// At first what was under way: a request of each worker, and of each read.
		if early > 40 {
			t.Errorf("%d requests in the first 10 s", early)
		}
		// 4 s and a quarter less or more between two that take 1 s each.
		if later > 1000 || later < 500 {
			t.Errorf("%d requests in the rest of an hour", later)
		}
		t.Logf("%d requests at first, %d in the rest of the hour", early, later)
		e.flush()
		for i := range 200 {
			e.wantObject(fmt.Sprintf("p/hot/%d/f", i), pattern(uint64(i), 100))
		}
	})
}

// A daemon that is told to stop while it asks whether the store is back stops.
func TestStopWhileTheStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.write("f", pattern(1, 100))
		e.flush()
		var down atomic.Bool
		var asked atomic.Int64
		e.store.Inject(storetest.Before(storetest.Head, func(context.Context, string) error {
			if !down.Load() {
				return nil
			}
			e.stop()
			if asked.Add(1) > 100 {
				panic("it asks for ever") // which nothing else would end
			}
			return cache.ErrUnavailable
		}).Always())
		down.Store(true)
		e.store.Inject(storetest.Fail(storetest.Put, cache.ErrUnavailable).Always())
		e.write("g", pattern(2, 100))
		e.waitFor("it asks", func() bool { return asked.Load() > 0 })
		e.close()
	})
}
