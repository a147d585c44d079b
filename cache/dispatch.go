package cache

import (
	"context"
	"sync"
	"time"

	"depotfs/cache/fetch"
)

// dispatch has the flights of all files that wait for their turn, and what is known
// of how quickly the store answers.
type dispatch struct {
	wake chan struct{} // something changed

	mu      sync.Mutex // guards below; a leaf
	budget  *fetch.Budget
	latency *fetch.Latency
	open    bool // somebody starts what is queued
	counts  FetchCounts
}

// FetchCounts says how often the store had to be asked again.
type FetchCounts struct {
	Hedges  int64 `json:"hedges"`  // second requests because the first byte was late
	Resumes int64 `json:"resumes"` // requests for the rest of a body that ended early or stood still
}

func newDispatch(requests int) *dispatch {
	return &dispatch{wake: make(chan struct{}, 1), latency: fetch.NewLatency(),
		budget: fetch.NewBudget(requests, int64(requests)*fetch.FlightSize)}
}

func (d *dispatch) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// begin says that flights are started from now on.
func (d *dispatch) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = true
}

// submit queues a flight; false: nobody would start it.
func (d *dispatch) submit(f *flight) bool {
	d.mu.Lock()
	ok := d.open
	if ok {
		d.budget.Submit(&f.ticket, time.Now())
	}
	d.mu.Unlock()
	d.signal()
	return ok
}

func (d *dispatch) raise(f *flight, class fetch.Class) {
	d.mu.Lock()
	d.budget.Raise(&f.ticket, class, time.Now())
	d.mu.Unlock()
	d.signal()
}

func (d *dispatch) resize(f *flight, size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.budget.Resize(&f.ticket, size)
}

// cancel takes a flight out of the queue; false: it has begun.
func (d *dispatch) cancel(f *flight) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.budget.Cancel(&f.ticket)
}

func (d *dispatch) done(f *flight) {
	d.mu.Lock()
	d.budget.Done(&f.ticket, time.Now())
	d.mu.Unlock()
	d.signal()
}

func (d *dispatch) next() (f *flight, again time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, again := d.budget.Next(time.Now())
	if t == nil {
		return nil, again
	}
	return t.Value.(*flight), 0
}

// hold is how long background work should let others go first; 0: not at all.
func (d *dispatch) hold() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.budget.Hold(time.Now())
}

// asked counts a request and returns how long to wait for its first byte.
func (d *dispatch) asked() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.latency.Asked()
	return d.latency.Patience()
}

func (d *dispatch) answered(took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.latency.Answered(took)
}

// hedge asks for leave to ask a second time.
func (d *dispatch) hedge() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.latency.Hedge()
}

func (d *dispatch) count(add func(*FetchCounts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	add(&d.counts)
}

// counted returns the counts.
func (d *dispatch) counted() FetchCounts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// end stops starting flights and returns those that will not be.
func (d *dispatch) end() []*fetch.Ticket {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = false
	return d.budget.Drain()
}

// fetchLoop starts flights when it is their turn.
func (c *Cache) fetchLoop(ctx context.Context) error {
	ground := func(f *flight) {
		c.land(f, c.notRunning())
		c.drop(f.n)
	}
	defer func() {
		for _, t := range c.fetches.end() {
			ground(t.Value.(*flight))
		}
	}()
	idle := make(chan *flight) // those that have flown wait for another flight
	timer := time.NewTimer(idleWait)
	defer timer.Stop()
	for {
		f, again := c.fetches.next()
		if f != nil {
			select {
			case idle <- f:
				continue
			default:
			}
			if !c.spawn(func(ctx context.Context) { c.flyer(ctx, f, idle) }) {
				c.fetches.done(f)
				ground(f)
			}
			continue
		}
		if again <= 0 {
			again = idleWait
		}
		timer.Reset(again)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.fetches.wake:
		case <-timer.C:
		}
	}
}

// flyer does one flight after the other. A goroutine of its own for each would grow its
// stack anew each time: 16 readers of small blocks got 3 % less done.
func (c *Cache) flyer(ctx context.Context, f *flight, idle <-chan *flight) {
	linger := time.NewTimer(flyerLinger)
	defer linger.Stop()
	for {
		c.fly(ctx, f)
		linger.Reset(flyerLinger)
		select {
		case f = <-idle:
		case <-linger.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// flyerLinger outlasts the pauses of somebody who reads here and there, and no more.
const flyerLinger = 5 * time.Second

// idleWait is as good as for ever: whoever changes anything gives a signal.
const idleWait = time.Hour
