package cache

import (
	"context"
	"time"

	"depotfs/cache/fetch"
)

// watcher is somebody who wants a file whole, and looks again when a flight has ended.
type watcher struct {
	wake chan struct{} // buffered
	err  error         // guarded by partial.mu; why the last flight failed
}

// notifyLocked has watchers look again; p.mu is held.
func (p *partial) notifyLocked(err error) {
	for _, w := range p.watchers {
		if err != nil {
			w.err = err
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (p *partial) watch() *watcher {
	w := &watcher{wake: make(chan struct{}, 1)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers = append(p.watchers, w)
	p.cursor = 0
	return w
}

// unwatch ends what was fetched for w alone.
func (c *Cache) unwatch(n *node, w *watcher) {
	p := n.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.watchers {
		if p.watchers[i] == w {
			p.watchers = append(p.watchers[:i], p.watchers[i+1:]...)
			break
		}
	}
	c.endUnwantedLocked(n)
}

// fillFlights is how many flights of one file that is filled wait or fly at a time:
// enough for a long line, few enough that a change of mind is cheap.
const fillFlights = 16

// complete fetches what is missing of n, for somebody who waits for all of it, and
// returns when it is whole at its plain path. The caller holds a reference with a
// loaded file, and no lock.
func (c *Cache) complete(ctx context.Context, n *node) error {
	if n.whole.Load() {
		return nil
	}
	var limit <-chan time.Time
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		before := n.p.arrived()
		err := c.fetchWhole(ctx, n, fetch.Readahead, true)
		if err == nil || !retryable(err) {
			return err
		}
		if limit == nil || n.p.arrived() > before {
			delay = 100 * time.Millisecond
			limit = time.After(c.cfg.Limits.ColdTimeout)
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

// arrived is how many bytes are here.
func (p *partial) arrived() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.here.Len()
}

// fetchWhole keeps flights of a class in the air until the file is whole, or, where
// not all of it is wanted, what has been asked for is here. The first error ends it.
func (c *Cache) fetchWhole(ctx context.Context, n *node, class fetch.Class, all bool) error {
	if n.whole.Load() {
		return nil
	}
	if all {
		if err := c.learnObject(ctx, n); err != nil {
			return err
		}
	}
	p := n.p
	w := p.watch()
	defer c.unwatch(n, w)
	for !n.whole.Load() {
		p.mu.Lock()
		err, whole := w.err, p.wholeLocked()
		w.err = nil
		if err == nil && !whole {
			err = p.gone
		}
		done := false
		if err == nil && !whole {
			done = c.advanceLocked(n, class, all)
		}
		p.mu.Unlock()
		switch {
		case whole:
			if err := c.promote(n); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		case done:
			return nil
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// advanceLocked launches what comes next, and says whether nothing does and nothing
// is on its way; p.mu is held.
func (c *Cache) advanceLocked(n *node, class fetch.Class, all bool) (done bool) {
	p := n.p
	for p.plan.Len() < fillFlights && len(p.order) > 0 {
		r := &p.order[0]
		end := min(r.End, r.Off+fetch.FlightSize, p.limit)
		if r.Off >= end {
			p.order = p.order[1:]
			continue
		}
		c.wishLocked(n, fetch.Wish{Off: r.Off, End: end, Class: class})
		r.Off = end
	}
	if !all {
		return len(p.order) == 0 && p.plan.Len() == 0
	}
	for again := false; p.plan.Len() < fillFlights; {
		if p.cursor >= p.limit {
			if again || p.plan.Len() > 0 {
				break
			}
			p.cursor, again = 0, true // what was shortened, or failed for others
		}
		end := min(p.cursor&^(fetch.FlightSize-1)+fetch.FlightSize, p.limit)
		c.wishLocked(n, fetch.Wish{Off: p.cursor, End: end, Class: class})
		p.cursor = end
	}
	return false
}

// fill completes a file in the background as its class says, or fetches what was asked
// for ahead of readers; once per node at a time.
func (c *Cache) fill(n *node) {
	p := n.p
	p.mu.Lock()
	start := !p.filling && p.gone == nil && !p.wholeLocked()
	p.filling = p.filling || start
	p.mu.Unlock()
	if !start {
		return
	}
	c.ref(n)
	ok := c.spawn(func(ctx context.Context) {
		ctx, stop := context.WithCancel(ctx)
		p.mu.Lock()
		p.stopFill = stop
		p.mu.Unlock()
		defer func() {
			stop()
			p.mu.Lock()
			p.filling, p.stopFill = false, nil
			p.mu.Unlock()
			c.drop(n)
		}()
		select {
		case c.fills <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-c.fills }()
		for delay := time.Second; ; delay = min(2*delay, time.Minute) {
			err := c.fetchWhole(ctx, n, fetch.Background, p.fills)
			if err == nil || !retryable(err) {
				return // land has logged why
			}
			select {
			case <-time.After(delay):
			case <-ctx.Done():
				return
			}
		}
	})
	if !ok {
		p.mu.Lock()
		p.filling = false
		p.mu.Unlock()
		c.unref(n)
	}
}
