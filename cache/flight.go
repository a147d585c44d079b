package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
)

const (
	// fetchChunk is how much is stored at a time.
	fetchChunk = 128 << 10
	// saveEvery is after how many fetched bytes the extents are made durable: what
	// a kill can make us fetch again.
	saveEvery = 256 << 20
	// maxFollow is how often one fetch follows an object to another key or tag.
	maxFollow = 3
	// maxResumes is how often in a row the rest of a range is asked for without a byte
	// of it coming.
	maxResumes = 3
)

// flight is one ranged GET that waits for its turn or is under way.
type flight struct {
	*fetch.Flight // guarded by partial.mu
	n             *node
	ticket        fetch.Ticket       // guarded by dispatch.mu
	cancel        context.CancelFunc // guarded by partial.mu; non-nil once it is under way
	hurry         chan struct{}      // closed when somebody waits for what was background
	hurried       bool               // guarded by partial.mu; hurry is closed
}

// fly fetches one range and stores it as it arrives. It ends the flight's reference
// to its node.
func (c *Cache) fly(ctx context.Context, f *flight) {
	defer c.drop(f.n)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := f.n.p
	p.mu.Lock()
	wanted := p.plan.Has(f.Flight)
	if wanted {
		f.cancel = cancel
		if f.Class == fetch.Background { // nobody counts on all of it
			if rest, ok := p.plan.Shorten(f.Flight, f.ticket.Most); ok {
				p.order = slices.Insert(p.order, 0, rest)
			}
		}
	}
	p.mu.Unlock()
	var err error
	if wanted {
		err = c.bring(ctx, f)
	}
	c.fetches.done(f)
	c.land(f, err)
}

// bring is fly's asking, on the store that is on now.
func (c *Cache) bring(ctx context.Context, f *flight) error {
	d := c.depot.Load()
	if d == nil {
		return ErrOff
	}
	ctx, done := d.use(ctx)
	defer done()
	err := c.follow(ctx, d, f)
	if errors.Is(context.Cause(ctx), ErrOff) && err != nil {
		return ErrOff
	}
	return err
}

// follow goes after an object that has moved.
func (c *Cache) follow(ctx context.Context, d *depot, f *flight) error {
	for try := 0; ; try++ {
		rec, err := c.record(f.n.ino)
		if err != nil {
			return err
		}
		err = c.get(ctx, d, rec, f)
		if !errors.Is(err, ErrChanged) && !errors.Is(err, ErrNotFound) || try >= maxFollow {
			if try > 0 && (errors.Is(err, ErrChanged) || errors.Is(err, ErrNotFound)) {
				err = fmt.Errorf("%w (%v)", ErrGone, err)
			}
			return err
		}
		if err := c.sameVersion(ctx, d, f.n, rec, err); err != nil {
			return err
		}
	}
}

// get brings what is left of a flight from the object of rec. A body that ends early
// or stands still is gone on with from where it was.
func (c *Cache) get(ctx context.Context, d *depot, rec *catalog.Inode, f *flight) error {
	obj, ok := currentObject(rec)
	if !ok {
		return fmt.Errorf("inode %d has no object: %w", rec.Ino, ErrGone)
	}
	for vain := 0; ; vain++ {
		pos, end, class := f.n.p.leftOf(f)
		if pos >= end {
			return nil
		}
		body, err := c.openBody(ctx, d, obj, pos, end-pos, class)
		if err != nil {
			return err
		}
		if body.info.Size != rec.Base.Size {
			body.Close()
			return fmt.Errorf("object %q has %d bytes instead of %d: %w", obj.Key, body.info.Size, rec.Base.Size, ErrChanged)
		}
		now, err := c.stream(ctx, body, f, pos, end)
		body.Close()
		if err == nil {
			continue // all is here, or it was given more
		}
		if now > pos {
			vain = 0
		}
		if !errors.Is(err, errBroken) || vain >= maxResumes || ctx.Err() != nil {
			return fmt.Errorf("read object %q at %d: %w", obj.Key, now, err)
		}
		c.fetches.count(func(n *FetchCounts) { n.Resumes++ })
	}
}

