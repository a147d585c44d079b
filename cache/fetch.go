package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"depotfs/cache/catalog"
)

const (
	// fetchBlock is the smallest piece that is fetched: random 4 KiB reads may pull
	// at most 16 times what they ask for, and image formats keep their tables in
	// clusters of 64 KiB, of which a quarter to a half is used at a time.
	fetchBlock = 32 << 10
	// maxAhead is how far a sequential reader is run ahead of: enough to fill 20 ms
	// of a 10 Gbit/s link a few times over.
	maxAhead = 32 << 20
	// flightSize is the largest single GET: large enough that its round trip does not
	// count, small enough that several streams share one file.
	flightSize = 4 << 20
	// fetchChunk is how much is handed to readers at a time.
	fetchChunk = 128 << 10
	// saveEvery is after how many fetched bytes the extents are made durable: what
	// a kill can make us fetch again.
	saveEvery = 256 << 20
	// maxDiscards is how often a file is fetched anew after a wrong checksum
	// before its readers are told.
	maxDiscards = 2
	// maxFollow is how often one fetch follows an object to another key or tag.
	maxFollow = 3
)

// flight is one GET under way.
type flight struct {
	off, end int64
}

// fetchSlots bounds the GETs in flight. Background work gets at most half, so
// that a reader never waits behind it.
type fetchSlots struct{ all, background chan struct{} }

func newFetchSlots(n int) fetchSlots {
	return fetchSlots{all: make(chan struct{}, n), background: make(chan struct{}, max(1, n/2))}
}

