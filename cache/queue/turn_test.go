package queue_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache/queue"
)

// While more of the urgent keeps coming than can be done, the less urgent is passed by
// those only that came before its turn: so it waits no longer than these take.
func TestNobodyStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handicaps := []time.Duration{0, time.Minute, 5 * time.Minute, 10 * time.Minute}
		const work = time.Second // one worker does one key
		rnd := rand.New(rand.NewPCG(1, 2))
		q := queue.New[int](1, time.Now)
		type key struct{ came, turn, served time.Time }
		var keys []*key
		add := func(handicap time.Duration) {
			k := &key{came: time.Now(), turn: time.Now().Add(handicap)}
			keys = append(keys, k)
			q.Reschedule(len(keys)-1, time.Now(), queue.Place{Turn: k.turn})
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				i, err := q.Take(ctx, 0)
				if err != nil {
					return
				}
				keys[i].served = time.Now()
				time.Sleep(work) // in the test's own time, like all here
				q.Done(i, time.Time{})
			}
		})
		for range 1200 { // for 20 minutes twice as much as can be done, four of five urgent
			for range 2 {
				handicap := handicaps[0]
				if rnd.IntN(5) == 0 {
					handicap = handicaps[1+rnd.IntN(3)]
				}
				add(handicap)
			}
			time.Sleep(work) // a worker does one meanwhile
			synctest.Wait()
		}
		for q.Len() > 0 {
			time.Sleep(work) // the same
			synctest.Wait()
		}
		stop()
		wg.Wait()
		for i, k := range keys {
			var before int // those that may be served first
			for j, other := range keys {
				if j != i && !other.turn.After(k.turn) {
					before++
				}
				if other.turn.After(k.turn) && other.served.Before(k.served) && !other.served.Before(k.came) {
					t.Fatalf("key %d, whose turn was at %v, waited for one whose turn was at %v", i, k.turn, other.turn)
				}
			}
			if waited, most := k.served.Sub(k.came), time.Duration(before+1)*work; waited > most {
				t.Errorf("key %d waited for %v; the %d before it take %v", i, waited, before, most)
			}
		}
	})
}

// A lane's keys are not seen by the workers of another one, and one that changes its
// place goes over.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New[string](2, time.Now)
		q.Reschedule("long", time.Now(), queue.Place{Lane: 1})
		q.Reschedule("short", time.Now(), queue.Place{})
		took := func(lane queue.Lane) string {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			key, err := q.Take(ctx, lane)
			if err != nil {
				return ""
			}
			q.Done(key, time.Now().Add(time.Hour)) // keeps its place
			return key
		}
		for _, want := range []struct {
			lane queue.Lane
			key  string
		}{{1, "long"}, {1, ""}, {0, "short"}, {0, ""}} {
			if got := took(want.lane); got != want.key {
				t.Errorf("lane %d handed out %q, want %q", want.lane, got, want.key)
			}
		}
		q.Add("long", time.Now())
		if got := took(1); got != "long" {
			t.Errorf("a key that was added again left its lane: %q", got)
		}
		q.Reschedule("long", time.Now(), queue.Place{})
		if got := took(0); got != "long" {
			t.Errorf("a key did not go over to its new lane: %q", got)
		}
	})
}

// Slots are never more than their number, go to the earliest turn, and follow a change
// of their number; who gives up takes none along.
func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := queue.NewSlots(2)
		start := time.Now()
		for range 2 {
			if err := s.Take(t.Context(), start); err != nil {
				t.Fatal(err)
			}
		}
		if s.TryTake() {
			t.Error("a third slot of two")
		}
		var mu sync.Mutex
		var order []int
		gaveUp, giveUp := context.WithCancel(t.Context())
		for _, i := range []int{3, 1, 2, 0} {
			go func() {
				ctx := t.Context()
				if i == 0 {
					ctx = gaveUp
				}
				if s.Take(ctx, start.Add(time.Duration(i)*time.Second)) == nil {
					mu.Lock()
					order = append(order, i)
					mu.Unlock()
				}
			}()
			synctest.Wait()
		}
		giveUp()
		synctest.Wait()
		if s.TryTake() {
			t.Error("a slot went past those who wait")
		}
		for range 2 {
			s.Put()
			synctest.Wait()
		}
		if want := []int{1, 2}; !slices.Equal(order, want) {
			t.Errorf("slots went to %v, want %v", order, want)
		}
		s.Resize(3)
		synctest.Wait()
		if want := []int{1, 2, 3}; !slices.Equal(order, want) {
			t.Errorf("with a slot more they went to %v, want %v", order, want)
		}
		s.Resize(1)
		s.Put()
		s.Put()
		if s.TryTake() {
			t.Error("one of one slot is taken, and another one was to be had")
		}
		s.Put()
		if !s.TryTake() {
			t.Error("no slot although none is taken")
		}
	})
}
