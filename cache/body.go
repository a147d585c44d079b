package cache

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
)

// stallPatience is how long a body may stand still before the rest of it is asked for
// anew: far more than a lost packet costs, or a turn at the bandwidth limit.
const stallPatience = 5 * time.Second

// openBody is an answer whose first byte has come.
type openBody struct {
	io.ReadCloser
	info    ObjectInfo
	cancel  context.CancelFunc
	watch   *time.Timer
	fetches *dispatch
	stuck   atomic.Bool
}

func newOpenBody(body io.ReadCloser, info ObjectInfo, cancel context.CancelFunc, fetches *dispatch) *openBody {
	b := &openBody{ReadCloser: body, info: info, cancel: cancel, fetches: fetches}
	b.watch = time.AfterFunc(time.Hour, b.late)
	b.watch.Stop()
	return b
}

// late ends a read on which nothing has come for long, if there may be one more request.
func (b *openBody) late() {
	if !b.fetches.hedge() {
		b.watch.Reset(stallPatience)
		return
	}
	b.stuck.Store(true)
	b.cancel()
}

// Read is watched: one that stands still is ended.
func (b *openBody) Read(p []byte) (int, error) {
	b.watch.Reset(stallPatience)
	n, err := b.ReadCloser.Read(p)
	b.watch.Stop()
	return n, err
}

// stalled says that the body was given up because nothing came.
func (b *openBody) stalled() bool { return b.stuck.Load() }

// Close ends the request.
func (b *openBody) Close() error {
	b.watch.Stop()
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}

// openBody asks for a range, and a second time if the first byte is late: who answers
// first has it. In the background nobody is in a hurry.
func (c *Cache) openBody(ctx context.Context, d *depot, obj catalog.Object, off, length int64, class fetch.Class) (*openBody, error) {
	patience := c.fetches.asked()
	if class == fetch.Background {
		ctx, cancel := context.WithCancel(ctx)
		return c.ask(ctx, cancel, d, obj, off, length)
	}
	type answer struct {
		body *openBody
		err  error
		by   int
	}
	answers := make(chan answer, 2)
	var cancels []context.CancelFunc
	ask := func() bool {
		by := len(cancels)
		ctx, cancel := context.WithCancel(ctx)
		cancels = append(cancels, cancel)
		return c.spawn(func(context.Context) {
			body, err := c.ask(ctx, cancel, d, obj, off, length)
			answers <- answer{body, err, by}
		})
	}
	if !ask() {
		cancels[0]()
		return nil, c.notRunning()
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for asked := 1; ; {
		select {
		case a := <-answers:
			asked--
			if a.err != nil && asked > 0 {
				continue // the other one may do better
			}
			if asked > 0 {
				cancels[1-a.by]()
				c.spawn(func(context.Context) { // where nothing runs any more, the cancel was enough
					if lost := <-answers; lost.body != nil {
						lost.body.Close()
					}
				})
			}
			return a.body, a.err
		case <-late.C:
			if c.fetches.hedge() && ask() {
				asked++
				c.fetches.count(func(n *FetchCounts) { n.Hedges++ })
			}
		}
	}
}

// ask makes one request; cancel ends ctx, and is called with the answer's end.
func (c *Cache) ask(ctx context.Context, cancel context.CancelFunc, d *depot, obj catalog.Object, off, length int64) (*openBody, error) {
	began := time.Now()
	body, info, err := d.store.Get(ctx, obj.Key, off, length, obj.ETag)
	d.report(err)
	if err != nil {
		cancel()
		return nil, err
	}
	c.fetches.answered(time.Since(began))
	return newOpenBody(body, info, cancel, c.fetches), nil
}

// readFull is io.ReadFull for a body whose end may come early.
func readFull(r io.Reader, b []byte) (int, error) { return io.ReadFull(r, b) }