func (s fetchSlots) take(ctx context.Context, background bool) (put func(), err error) {
	if background {
		select {
		case s.background <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case s.all <- struct{}{}:
	case <-ctx.Done():
		if background {
			<-s.background
		}
		return nil, ctx.Err()
	}
	return func() {
		<-s.all
		if background {
			<-s.background
		}
	}, nil
}

// ensure returns when [off, end) of a partial file is here. While the store does
// not answer it tries again for ColdTimeout.
func (c *Cache) ensure(ctx context.Context, n *node, ahead *readahead, off, end int64) error {
	p := n.p
	var more int64
	if ahead != nil {
		more = ahead.plan(off, end)
	}
	var limit <-chan time.Time
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		w := c.want(n, off, end, more)
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
			p.forget(w)
			return ctx.Err()
		case <-limit:
			p.forget(w)
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

// retryable says whether asking again may help a reader.
func retryable(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrChecksum)
}

// want starts what flights are needed for [off, end), and for more bytes after
// it, and returns a waiter, or nil when all of [off, end) is here.
func (c *Cache) want(n *node, off, end, more int64) *waiter {
	p := n.p
	p.mu.Lock()
	defer p.mu.Unlock()
	end = min(end, p.size)
	here := p.here.Contains(off, end)
	w := &waiter{off: off, end: end, ch: make(chan error, 1)}
	if !here && p.gone != nil {
		w.ch <- p.gone
		return w
	}
	if !here {
		p.waiters = append(p.waiters, w)
		lo, hi := off/fetchBlock*fetchBlock, (end+fetchBlock-1)/fetchBlock*fetchBlock
		c.launchLocked(n, lo, hi, false)
	}
	if more > 0 && p.gone == nil {
		// Ahead only when half of the window is used up: few large requests.
		if half := end + more/2; !p.comingLocked(end, min(half, p.limit)) {
			c.launchLocked(n, end, end+more, false)
		}
	}
	if here {
		return nil
	}
	return w
}

// comingLocked says whether [off, end) is here or on its way.
func (p *partial) comingLocked(off, end int64) bool {
	for _, m := range p.here.Missing(off, end) {
		if len(p.notFlying(m)) > 0 {
			return false
		}
	}
	return true
}

// notFlying returns the parts of m that no flight fetches.
func (p *partial) notFlying(m catalog.Range) []catalog.Range {
	rest := []catalog.Range{m}
	for _, f := range p.flights {
		var next []catalog.Range
		for _, r := range rest {
			if f.end <= r.Off || r.End <= f.off {
				next = append(next, r)
				continue
			}
			if r.Off < f.off {
				next = append(next, catalog.Range{Off: r.Off, End: f.off})
			}
			if f.end < r.End {
				next = append(next, catalog.Range{Off: f.end, End: r.End})
			}
		}
		rest = next
	}
	return rest
}

// launchLocked starts flights for what is missing of [off, end) and not coming
// already, and returns how many; p.mu is held.
func (c *Cache) launchLocked(n *node, off, end int64, background bool) int {
	p := n.p
	end = min(end, p.limit)
	started := 0
	for _, m := range p.here.Missing(off, end) {
		for _, r := range p.notFlying(m) {
			for o := r.Off; o < r.End; o += flightSize {
				f := &flight{off: o, end: min(o+flightSize, r.End)}
				p.flights = append(p.flights, f)
				c.ref(n)
				ok := c.spawn(func(ctx context.Context) {
					defer c.drop(n)
					err := c.fly(ctx, n, f, background)
					c.land(n, f, err)
				})
				if !ok {
					p.flights = p.flights[:len(p.flights)-1]
					c.unref(n)
					p.failLocked(f.off, f.end, c.notRunning())
					return started
				}
				started++
			}
		}
	}
	return started
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

// fly fetches one range and stores it as it arrives.
func (c *Cache) fly(ctx context.Context, n *node, f *flight, background bool) error {
	put, err := c.slots.take(ctx, background)
	if err != nil {
		return err
	}
	defer put()
	d := c.depot.Load()
	if d == nil {
		return ErrOff
	}
	ctx, done := d.use(ctx)
	defer done()
	err = c.follow(ctx, d, n, f)
	if errors.Is(context.Cause(ctx), ErrOff) && err != nil {
		return ErrOff
	}
	return err
}

// follow is fly on one store: it goes after an object that has moved.
func (c *Cache) follow(ctx context.Context, d *depot, n *node, f *flight) error {
	for try := 0; ; try++ {
		rec, err := c.record(n.ino)
		if err != nil {
			return err
		}
		err = c.get(ctx, d, n, rec, f)
		if !errors.Is(err, ErrChanged) && !errors.Is(err, ErrNotFound) || try >= maxFollow {
			if try > 0 && (errors.Is(err, ErrChanged) || errors.Is(err, ErrNotFound)) {
				err = fmt.Errorf("%w (%v)", ErrGone, err)
			}
			return err
		}
		if err := c.sameVersion(ctx, d, n, rec, err); err != nil {
			return err
		}
	}
}

// get streams the range of one flight into the partial file.
func (c *Cache) get(ctx context.Context, d *depot, n *node, rec *catalog.Inode, f *flight) error {
	obj, ok := currentObject(rec)
	if !ok {
		return fmt.Errorf("inode %d has no object: %w", rec.Ino, ErrGone)
	}
	body, info, err := d.store.Get(ctx, obj.Key, f.off, f.end-f.off, obj.ETag)
	d.report(err)
	if err != nil {
		return err
	}
	defer body.Close()
	if info.Size != rec.Base.Size {
		return fmt.Errorf("object %q has %d bytes instead of %d: %w", obj.Key, info.Size, rec.Base.Size, ErrChanged)
	}
	buf := chunkPool.Get().(*[]byte)
	defer chunkPool.Put(buf)
	for off := f.off; off < f.end; {
		m, err := io.ReadFull(body, (*buf)[:min(fetchChunk, f.end-off)])
		if m > 0 {
			if err := n.p.store(off, (*buf)[:m]); err != nil {
				return err
			}
			off += int64(m)
		}
		if err != nil && off < f.end {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read object %q at %d: %w", obj.Key, off, err)
		}
	}
	return nil
}

var chunkPool = sync.Pool{New: func() any { b := make([]byte, fetchChunk); return &b }}

// currentObject is a key that holds the version that rec derives from.
func currentObject(rec *catalog.Inode) (catalog.Object, bool) {
	for _, o := range rec.Objects {
		if o.Gen == rec.Base.Gen {
			return o, true
		}
	}
	return catalog.Object{}, false
}

// sameVersion is asked when the object under the key is not the version that we
// know: if it has the same identity (size and checksum), reading goes on with its
// new entity tag; anything else is ErrGone.
func (c *Cache) sameVersion(ctx context.Context, d *depot, n *node, rec *catalog.Inode, cause error) error {
	obj, ok := currentObject(rec)
	if !ok {
		return fmt.Errorf("%w (%v)", ErrGone, cause)
	}
	now, err := c.record(n.ino)
	if err != nil {
		return err
	}
	if cur, ok := currentObject(now); ok && cur != obj {
		return nil // renamed: the object has moved to another key meanwhile
	}
	info, err := d.store.Head(ctx, obj.Key)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("object %q: %w (%v)", obj.Key, ErrGone, cause)
	}
	if err != nil {
		return err
	}
	if info.Size != rec.Base.Size || !info.HasCRC64 || !rec.Base.HasCRC || info.CRC64 != rec.Base.CRC64 {
		if own, err := c.ownVersion(ctx, n, obj, info); own || err != nil {
			return err
		}
		return fmt.Errorf("object %q is another version now (etag %s, %d bytes; expected %s, %d bytes): %w",
			obj.Key, info.ETag, info.Size, obj.ETag, rec.Base.Size, ErrGone)
	}
	_, err = c.change(n.ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		for i := range r.Objects {
			if r.Objects[i].Key == obj.Key {
				r.Objects[i].ETag, r.Objects[i].VersionID = info.ETag, info.VersionID
			}
		}
		return nil
	})
	return err
}

