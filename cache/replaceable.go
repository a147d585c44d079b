package cache

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// replaceable is a store whose settings change while requests are under way (see
// ReplaceStore). All that the depot knows stays: locks of keys, breaker, queue. A
// request ends on the settings that it began with. Where those fail it, and there are
// others by then, it is made again on these: at once where it only reads or sends a
// part; where it makes something visible only if it was refused, since what nobody
// answered may still take effect.
type replaceable struct{ now atomic.Pointer[edition] }

// edition is a store with one set of settings.
type edition struct {
	Store
	mu   sync.Mutex // guards below
	over bool       // nothing begins any more
	uses map[*useMark]context.CancelCauseFunc
}

// replacedGrace is how long a request that makes nothing visible may go on with a server
// that was replaced: that may have been done because it hangs.
const replacedGrace = 10 * time.Second

// errReplaced ends such a request.
var errReplaced = errors.New("the settings of the store were changed")

func newReplaceable(s Store) *replaceable {
	r := &replaceable{}
	r.now.Store(newEdition(s))
	return r
}

func newEdition(s Store) *edition {
	return &edition{Store: s, uses: map[*useMark]context.CancelCauseFunc{}}
}

// replace has requests that begin from now on use s. moved says that it is another
// server or bucket.
func (r *replaceable) replace(s Store, moved bool) {
	old := r.now.Swap(newEdition(s))
	if moved {
		time.AfterFunc(replacedGrace, old.end)
	}
}

// end cuts the requests that still run.
func (e *edition) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	for _, cancel := range e.uses {
		cancel(errReplaced)
	}
}

// request is a context for one request on e that may be cut; the caller must call done.
func (e *edition) request(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		cancel(errReplaced)
	}
	mark := &useMark{}
	e.uses[mark] = cancel
	return ctx, func() {
		cancel(nil)
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.uses, mark)
	}
}

// again makes a request that may be made twice.
func again[T any](ctx context.Context, r *replaceable, ask func(ctx context.Context, s Store) (T, error)) (T, error) {
	out, end, err := againOpen(ctx, r, ask)
	end()
	return out, err
}

// againOpen is again for an answer that goes on after the request: until the caller
// calls end.
func againOpen[T any](ctx context.Context, r *replaceable, ask func(ctx context.Context, s Store) (T, error)) (_ T, end func(), _ error) {
	for {
		e := r.now.Load()
		inner, end := e.request(ctx)
		out, err := ask(inner, e)
		failed := errors.Is(err, ErrDenied) || errors.Is(err, ErrUnavailable) || context.Cause(inner) == errReplaced
		if err == nil || !failed || ctx.Err() != nil || r.now.Load() == e {
			return out, end, err
		}
		end()
	}
}

// once makes a request that makes something visible.
func once[T any](ctx context.Context, r *replaceable, ask func(s Store) (T, error)) (T, error) {
	for {
		e := r.now.Load()
		out, err := ask(e)
		if !errors.Is(err, ErrDenied) || ctx.Err() != nil || r.now.Load() == e {
			return out, err
		}
	}
}

type nothing struct{}

// List implements Store. On other settings it goes on behind the last page; a listing of
// one level is short, and nobody can say what comes behind a common prefix.
func (r *replaceable) List(ctx context.Context, q ListQuery, page func(ListPage) error) error {
	if q.Delimiter != "" {
		return r.now.Load().List(ctx, q, page)
	}
	var stopped error
	_, err := again(ctx, r, func(ctx context.Context, s Store) (nothing, error) {
		err := s.List(ctx, q, func(p ListPage) error {
			if stopped = page(p); stopped == nil && len(p.Objects) > 0 {
				q.StartAfter = p.Objects[len(p.Objects)-1].Key
			}
			return stopped
		})
		if stopped != nil {
			return nothing{}, nil
		}
		return nothing{}, err
	})
	if stopped != nil {
		return stopped
	}
	return err
}

// Head implements Store.
func (r *replaceable) Head(ctx context.Context, key string) (ObjectInfo, error) {
	return again(ctx, r, func(ctx context.Context, s Store) (ObjectInfo, error) { return s.Head(ctx, key) })
}

