package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"depotfs/cache/share"
)

// Parts that are zeros are copied inside the store from an object of zeros, which all
// zones of a depot share: <prefix>.depotfs/zero/<size>. The small one is sent once in
// a depot's life, larger ones are put together of copies of it.

const (
	// sentZeros is the size of the one object of zeros that is sent.
	sentZeros = 16 << 20
	// manyZeros is the size of the one from which long runs of zeros are copied: some
	// hundred requests for a tenth of a TiB, each of which a store answers in seconds.
	manyZeros = 256 << 20
)

// errNoZeros says that a depot has no object of zeros of a size, and why.
var errNoZeros = errors.New("no object of zeros")

// zeroObject is an object of zeros that was looked at in this run.
type zeroObject struct {
	key, etag string
	size      int64
	err       error // why it cannot be used
}

// zeroObjects are the objects of zeros that were looked at.
type zeroObjects struct {
	mu sync.Mutex // guards m
	m  map[int64]zeroObject
}

func (z *zeroObjects) known(size int64) (zeroObject, bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	o, ok := z.m[size]
	return o, ok
}

func (z *zeroObjects) keep(size int64, o zeroObject) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.m == nil {
		z.m = map[int64]zeroObject{}
	}
	z.m[size] = o
}

// forget has an object looked at again that turned out to be another one.
func (z *zeroObjects) forget(size int64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.m, size)
}

func (c *Cache) zeroKey(size int64) string {
	return c.cfg.Prefix + share.Private + "/zero/" + strconv.FormatInt(size, 10)
}

// zeros returns the depot's object of size zeros, which is made if it is missing. Its
// checksum is looked at once in a run. errNoZeros says that this store cannot have one
// that may be relied on, or that somebody has put something else in its place.
func (c *Cache) zeros(ctx context.Context, d *depot, size int64) (zeroObject, error) {
	key := c.zeroKey(size)
	unlock, err := d.keys.lock(ctx, key)
	if err != nil {
		return zeroObject{}, err
	}
	defer unlock()
	if o, ok := d.zeros.known(size); ok {
		return o, o.err
	}
	info, err := d.store.Head(ctx, key)
	if errors.Is(err, ErrNotFound) {
		if err = c.makeZeros(ctx, d, key, size); err == nil || errors.Is(err, ErrChanged) { // another zone was faster
			info, err = d.store.Head(ctx, key)
		}
	}
	d.report(err)
	o := zeroObject{key: key, etag: info.ETag, size: size}
	switch {
	case errors.Is(err, ErrRejected), errors.Is(err, errNoZeros):
		o.err = fmt.Errorf("%w: %v", errNoZeros, err)
	case err != nil:
		return zeroObject{}, fmt.Errorf("make an object of zeros: %w", err)
	case info.Size != size || info.HasCRC64 && info.CRC64 != zeroCRC(size):
		o.err = fmt.Errorf("%w: %s is something else, delete it", errNoZeros, key)
	case !info.HasCRC64:
		o.err = fmt.Errorf("%w: the store keeps no checksum of %s", errNoZeros, key)
	}
	if o.err != nil {
		c.log.Warn("zeros are sent", "size", size, "err", o.err)
	}
	d.zeros.keep(size, o)
	return o, o.err
}

// makeZeros makes an object of zeros where none is, else ErrChanged; its key is locked.
func (c *Cache) makeZeros(ctx context.Context, d *depot, key string, size int64) (err error) {
	opts := PutOptions{IfNoneMatch: true, CRC64: zeroCRC(size), HasCRC64: true, ContentType: "application/octet-stream"}
	if size <= sentZeros {
		_, err := d.store.Put(ctx, key, zeroReader{}, size, opts)
		return err
	}
	small, err := c.zeros(ctx, d, sentZeros)
	if err != nil {
		return err
	}
	opts.Copies = true
	id, err := d.store.CreateMultipart(ctx, key, opts)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			ctx, stop := unhurried(ctx)
			defer stop()
			if aerr := d.store.AbortMultipart(ctx, key, id); aerr != nil {
				c.log.Warn("abort an upload", "key", key, "err", aerr)
			}
		}
	}()
	var parts []Part
	for off := int64(0); off < size; off += small.size {
		p, err := d.store.CopyPart(ctx, key, id, len(parts)+1, small.key, small.etag, 0, min(small.size, size-off))
		if err != nil {
			return err
		}
		parts = append(parts, p)
	}
	_, err = d.store.CompleteMultipart(ctx, key, id, parts, size, opts)
	return err
}

// zeroSource is the object from which the parts of an upload are copied that are
// zeros: the longest run of them says which. ok is false where there is none: then
// zeros are sent, like other bytes.
func (c *Cache) zeroSource(ctx context.Context, d *depot, grain, longest int64) (o zeroObject, ok bool, err error) {
	d.mu.Lock()
	can := d.caps.CopyPart
	d.mu.Unlock()
	if !can || longest < grain {
		return zeroObject{}, false, nil
	}
	sizes := []int64{grain}
	if longest >= manyZeros && grain < manyZeros {
		sizes = []int64{manyZeros, grain}
	}
	for _, size := range sizes {
		o, err := c.zeros(ctx, d, size)
		if err == nil {
			return o, true, nil
		}
		if !errors.Is(err, errNoZeros) {
			return zeroObject{}, false, err
		}
	}
	return zeroObject{}, false, nil
}

// zeroReader reads as zeros without end.
type zeroReader struct{}

func (zeroReader) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}
