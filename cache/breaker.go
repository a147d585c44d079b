package cache

import (
	"context"
	"errors"
	"io"
	"time"
)

// breaker is a store that is left alone while it is down. After a request that could
// not reach it, all others wait, and one of them asks, ever more rarely, by the
// smallest request that there is. When that is answered all go on. So an outage costs a
// request every few seconds, however many files and readers wait, and what was under
// way when it began counts once.
type breaker struct {
	Store
	d *depot
}

// probePause is the pause before the first probe; it doubles probeDoubles times. A store
// that comes back is used within seconds.
const (
	probePause   = 500 * time.Millisecond
	probeDoubles = 3
)

// report tells how a request ended.
func (d *depot) report(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.lease.lost != nil: // whatever ended since then changes nothing
	case errors.Is(err, ErrUnavailable):
		d.state, d.err = "unavailable", err
		if !d.broken {
			d.breakLocked()
		} // else the request had begun before
	case errors.Is(err, ErrDenied):
		d.state, d.err = "refused", err
		d.mendLocked()
	case answered(err):
		d.state, d.err = "on", nil
		d.failures = 0
		d.mendLocked()
	}
}

// answered says whether a request without a fault of the line or the store ended so.
func answered(err error) bool {
	for _, answer := range []error{ErrNotFound, ErrChanged, ErrChecksum, ErrRejected} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return err == nil
}

func (d *depot) breakLocked() {
	d.broken = true
	d.failures++
	d.closedTo = time.Now().Add(jitter(probePause << min(d.failures-1, probeDoubles)))
	d.news.wake()
}

func (d *depot) mendLocked() {
	if d.broken {
		d.broken, d.closedTo = false, time.Time{}
		d.news.wake()
	}
}

// enter waits until a request may be made. Before the depot was joined there is nothing
// to wait for: who joins has its own pauses.
func (b breaker) enter(ctx context.Context) error {
	d := b.d
	if !d.joined() {
		return nil
	}
	for {
		d.mu.Lock()
		if err := d.lease.lost; err != nil {
			d.mu.Unlock()
			return err
		}
		news := d.news.wait()
		if !d.broken {
			d.mu.Unlock()
			return nil
		}
		wait := time.Until(d.closedTo)
		probe := wait <= 0 && !d.probing
		d.probing = d.probing || probe
		d.mu.Unlock()
		if probe {
			if b.probe(ctx); ctx.Err() != nil {
				return ctx.Err() // else it would ask for ever: that it failed says nothing
			}
			continue
		}
		if err := pauseUntil(ctx, wait, news); err != nil {
			return err
		}
	}
}

// probe finds out whether the store is back.
func (b breaker) probe(ctx context.Context) {
	_, err := b.Store.Head(ctx, b.d.probeKey)
	d := b.d
	d.mu.Lock()
	defer d.mu.Unlock()
	d.probing = false
	switch {
	case ctx.Err() != nil: // the next one asks
		d.news.wake()
	case answered(err), errors.Is(err, ErrDenied):
		d.mendLocked() // whether it is on, the requests that waited say
	default:
		d.err = err
		d.breakLocked()
	}
}

// pauseUntil waits for news, or for as long as wait says where that is more than 0.
func pauseUntil(ctx context.Context, wait time.Duration, news <-chan struct{}) error {
	var over <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
	case <-news:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// isDown says whether requests wait for the store to come back.
func (d *depot) isDown() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken
}

// untilProbe waits while nobody may ask.
func (d *depot) untilProbe(ctx context.Context) error {
	for {
		d.mu.Lock()
		wait, news := time.Until(d.closedTo), d.news.wait()
		d.mu.Unlock()
		if wait <= 0 {
			return ctx.Err()
		}
		if err := pauseUntil(ctx, wait, news); err != nil {
			return err
		}
	}
}

