package cache

import (
	"context"
	"io"
	"sync"
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
	first, cancel := context.WithCancel(ctx)
	if class == fetch.Background {
		return c.ask(first, cancel, d, obj, off, length)
	}
	h := &hedge{done: make(chan struct{}), cancelFirst: cancel}
	late := time.AfterFunc(patience, func() {
		c.spawn(func(context.Context) {
			if !h.begin(c.fetches) {
				return
			}
			defer close(h.done)
			second, cancel := context.WithCancel(ctx)
			h.end(c.ask(second, cancel, d, obj, off, length))
		})
	})
	body, err := c.ask(first, cancel, d, obj, off, length)
	late.Stop()
	return h.settle(body, err)
}

// hedge is a second request beside one whose first byte is late.
type hedge struct {
	done        chan struct{} // closed when it was answered
	cancelFirst context.CancelFunc

	mu    sync.Mutex // guards below
	begun bool
	over  bool // one of the two has it
	body  *openBody
}

// begin says whether the second request may be made.
func (h *hedge) begin(fetches *dispatch) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || !fetches.hedge() {
		return false
	}
	fetches.count(func(n *FetchCounts) { n.Hedges++ })
	h.begun = true
	return true
}

// end takes the second answer.
func (h *hedge) end(body *openBody, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil:
	case h.over:
		body.Close()
	default:
		h.over, h.body = true, body
		h.cancelFirst()
	}
}

// settle takes the first answer and returns the better one.
func (h *hedge) settle(body *openBody, err error) (*openBody, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over && err != nil && h.begun {
		h.mu.Unlock()
		<-h.done // the other one may do better; it ends with the same context
		h.mu.Lock()
	}
	if h.over {
		if body != nil {
			body.Close()
		}
		return h.body, nil
	}
	h.over = true // a second answer that is still to come is closed as it comes
	return body, err
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
