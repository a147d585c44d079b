package s3store

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// The kinds of request, as cache.StoreUsage counts them.
const (
	kindGet         = "get"
	kindPut         = "put"
	kindHead        = "head"
	kindList        = "list"
	kindDelete      = "delete"
	kindCopy        = "copy"
	kindPart        = "part"
	kindPartCopy    = "part-copy"
	kindCreate      = "create"
	kindComplete    = "complete"
	kindAbort       = "abort"
	kindListParts   = "list-parts"
	kindListUploads = "list-uploads"
	kindBucket      = "bucket"
)

// call is one request of the Store with all its attempts: what it is for, and
// what the transport saw of it.
type call struct {
	kind, key string
	before    func(ctx context.Context) error // see cache.PutOptions

	mu       sync.Mutex
	attempts int       // guarded by mu
	date     time.Time // guarded by mu; the Date header of the last answer
	skew     time.Duration
	server   string // guarded by mu
	began    time.Time
	bodyErr  error // guarded by mu; why the caller's body could not be read
	stopped  error // guarded by mu; what before said
}

type callKey struct{}

func newCall(ctx context.Context, kind, key string) (context.Context, *call) {
	c := &call{kind: kind, key: key}
	return context.WithValue(ctx, callKey{}, c), c
}

// callOf finds the call of a request; there always is one.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{kind: kindBucket}
}

// sent records that an attempt is made and returns which one it is, from 1.
func (c *call) sent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	c.began = time.Now()
	return c.attempts
}

// next starts another request of the same call, such as the next page.
func (c *call) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts = 0
}

func (c *call) answered(resp *http.Response) {
	now := time.Now()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server = resp.Header.Get("Server")
	if err == nil {
		c.date = date
		// The header has whole seconds: on average it is half a second old.
		c.skew = date.Add(time.Second / 2).Sub(c.began.Add(now.Sub(c.began) / 2))
	}
}

func (c *call) failedBody(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bodyErr == nil {
		c.bodyErr = err
	}
}

func (c *call) body() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bodyErr
}

// ask asks before, and notes what it says.
func (c *call) ask(ctx context.Context) error {
	err := c.before(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = err
	if err != nil {
		return &bodyError{err}
	}
	return nil
}

// stop is why the caller ended the request, nil where it did not.
func (c *call) stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

func (c *call) retried() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attempts > 1
}

func (c *call) when() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.date
}

// clock returns the store's clock minus ours, and the name the server gives itself.
func (c *call) clock() (skew time.Duration, server string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew, c.server
}