// through makes one request.
func through[T any](ctx context.Context, b breaker, request func() (T, error)) (T, error) {
	if err := b.enter(ctx); err != nil {
		var none T
		return none, err
	}
	out, err := request()
	if b.d.joined() {
		b.d.report(err)
	}
	return out, err
}

// throughOnly is through for requests that answer nothing.
func throughOnly(ctx context.Context, b breaker, request func() error) error {
	_, err := through(ctx, b, func() (struct{}, error) { return struct{}{}, request() })
	return err
}

// List implements Store.
func (b breaker) List(ctx context.Context, q ListQuery, page func(ListPage) error) error {
	return throughOnly(ctx, b, func() error { return b.Store.List(ctx, q, page) })
}

// Head implements Store.
func (b breaker) Head(ctx context.Context, key string) (ObjectInfo, error) {
	return through(ctx, b, func() (ObjectInfo, error) { return b.Store.Head(ctx, key) })
}

// Get implements Store.
func (b breaker) Get(ctx context.Context, key string, offset, length int64, ifMatch string) (body io.ReadCloser, info ObjectInfo, err error) {
	body, err = through(ctx, b, func() (io.ReadCloser, error) {
		body, info, err = b.Store.Get(ctx, key, offset, length, ifMatch)
		return body, err
	})
	return body, info, err
}

// Put implements Store.
func (b breaker) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) (ObjectInfo, error) {
	return through(ctx, b, func() (ObjectInfo, error) { return b.Store.Put(ctx, key, body, size, o) })
}

// CreateMultipart implements Store.
func (b breaker) CreateMultipart(ctx context.Context, key string, o PutOptions) (string, error) {
	return through(ctx, b, func() (string, error) { return b.Store.CreateMultipart(ctx, key, o) })
}

// PutPart implements Store.
func (b breaker) PutPart(ctx context.Context, key, uploadID string, n int, body io.ReaderAt, size int64, crc64 uint64) (Part, error) {
	return through(ctx, b, func() (Part, error) { return b.Store.PutPart(ctx, key, uploadID, n, body, size, crc64) })
}

// CopyPart implements Store.
func (b breaker) CopyPart(ctx context.Context, key, uploadID string, n int, src, srcIfMatch string, offset, length int64) (Part, error) {
	return through(ctx, b, func() (Part, error) {
		return b.Store.CopyPart(ctx, key, uploadID, n, src, srcIfMatch, offset, length)
	})
}

// CompleteMultipart implements Store.
func (b breaker) CompleteMultipart(ctx context.Context, key, uploadID string, parts []Part, size int64, o PutOptions) (ObjectInfo, error) {
	return through(ctx, b, func() (ObjectInfo, error) { return b.Store.CompleteMultipart(ctx, key, uploadID, parts, size, o) })
}

// AbortMultipart implements Store.
func (b breaker) AbortMultipart(ctx context.Context, key, uploadID string) error {
	return throughOnly(ctx, b, func() error { return b.Store.AbortMultipart(ctx, key, uploadID) })
}

// ListParts implements Store.
func (b breaker) ListParts(ctx context.Context, key, uploadID string) ([]Part, error) {
	return through(ctx, b, func() ([]Part, error) { return b.Store.ListParts(ctx, key, uploadID) })
}

// ListMultiparts implements Store.
func (b breaker) ListMultiparts(ctx context.Context, prefix string) ([]MultipartInfo, error) {
	return through(ctx, b, func() ([]MultipartInfo, error) { return b.Store.ListMultiparts(ctx, prefix) })
}

// Copy implements Store.
func (b breaker) Copy(ctx context.Context, src, srcIfMatch, dst string, size int64, o PutOptions) (ObjectInfo, error) {
	return through(ctx, b, func() (ObjectInfo, error) { return b.Store.Copy(ctx, src, srcIfMatch, dst, size, o) })
}

// Delete implements Store.
func (b breaker) Delete(ctx context.Context, key, ifMatch string) error {
	return throughOnly(ctx, b, func() error { return b.Store.Delete(ctx, key, ifMatch) })
}
