package fetch_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"depotfs/cache/fetch"
)

// start is when the clocks of these tests begin; only they move them.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// startAll takes all whose turn it is.
func startAll(b *fetch.Budget, now time.Time) []*fetch.Ticket {
	var all []*fetch.Ticket
	for {
		t, _ := b.Next(now)
		if t == nil {
			return all
		}
		all = append(all, t)
	}
}

// Whatever comes and ends in whatever order: the bounds hold, and all get their turn.
func TestBudgetHoldsAndNobodyStarves(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 4))
		requests := 1 + r.IntN(40)
		bytes := int64(fetch.FlightSize) * int64(1+r.IntN(requests))
		b := fetch.NewBudget(requests, bytes)
		now := start
		var air, waiting []*fetch.Ticket
		since := map[*fetch.Ticket]time.Time{}
		check := func() {
			n, size := b.Flying()
			if n != len(air) || n > requests || size > max(bytes, fetch.FlightSize) {
				t.Fatalf("seed %d: %d flights with %d bytes of at most %d with %d", seed, n, size, requests, bytes)
			}
		}
		step := func(more bool) {
			now = now.Add(time.Duration(r.IntN(int(20 * time.Millisecond))))
			if more {
				tk := &fetch.Ticket{File: r.Uint64N(5), Class: fetch.Class(r.IntN(4)), Size: 1 + r.Int64N(fetch.FlightSize)}
				b.Submit(tk, now)
				waiting, since[tk] = append(waiting, tk), now
			}
			switch {
			case len(waiting) > 0 && r.IntN(20) == 0:
				b.Raise(waiting[r.IntN(len(waiting))], fetch.Demand, now)
			case len(waiting) > 0 && r.IntN(20) == 0:
				i := r.IntN(len(waiting))
				if !b.Cancel(waiting[i]) {
					t.Fatalf("seed %d: a ticket that waits cannot be cancelled", seed)
				}
				waiting = slices.Delete(waiting, i, i+1)
			}
			for _, tk := range startAll(b, now) {
				if tk.Most > tk.Size || tk.Most <= 0 {
					t.Fatalf("seed %d: %d bytes of a flight of %d", seed, tk.Most, tk.Size)
				}
				waiting = slices.DeleteFunc(waiting, func(w *fetch.Ticket) bool { return w == tk })
				air = append(air, tk)
			}
			check()
			if len(air) > 0 && r.IntN(3) > 0 {
				i := r.IntN(len(air))
				b.Done(air[i], now)
				air = slices.Delete(air, i, i+1)
			}
			check()
		}
		for range 600 {
			step(r.IntN(2) == 0)
		}
		// Nothing new: all that wait get their turn, the background too.
		for i := 0; len(waiting) > 0 || len(air) > 0; i++ {
			step(false)
			if len(air) == 0 {
				now = now.Add(time.Second)
			}
			if i > 50_000 {
				t.Fatalf("seed %d: %d still wait", seed, len(waiting))
			}
		}
		if b.Queued() != 0 {
			t.Fatalf("seed %d: %d counted as waiting", seed, b.Queued())
		}
	}
}

// Demand that never ends does not keep readahead and background from going on.
func TestBudgetUnderEndlessDemand(t *testing.T) {
	b := fetch.NewBudget(32, 1<<30)
	now := start
	ahead := &fetch.Ticket{File: 1, Class: fetch.Readahead, Size: 1 << 20}
	back := &fetch.Ticket{File: 2, Class: fetch.Background, Size: fetch.FlightSize}
	var air []*fetch.Ticket
	var aheadAt, backAt time.Duration
	for i := range 4000 {
		if i == 100 {
			b.Submit(ahead, now)
			b.Submit(back, now)
		}
		for range 4 {
			b.Submit(&fetch.Ticket{File: uint64(10 + i%7), Class: fetch.Demand, Size: 32 << 10}, now)
		}
		for _, tk := range startAll(b, now) {
			switch tk {
			case ahead:
				aheadAt = now.Sub(start)
			case back:
				backAt = now.Sub(start)
				if tk.Most > fetch.SmallFlight {
					t.Errorf("background takes %d bytes while others read", tk.Most)
				}
			}
			air = append(air, tk)
		}
		now = now.Add(time.Millisecond)
		if len(air) > 0 {
			b.Done(air[0], now)
			air = air[1:]
		}
	}
	if backAt == 0 || backAt > 3*time.Second {
		t.Errorf("background began after %v", backAt)
	}
	if aheadAt == 0 || aheadAt > 3*time.Second {
		t.Errorf("readahead began after %v", aheadAt)
	}
}