// Get implements Store. A body that is cut off because the settings were replaced ends
// as one of a line that broke.
func (r *replaceable) Get(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, ObjectInfo, error) {
	var info ObjectInfo
	var inner context.Context
	body, end, err := againOpen(ctx, r, func(ctx context.Context, s Store) (io.ReadCloser, error) {
		inner = ctx
		body, i, err := s.Get(ctx, key, offset, length, ifMatch)
		info = i
		return body, err
	})
	if err != nil {
		end()
		return nil, info, err
	}
	return &replaceableBody{ReadCloser: body, ctx: inner, end: end}, info, nil
}

type replaceableBody struct {
	io.ReadCloser
	ctx context.Context
	end func() // nil once it was called
}

func (b *replaceableBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && context.Cause(b.ctx) == errReplaced {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close implements io.Closer.
func (b *replaceableBody) Close() error {
	if b.end != nil {
		b.end()
		b.end = nil
	}
	return b.ReadCloser.Close()
}

// Put implements Store.
func (r *replaceable) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) (ObjectInfo, error) {
	return once(ctx, r, func(s Store) (ObjectInfo, error) { return s.Put(ctx, key, body, size, o) })
}

// CreateMultipart implements Store.
func (r *replaceable) CreateMultipart(ctx context.Context, key string, o PutOptions) (string, error) {
	return once(ctx, r, func(s Store) (string, error) { return s.CreateMultipart(ctx, key, o) })
}

// PutPart implements Store.
func (r *replaceable) PutPart(ctx context.Context, key, uploadID string, n int, body io.ReaderAt, size int64, crc64 uint64) (Part, error) {
	return again(ctx, r, func(ctx context.Context, s Store) (Part, error) {
		return s.PutPart(ctx, key, uploadID, n, body, size, crc64)
	})
}

// CopyPart implements Store.
func (r *replaceable) CopyPart(ctx context.Context, key, uploadID string, n int, src, srcIfMatch string, offset, length int64) (Part, error) {
	return again(ctx, r, func(ctx context.Context, s Store) (Part, error) {
		return s.CopyPart(ctx, key, uploadID, n, src, srcIfMatch, offset, length)
	})
}

// CompleteMultipart implements Store.
func (r *replaceable) CompleteMultipart(ctx context.Context, key, uploadID string, parts []Part, size int64, o PutOptions) (ObjectInfo, error) {
	return once(ctx, r, func(s Store) (ObjectInfo, error) {
		return s.CompleteMultipart(ctx, key, uploadID, parts, size, o)
	})
}

// AbortMultipart implements Store.
func (r *replaceable) AbortMultipart(ctx context.Context, key, uploadID string) error {
	_, err := again(ctx, r, func(ctx context.Context, s Store) (nothing, error) {
		return nothing{}, s.AbortMultipart(ctx, key, uploadID)
	})
	return err
}

// ListParts implements Store.
func (r *replaceable) ListParts(ctx context.Context, key, uploadID string) ([]Part, error) {
	return again(ctx, r, func(ctx context.Context, s Store) ([]Part, error) { return s.ListParts(ctx, key, uploadID) })
}

// ListMultiparts implements Store.
func (r *replaceable) ListMultiparts(ctx context.Context, prefix string) ([]MultipartInfo, error) {
	return again(ctx, r, func(ctx context.Context, s Store) ([]MultipartInfo, error) { return s.ListMultiparts(ctx, prefix) })
}

// Copy implements Store.
func (r *replaceable) Copy(ctx context.Context, src, srcIfMatch, dst string, size int64, o PutOptions) (ObjectInfo, error) {
	return once(ctx, r, func(s Store) (ObjectInfo, error) { return s.Copy(ctx, src, srcIfMatch, dst, size, o) })
}

// Delete implements Store.
func (r *replaceable) Delete(ctx context.Context, key, ifMatch string) error {
	_, err := once(ctx, r, func(s Store) (nothing, error) { return nothing{}, s.Delete(ctx, key, ifMatch) })
	return err
}

// Probe implements Store.
func (r *replaceable) Probe(ctx context.Context, scratch string) (Capabilities, error) {
	return r.now.Load().Probe(ctx, scratch)
}

// Usage implements Store.
func (r *replaceable) Usage() StoreUsage { return r.now.Load().Usage() }
