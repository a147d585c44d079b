package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
	"depotfs/cache/fetch"
	"depotfs/cache/image"
)

// hydration fetches what tools read first of a file that is not here, as package
// image plans it: once while its node lives, from the first read on.
//
// It begins with the read and not with the open, so that a read of something else is
// asked for before it: on a line with one connection the other order would cost the
// reader a round trip. Headers follow at once. Metadata follows where the rest of the
// file does too; elsewhere a reader must go past the headers first, so that who only
// looks at a thousand snapshots does not fetch their tables.
type hydration struct {
	plan    *image.Plan // of the goroutine that runs; nil: nothing is to be done
	chain   *chain
	planned atomic.Pointer[extent.Set] // what was asked for; nil once it is known to be no image
	known   atomic.Bool                // the format is
	armed   atomic.Bool                // the headers are here, metadata waits for a reader that goes past them

	mu   sync.Mutex         // guards below
	stop context.CancelFunc // non-nil while a goroutine runs
}

// chain is the files that one read leads to: a child, its parents. A file says what
// its parent is, and may lie: each is looked at once, and no more than maxChain are.
type chain struct {
	mu   sync.Mutex // guards seen
	seen map[Ino]struct{}
}

// headerRead is the most that tools read at a time while they find out what a file is.
const headerRead = 64 << 10

// maxChain is twice the longest chain that CloudStack makes (snapshot.delta.max is 16).
const maxChain = 32

// enter says whether a file is new to the chain, and may be.
func (ch *chain) enter(ino Ino) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if _, ok := ch.seen[ino]; ok || len(ch.seen) >= maxChain {
		return false
	}
	ch.seen[ino] = struct{}{}
	return true
}

// hydrate is told of a read of [off, end) before it waits for its bytes. It waits for
// nothing itself; the caller holds a handle and no lock. It reports whether the read is
// one of those that were planned for: a table that is read from end to end does not
// mean that what lies behind it is wanted. As long as the format is not known that goes
// for small reads only; a copy begins with large ones.
func (c *Cache) hydrate(n *node, off, end int64) (planned bool) {
	h := n.hydration.Load()
	if h == nil {
		c.startHydration(n, &chain{seen: map[Ino]struct{}{n.ino: {}}}, catalog.Range{Off: off, End: end})
		if h = n.hydration.Load(); h == nil {
			return false
		}
	}
	set := h.planned.Load()
	if set == nil {
		return false
	}
	if set.Contains(off, end) {
		return h.known.Load() || end-off <= headerRead
	}
	if h.armed.CompareAndSwap(true, false) {
		c.runHydration(n, h, func(ctx context.Context) error {
			return c.fetchPlanned(ctx, n, h, image.Metadata)
		})
	}
	return false
}

// startHydration begins with a file: read is what somebody is about to ask for, empty
// where nobody does. The caller holds a reference to n, whose file is loaded.
func (c *Cache) startHydration(n *node, ch *chain, read catalog.Range) {
	p := n.p
	if p == nil || n.whole.Load() || c.depot.Load() == nil {
		return
	}
	p.mu.Lock()
	size, gone := p.size, p.gone
	p.mu.Unlock()
	if gone != nil {
		return
	}
	rec, err := c.record(n.ino)
	h := &hydration{chain: ch}
	if err != nil || len(rec.Links) == 0 || !n.hydration.CompareAndSwap(nil, h) {
		return
	}
	name := rec.Links[0].Name
	if read.Off < read.End && !image.Worthwhile(name, size) {
		return
	}
	h.plan = image.New(name, size)
	first := h.plan.Next(nil, image.Header)
	h.notePlanned()

	// The range with the read in it goes ahead of all others, as one request that the
	// read will wait for. A read elsewhere goes ahead of all of them.
	var now, then []catalog.Range
	for _, r := range first {
		if r.Off < read.End && read.Off < r.End {
			now = append(now, r)
		} else {
			then = append(then, r)
		}
	}
	var soon []*waiter
	if len(now) > 0 || read.Off >= read.End {
		soon = c.prefetch(n, now, image.Header)
	} else {
		p.mu.Lock()
		soon = p.expectLocked([]catalog.Range{read})
		p.mu.Unlock()
	}
	c.runHydration(n, h, func(ctx context.Context) error {
		if len(now) == 0 {
			if err := c.await(ctx, n, soon); err != nil {
				return err
			}
			soon = nil
		}
		if err := c.await(ctx, n, append(soon, c.prefetch(n, then, image.Header)...)); err != nil {
			return err
		}
		return c.fetchHeaders(ctx, n, h, rec.Links[0].Parent)
	})
}

// runHydration runs a stage in the background. What failed begins again with the next
// read.
func (c *Cache) runHydration(n *node, h *hydration, stage func(ctx context.Context) error) {
	c.ref(n)
	ok := c.spawn(func(ctx context.Context) {
		defer c.drop(n)
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		h.setStop(stop)
		defer h.setStop(nil)
		err := stage(ctx)
		if err != nil {
			n.hydration.CompareAndSwap(h, nil)
			c.log.Debug("fetch what tools read first", "ino", n.ino, "err", err) // land has warned
		}
	})
	if !ok {
		c.unref(n)
		n.hydration.CompareAndSwap(h, nil)
	}
}

