package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
)

// waiter is a reader that waits for [off, end).
type waiter struct {
	off, end int64
	ch       chan error // buffered; told once
}

// ensure returns when [off, end) of a partial file is here. While the store does
// not answer it tries again for ColdTimeout. A reader with a handle gives its streams,
// by which more is fetched ahead of it; others nil.
func (c *Cache) ensure(ctx context.Context, n *node, streams *fetch.Streams, off, end int64) error {
	p := n.p
	until := p.noteRead(streams, off, end)
	var limit <-chan time.Time
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		w := c.want(n, fetch.Wish{Off: off, End: end, Until: until, Class: fetch.Demand})
		if w == nil {
			return nil
		}
		if limit == nil {
			t := time.NewTimer(c.cfg.Limits.ColdTimeout)
			defer t.Stop()
			limit = t.C
		}
		var err error
		select {
		case err = <-w.ch:
		case <-ctx.Done():
			c.forget(n, w)
			return ctx.Err()
		case <-limit:
			c.forget(n, w)
			return fmt.Errorf("read inode %d: no answer for %v: %w", n.ino, c.cfg.Limits.ColdTimeout, ErrUnavailable)
		}
		if err == nil {
			return nil
		}
		if !retryable(err) || n.whole.Load() {
			return err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return err
		}
	}
}

// retryable says whether asking again may help a reader. Keys that are refused may be
// about to be replaced.
func retryable(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrDenied) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrChecksum)
}

// noteRead tells a handle's streams of a read and returns up to where to fetch ahead.
func (p *partial) noteRead(streams *fetch.Streams, off, end int64) (until int64) {
	if streams == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readers == nil {
		p.readers = map[*fetch.Streams]struct{}{}
	}
	p.readers[streams] = struct{}{}
	return streams.Read(off, end)
}

// want starts what flights are needed for a wish and returns a waiter, or nil when
// all of its need is here.
func (c *Cache) want(n *node, wish fetch.Wish) *waiter {
	p := n.p
	p.mu.Lock()
	defer p.mu.Unlock()
	wish.End = min(wish.End, p.size)
	here := p.here.Contains(wish.Off, wish.End)
	if p.gone != nil {
		if here {
			return nil
		}
		w := &waiter{ch: make(chan error, 1)}
		w.ch <- p.gone
		return w
	}
	if here {
		c.wishLocked(n, wish)
		return nil
	}
	w := &waiter{off: wish.Off, end: wish.End, ch: make(chan error, 1)}
	p.waiters = append(p.waiters, w)
	p.waiting.Store(int32(len(p.waiters)))
	c.wishLocked(n, wish)
	return w
}

// wishLocked has the plan of n see to a wish; p.mu is held. It returns the new flights.
func (c *Cache) wishLocked(n *node, wish fetch.Wish) []*fetch.Flight {
	p := n.p
	change := p.plan.Want(&p.here, p.limit, wish)
	for _, f := range change.Cut {
		if fl := p.air[f]; fl != nil {
			c.fetches.resize(fl, f.End-f.Pos)
		}
	}
	for _, f := range change.Raised {
		if fl := p.air[f]; fl != nil {
			c.fetches.raise(fl, f.Class)
			if !fl.hurried {
				fl.hurried = true
				close(fl.hurry)
			}
		}
	}
	for _, f := range change.New {
		c.launchLocked(n, f)
	}
	return change.New
}

// launchLocked queues a flight; p.mu is held.
func (c *Cache) launchLocked(n *node, f *fetch.Flight) {
	p := n.p
	fl := &flight{Flight: f, n: n, hurry: make(chan struct{})}
	fl.ticket = fetch.Ticket{File: uint64(n.ino), Class: f.Class, Size: f.End - f.Off, Value: fl}
	if p.air == nil {
		p.air = map[*fetch.Flight]*flight{}
	}
	p.air[f] = fl
	c.ref(n)
	if !c.fetches.submit(fl) {
		p.plan.Remove(f)
		delete(p.air, f)
		c.unref(n)
		p.failLocked(f.Off, f.End, c.notRunning())
	}
}

// ref and unref count a reference to a node that is live anyway.
func (c *Cache) ref(n *node) {
	c.mu.Lock()
	n.refs++
	c.mu.Unlock()
}

func (c *Cache) unref(n *node) {
	c.mu.Lock()
	n.refs--
	c.mu.Unlock()
}

// forget takes a waiter that gave up off the list, and ends what was only for it.
func (c *Cache) forget(n *node, w *waiter) {
	p := n.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.waiters {
		if p.waiters[i] == w {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			break
		}
	}
	p.waiting.Store(int32(len(p.waiters)))
	c.endUnwantedLocked(n)
}

// stopReading ends what was fetched ahead of a handle alone.
func (c *Cache) stopReading(h *Handle) {
	h.n.mu.Lock()
	p := h.n.p
	h.n.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.readers, &h.ahead)
	c.endUnwantedLocked(h.n)
}

// endUnwantedLocked ends the flights of which nobody wants anything any more; p.mu is
// held, and a reference to n.
func (c *Cache) endUnwantedLocked(n *node) {
	p := n.p
	if len(p.air) == 0 {
		return
	}
	for _, f := range p.plan.GiveUp(p.wantedLocked) {
		fl := p.air[f]
		delete(p.air, f)
		if c.fetches.cancel(fl) {
			c.unref(n)
			continue
		}
		if fl.cancel != nil {
			fl.cancel()
		}
	}
}

// wantedLocked says whether anybody wants what is left of a flight; p.mu is held.
func (p *partial) wantedLocked(f *fetch.Flight) bool {
	if len(p.watchers) > 0 {
		return true // the whole file is wanted
	}
	left := f.Left()
	// A little is heard out: an answer that is thrown away costs its connection.
	if fl := p.air[f]; fl.cancel != nil && left.End-left.Off <= fetch.Patience {
		return true
	}
	for _, w := range p.waiters {
		if w.off < left.End && left.Off < w.end {
			return true
		}
	}
	for s := range p.readers {
		if s.Wants(left) {
			return true
		}
	}
	return false
}

// aheadLocked asks for ranges ahead of any reader, in the order given. What is here or on
// its way is not asked for again, and a reader's end does not end it. p.mu is held.
func (c *Cache) aheadLocked(n *node, ranges []catalog.Range, class fetch.Class) {
	for _, r := range ranges {
		for _, f := range c.wishLocked(n, fetch.Wish{Off: r.Off, End: r.End, Class: class}) {
			f.Kept = true
		}
	}
}