// errBroken: the connection was lost, or taken for lost.
var errBroken = errors.New("the answer broke off")

// stream stores a body as it arrives and returns how far it got. It ends where the
// flight ends now, which may be earlier than when it began.
func (c *Cache) stream(ctx context.Context, body *openBody, f *flight, pos, end int64) (int64, error) {
	p := f.n.p
	chunk := chunkPool.Get().(*[]byte)
	defer chunkPool.Put(chunk)
	buf := *chunk
	for have := 0; pos < end; {
		room := min(int64(len(buf)), end-pos)
		n, err := body.Read(buf[have:room])
		have += n
		if have > 0 && (int64(have) == room || err != nil || p.awaited(pos, pos+int64(have))) {
			var class fetch.Class
			var serr error
			if end, class, serr = p.store(f, pos, buf[:have]); serr != nil {
				return pos, serr
			}
			pos, have = pos+int64(have), 0
			if class == fetch.Background && pos < end {
				if err := c.yield(ctx, f); err != nil {
					return pos, err
				}
			}
		}
		if err != nil && pos < end {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrUnavailable) || body.stalled() {
				err = fmt.Errorf("%w: %w", errBroken, err)
			}
			return pos, err
		}
	}
	return pos, nil
}

// yield has a background flight let others go first, without standing still for so
// long that a server would cut it off.
func (c *Cache) yield(ctx context.Context, f *flight) error {
	if c.fetches.hold() == 0 {
		return nil
	}
	t := time.NewTimer(yieldPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.hurry:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// yieldPause is the pause of a background flight after each chunk while others fetch.
const yieldPause = 250 * time.Millisecond

var chunkPool = sync.Pool{New: func() any { b := make([]byte, fetchChunk); return &b }}

// land ends a flight: readers learn of an error, a complete file moves on.
func (c *Cache) land(f *flight, err error) {
	n := f.n
	p := n.p
	p.mu.Lock()
	wanted := p.plan.Has(f.Flight)
	p.plan.Remove(f.Flight)
	delete(p.air, f.Flight)
	if !wanted && err != nil {
		p.mu.Unlock()
		return // nobody waits for it
	}
	if err != nil {
		if errors.Is(err, ErrGone) {
			p.gone = err
		}
		if f.Class == fetch.Background {
			p.order = slices.Insert(p.order, 0, f.Left())
		}
		p.failLocked(f.Off, f.End, err)
	}
	p.wakeLocked()
	if err == nil && wanted && !p.here.Contains(f.Off, min(f.End, p.limit)) {
		// What it brought was thrown away for a wrong checksum before it landed. Who came
		// in between took the bytes for being on their way, and has to ask again.
		p.failLocked(f.Off, f.End, ErrChecksum)
	}
	p.notifyLocked(nil)
	whole := err == nil && p.wholeLocked()
	save := p.fresh >= saveEvery && !p.saving
	p.saving = p.saving || save
	p.mu.Unlock()
	if err != nil && !errors.Is(err, context.Canceled) {
		c.reportFlight(f, err)
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
		c.saveFetched(n)
	}
	if save {
		p.mu.Lock()
		p.saving = false
		p.mu.Unlock()
	}
}

// reportFlight tells people of a flight that failed.
func (c *Cache) reportFlight(f *flight, err error) {
	rec, rerr := c.record(f.n.ino)
	if rerr != nil {
		return
	}
	path := c.pathText(rec)
	c.problems.add("fetch", path, err.Error(), c.now())
	if errors.Is(err, ErrGone) {
		c.log.Error("the bytes of a file cannot be had any more", "path", path, "err", err)
		return
	}
	c.log.Warn("fetch", "path", path, "off", f.Off, "class", f.ticket.Class, "err", err)
}