func (h *hydration) setStop(stop context.CancelFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop = stop
}

// stopHydration ends what runs for n: its bytes are to go.
func (n *node) stopHydration() {
	if h := n.hydration.Load(); h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.stop != nil {
			h.stop()
		}
	}
}

// fetchHeaders fetches the rest of the headers, begins with the files that go with
// this one, and goes on with the metadata or leaves it to a reader.
func (c *Cache) fetchHeaders(ctx context.Context, n *node, h *hydration, dir Ino) error {
	if err := c.fetchPlanned(ctx, n, h, image.Header); err != nil {
		return err
	}
	for _, name := range h.plan.Siblings() {
		c.spawn(func(context.Context) { c.hydrateSibling(h.chain, dir, name) })
	}
	if h.plan.Format() == "" {
		return nil
	}
	p := n.p
	p.mu.Lock()
	fills := p.fills
	p.mu.Unlock()
	if fills {
		return c.fetchPlanned(ctx, n, h, image.Metadata)
	}
	h.armed.Store(true)
	return nil
}

// fetchPlanned fetches what the plan of n has of a class, round by round. A file that
// was faster than its plan is whole, but its headers still say which others go with it.
func (c *Cache) fetchPlanned(ctx context.Context, n *node, h *hydration, class image.Class) error {
	for class == image.Header || !n.whole.Load() {
		need := h.plan.Next(fetched{n.p}, class)
		if len(need) == 0 && h.plan.Format() == "" {
			h.planned.Store(nil)
		} else {
			h.known.Store(h.plan.Format() != "")
			h.notePlanned()
		}
		if len(need) == 0 {
			break
		}
		if err := c.await(ctx, n, c.prefetch(n, need, class)); err != nil {
			return err
		}
	}
	return nil
}

// notePlanned lets readers see what the plan has asked for.
func (h *hydration) notePlanned() {
	asked := h.plan.Asked()
	h.planned.Store(&asked)
}

// hydrateSibling begins with a file in the same directory that another one named.
func (c *Cache) hydrateSibling(ch *chain, dir Ino, name string) {
	var d catalog.Dirent
	err := c.cat.View(func(tx *catalog.Tx) (err error) {
		d, err = tx.Lookup(dir, name)
		return err
	})
	if err != nil || !ch.enter(d.Ino) {
		return // a chain may lead to what is not there
	}
	n := c.acquire(d.Ino)
	defer c.drop(n)
	if err := c.withName(d.Ino, false, func(rec *catalog.Inode, path string) error {
		if rec.State != Remote && rec.State != Partial {
			return errHere
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		return c.load(n, rec, path)
	}); err != nil {
		if !errors.Is(err, errHere) {
			c.log.Debug("open what another file names", "name", name, "err", err)
		}
		return
	}
	if n.hydration.Load() == nil {
		c.startHydration(n, ch, catalog.Range{})
	}
}

var errHere = errors.New("nothing of it is remote")

// prefetch asks for ranges ahead of any reader, those of a header as for one, and
// returns who waits for them, for await. It is the one way from here to the network.
func (c *Cache) prefetch(n *node, ranges []catalog.Range, class image.Class) []*waiter {
	p := n.p
	p.mu.Lock()
	defer p.mu.Unlock()
	waiters := p.expectLocked(ranges)
	if p.gone == nil {
		urgency := fetch.Readahead
		if class == image.Header {
			urgency = fetch.Header
		}
		c.aheadLocked(n, ranges, urgency)
	}
	return waiters
}

// expectLocked makes waiters for ranges, but for those that are here; p.mu is held.
func (p *partial) expectLocked(ranges []catalog.Range) (waiters []*waiter) {
	for _, r := range ranges {
		w := &waiter{off: r.Off, end: min(r.End, p.size), ch: make(chan error, 1)}
		switch {
		case p.here.Contains(w.off, w.end):
			continue
		case p.gone != nil:
			w.ch <- p.gone
		default:
			p.waiters = append(p.waiters, w)
			p.waiting.Store(int32(len(p.waiters)))
		}
		waiters = append(waiters, w)
	}
	return waiters
}

// await returns when all waiters were told, or one was told of an error.
func (c *Cache) await(ctx context.Context, n *node, waiters []*waiter) (err error) {
	t := time.NewTimer(c.cfg.Limits.ColdTimeout)
	defer t.Stop()
	for _, w := range waiters {
		if err != nil {
			c.forget(n, w)
			continue
		}
		select {
		case err = <-w.ch:
			continue
		case <-ctx.Done():
			err = ctx.Err()
		case <-t.C:
			err = fmt.Errorf("wait for %d bytes of inode %d: %w", w.end-w.off, n.ino, ErrUnavailable)
		}
		c.forget(n, w)
	}
	return err
}

// fetched is what is here of a partial file, for those who read no more than that.
type fetched struct{ p *partial }

// ReadAt fails where bytes are missing.
func (f fetched) ReadAt(b []byte, off int64) (int, error) {
	f.p.mu.Lock()
	here := f.p.here.Contains(off, off+int64(len(b)))
	f.p.mu.Unlock()
	if !here {
		return 0, errNotHere
	}
	return f.p.file.ReadAt(b, off)
}

var errNotHere = errors.New("not all of it is here")
