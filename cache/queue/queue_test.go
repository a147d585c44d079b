package queue_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache/queue"
)

func TestOrderAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New[string](1, time.Now)
		start := time.Now()
		q.Add("late", start.Add(3*time.Second))
		q.Add("soon", start.Add(time.Second))
		q.Add("late", start.Add(2*time.Second)) // the earlier time counts
		q.Add("soon", start.Add(time.Hour))
		for _, want := range []struct {
			key string
			at  time.Duration
		}{{"soon", time.Second}, {"late", 2 * time.Second}} {
			key, err := q.Take(t.Context(), 0)
			if err != nil || key != want.key || time.Since(start) != want.at {
				t.Errorf("got %q after %v (%v), want %q after %v", key, time.Since(start), err, want.key, want.at)
			}
			q.Done(key, time.Time{})
		}
		if n := q.Len(); n != 0 {
			t.Errorf("%d keys left", n)
		}
	})
}

func TestAddWhileTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New[int](1, time.Now)
		q.Add(1, time.Now())
		if _, err := q.Take(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		q.Add(1, time.Now())
		if _, err := q.Take(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a key is with two workers at once: %v", err)
		}
		q.Done(1, time.Now().Add(time.Hour))
		if key, err := q.Take(t.Context(), 0); err != nil || key != 1 {
			t.Errorf("what was added meanwhile is lost: %v %v", key, err)
		}
	})
}

func TestRemoveAndReschedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New[int](1, time.Now)
		start := time.Now()
		q.Add(1, start)
		q.Add(2, start)
		q.Remove(1)
		q.Reschedule(2, start.Add(time.Minute), queue.Place{})
		key, err := q.Take(t.Context(), 0)
		if err != nil || key != 2 || time.Since(start) != time.Minute {
			t.Errorf("got %d after %v, %v", key, time.Since(start), err)
		}
		q.Remove(2)
		q.Done(2, time.Time{})
		if q.Len() != 0 {
			t.Errorf("%d keys left", q.Len())
		}
	})
}

// Many workers: no key is with two of them, and every key that was added is handed
// out after its last Add.
func TestWorkers(t *testing.T) {
	q := queue.New[int](1, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	busy, version, seen := map[int]bool{}, map[int]int{}, map[int]int{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				key, err := q.Take(ctx, 0)
				if err != nil {
					return
				}
				mu.Lock()
				if busy[key] {
					t.Errorf("key %d is with two workers", key)
				}
				busy[key] = true
				at := version[key]
				mu.Unlock()
				mu.Lock()
				busy[key] = false
				seen[key] = at
				mu.Unlock()
				q.Done(key, time.Time{})
			}
		})
	}
	for range 20_000 {
		key := rand.IntN(50)
		mu.Lock()
		version[key]++
		mu.Unlock()
		q.Add(key, time.Now())
	}
	for q.Len() > 0 {
		q.Add(-1, time.Now()) // wakes nobody in vain, and lets the others run
	}
	cancel()
	wg.Wait()
	for key, v := range version {
		if seen[key] != v {
			t.Errorf("key %d was last handed out at its change %d of %d", key, seen[key], v)
		}
	}
}

// A clock that was set forward makes keys due for which a worker has gone to sleep:
// the next key that is due wakes it, though others come before.
func TestClockSetForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		start := time.Now()
		q := queue.New[string](1, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
		q.Add("in a minute", start.Add(time.Minute))
		took := make(chan string)
		go func() {
			for range 2 {
				key, err := q.Take(t.Context(), 0)
				if err != nil {
					t.Error(err)
				}
				q.Done(key, time.Time{})
				took <- key
			}
		}()
		synctest.Wait() // it sleeps
		ahead.Store(int64(time.Hour))
		q.Add("now", start.Add(time.Hour))
		for _, want := range []string{"in a minute", "now"} {
			if got := <-took; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}