// land ends a flight: readers learn of an error, a complete file moves on.
func (c *Cache) land(n *node, f *flight, err error) {
	p := n.p
	p.mu.Lock()
	for i := range p.flights {
		if p.flights[i] == f {
			p.flights = append(p.flights[:i], p.flights[i+1:]...)
			break
		}
	}
	if err != nil {
		if errors.Is(err, ErrGone) {
			p.gone = err
		}
		p.failLocked(f.off, f.end, err)
	}
	p.wakeLocked()
	if err == nil && !p.here.Contains(f.off, min(f.end, p.limit)) {
		// What it brought was thrown away for a wrong checksum before it landed. Who came
		// in between took the bytes for being on their way, and has to ask again.
		p.failLocked(f.off, f.end, ErrChecksum)
	}
	whole := err == nil && p.wholeLocked()
	save := p.fresh >= saveEvery
	p.mu.Unlock()
	if err != nil && !errors.Is(err, context.Canceled) {
		if rec, rerr := c.record(n.ino); rerr == nil {
			path := c.pathText(rec)
			c.problems.add("fetch", path, err.Error(), c.now())
			if errors.Is(err, ErrGone) {
				c.log.Error("the bytes of a file cannot be had any more", "path", path, "err", err)
			} else {
				c.log.Warn("fetch", "path", path, "off", f.off, "end", f.end, "err", err)
			}
		}
	}
	switch {
	case whole:
		switch err := c.promote(n); {
		case err == nil, errors.Is(err, ErrStale): // stale: it was unlinked and closed meanwhile
		case errors.Is(err, ErrBusy), errors.Is(err, ErrMarker): // status says what is in the way
			c.log.Warn("move a complete file to its place", "ino", n.ino, "err", err)
		default:
			c.log.Error("move a complete file to its place", "ino", n.ino, "err", err)
		}
	case save:
		n.mu.Lock()
		err := c.saveExtents(n)
		n.mu.Unlock()
		if err != nil {
			c.log.Warn("save extents", "ino", n.ino, "err", err)
		}
	}
}

// forget takes a waiter that gave up off the list.
func (p *partial) forget(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.waiters {
		if p.waiters[i] == w {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			return
		}
	}
}

// readFull is io.ReadFull for a body whose end may come early.
func readFull(r io.Reader, b []byte) (int, error) { return io.ReadFull(r, b) }
