package cache

import (
	"context"
	"io"
	"time"
)

// lingering is a store whose commits are not cancelled half-way. A request that
// makes an object takes effect whether or not somebody still waits for the answer;
// one that was given up could land after its key was given to another file, and
// overwrite what is there. So the answer is heard before the key's lock is left.
// Parts and reads are cancelled at once: they make nothing visible.
type lingering struct{ Store }

// lingerTime bounds how long a commit that nobody waits for goes on: at the end of
// the daemon, and on a line that is stuck.
const lingerTime = 10 * time.Second

// linger is a context that ends lingerTime after ctx.
func linger(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-out.Done():
		case <-time.After(lingerTime):
			cancel()
		}
	})
	return out, func() { stop(); cancel() }
}

// Put implements Store.
func (s lingering) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) (ObjectInfo, error) {
	if err := ctx.Err(); err != nil {
		return ObjectInfo{}, err
	}
	if before := o.Before; before != nil { // until then there is nothing to hear out
		asked := ctx
		o.Before = func(ctx context.Context) error {
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			defer context.AfterFunc(asked, func() { cancel(context.Cause(asked)) })()
			return before(ctx)
		}
	}
	ctx, done := linger(ctx)
	defer done()
	return s.Store.Put(ctx, key, body, size, o)
}

// CreateMultipart implements Store.
func (s lingering) CreateMultipart(ctx context.Context, key string, o PutOptions) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	ctx, done := linger(ctx)
	defer done()
	return s.Store.CreateMultipart(ctx, key, o)
}

// CompleteMultipart implements Store.
func (s lingering) CompleteMultipart(ctx context.Context, key, uploadID string, parts []Part, size int64, o PutOptions) (ObjectInfo, error) {
	if err := ctx.Err(); err != nil {
		return ObjectInfo{}, err
	}
	ctx, done := linger(ctx)
	defer done()
	return s.Store.CompleteMultipart(ctx, key, uploadID, parts, size, o)
}

// Copy implements Store.
func (s lingering) Copy(ctx context.Context, src, srcIfMatch, dst string, size int64, o PutOptions) (ObjectInfo, error) {
	if err := ctx.Err(); err != nil {
		return ObjectInfo{}, err
	}
	ctx, done := linger(ctx)
	defer done()
	return s.Store.Copy(ctx, src, srcIfMatch, dst, size, o)
}