// One file with a hundred readers leaves the first read of another one a place.
func TestBudgetIsFairBetweenFiles(t *testing.T) {
	b := fetch.NewBudget(32, 1<<30)
	for range 100 {
		b.Submit(&fetch.Ticket{File: 1, Class: fetch.Demand, Size: 32 << 10}, start)
	}
	busy := startAll(b, start)
	if len(busy) != 28 {
		t.Errorf("one file has %d of 32 places, want 28", len(busy))
	}
	for file := range uint64(4) {
		b.Submit(&fetch.Ticket{File: 2 + file, Class: fetch.Demand, Size: 32 << 10}, start)
	}
	got := startAll(b, start)
	if len(got) != 4 {
		t.Errorf("%d of 4 other files begin at once", len(got))
	}
	// From now on places that come free are dealt out by who has the fewest.
	for range 50 {
		b.Submit(&fetch.Ticket{File: 9, Class: fetch.Demand, Size: 32 << 10}, start)
	}
	of9 := 0
	for _, tk := range busy[:20] {
		b.Done(tk, start)
		for _, n := range startAll(b, start) {
			if n.File == 9 {
				of9++
			}
		}
	}
	if of9 < 8 {
		t.Errorf("the file with fewer flights got %d of 20 places", of9)
	}
}

func TestBudgetGoesByClass(t *testing.T) {
	b := fetch.NewBudget(2, 1<<30) // one place is for demand and headers
	for _, c := range []fetch.Class{fetch.Background, fetch.Readahead, fetch.Header, fetch.Demand} {
		b.Submit(&fetch.Ticket{File: uint64(c), Class: c, Size: 1}, start)
	}
	now := start
	var order []fetch.Class
	var air []*fetch.Ticket
	for len(order) < 4 {
		got := startAll(b, now)
		for _, tk := range got {
			order = append(order, tk.Class)
		}
		air = append(air, got...)
		now = now.Add(200 * time.Millisecond)
		if len(air) > 0 {
			b.Done(air[0], now)
			air = air[1:]
		}
	}
	if !slices.Equal(order, []fetch.Class{fetch.Demand, fetch.Header, fetch.Readahead, fetch.Background}) {
		t.Errorf("order %v", order)
	}
}

// Background waits for quiet, begins with little, and takes half the places when
// nobody was there for long.
func TestBudgetOfTheBackground(t *testing.T) {
	b := fetch.NewBudget(32, 1<<30)
	read := &fetch.Ticket{File: 1, Class: fetch.Demand, Size: 32 << 10}
	b.Submit(read, start)
	startAll(b, start)
	for range 40 {
		b.Submit(&fetch.Ticket{File: 2, Class: fetch.Background, Size: fetch.FlightSize}, start)
	}
	at := func(d time.Duration) []*fetch.Ticket { return startAll(b, start.Add(d)) }
	if n := len(at(10 * time.Millisecond)); n != 0 {
		t.Errorf("%d background flights beside demand", n)
	}
	b.Done(read, start.Add(20*time.Millisecond))
	if n := len(at(30 * time.Millisecond)); n != 0 {
		t.Errorf("%d background flights right after demand", n)
	}
	if _, again := b.Next(start.Add(30 * time.Millisecond)); again <= 0 || again > time.Second {
		t.Errorf("to be asked again after %v", again)
	}
	soon := at(400 * time.Millisecond)
	if len(soon) != 2 || soon[0].Most != fetch.SmallFlight {
		t.Errorf("%d background flights while a reader may come back", len(soon))
	}
	if n := len(at(time.Minute)); n != 14 {
		t.Errorf("%d more background flights when nobody reads, want 14", n)
	}
}
