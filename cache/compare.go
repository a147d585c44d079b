package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/minio/crc64nvme"

	"depotfs/cache/catalog"
)

const (
	// compareInline is up to which size an upload worker reads a file to compare it:
	// what takes no longer than the request that goes before.
	compareInline = 1 << 20
	// compareChunk is how much is read at a time, and between looks at the clock.
	compareChunk = 256 << 10
	// compareRetry is when a file that could not be read is tried again.
	compareRetry = time.Minute
	// compareRate is the default of Limits.CompareRate: half of what a 2 Gbit/s
	// share can do, so that the mount's readers have the other half.
	compareRate = 100 << 20
)

// errComparing: the file waits until its bytes were read; the comparer wakes it.
var errComparing = errors.New("is compared with the depot's version")

// toCompare is a file that was found in the share, and the object of the same size
// under its key.
type toCompare struct {
	ino  Ino
	info ObjectInfo
}

// compared is what reading a file gave.
type compared struct {
	stamp catalog.Stamp
	crc   uint64
	etag  string // of the object that was compared
	same  bool   // it has the same bytes
}

// compares is the work of the comparer: one file at a time is read, so that neither
// the share nor the workers that upload are kept busy by comparing terabytes.
type compares struct {
	more chan struct{}

	mu      sync.Mutex       // guards below
	waiting []toCompare      // the next one first
	known   map[Ino]struct{} // of waiting, and the one that is read
	results map[Ino]compared // until the worker takes them
}

func (q *compares) init() {
	q.more, q.known, q.results = make(chan struct{}, 1), map[Ino]struct{}{}, map[Ino]compared{}
}

// add has a file compared, urgent ones first.
func (q *compares) add(f toCompare, urgent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.known[f.ino]; ok {
		if urgent {
			q.preferLocked(f.ino)
		}
		return
	}
	q.known[f.ino] = struct{}{}
	if urgent {
		q.waiting = slices.Insert(q.waiting, 0, f)
	} else {
		q.waiting = append(q.waiting, f)
	}
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// prefer has a waiting file compared next: another one waits for it.
func (q *compares) prefer(ino Ino) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.preferLocked(ino)
}

func (q *compares) preferLocked(ino Ino) {
	i := slices.IndexFunc(q.waiting, func(f toCompare) bool { return f.ino == ino })
	if i > 0 {
		f := q.waiting[i]
		copy(q.waiting[1:i+1], q.waiting[:i])
		q.waiting[0] = f
	}
}

// has says whether a file waits to be compared, or is.
func (q *compares) has(ino Ino) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.known[ino]
	return ok
}

func (q *compares) len() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(len(q.known))
}

func (q *compares) next() (toCompare, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return toCompare{}, false
	}
	f := q.waiting[0]
	q.waiting = q.waiting[1:]
	return f, true
}

func (q *compares) done(ino Ino, r *compared) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.known, ino)
	if r != nil {
		q.results[ino] = *r
	}
}

// take returns, once, what reading the file gave.
func (q *compares) take(ino Ino) (compared, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r, ok := q.results[ino]
	delete(q.results, ino)
	return r, ok
}

// compareLoop is the comparer.
func (c *Cache) compareLoop(ctx context.Context) error {
	for {
		f, ok := c.compares.next()
		if !ok {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.compares.more:
			}
			continue
		}
		r, err := c.compareFile(ctx, f)
		c.compares.done(f.ino, r)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		next := c.now() // decides, or has it compared again where it has changed
		if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, ErrOff) {
			c.log.Warn("compare a file with the depot", "ino", f.ino, "err", err)
			next = next.Add(compareRetry)
		}
		c.work.Add(f.ino, next)
	}
}

// compareFile reads one file. Nothing is locked meanwhile: who reads, writes or
// removes it does not notice, and a result for a file that has changed counts nothing.
func (c *Cache) compareFile(ctx context.Context, f toCompare) (*compared, error) {
	d := c.depot.Load()
	if d == nil {
		return nil, ErrOff
	}
	ctx, done := d.use(ctx)
	defer done()
	var file *os.File
	if err := c.withName(f.ino, false, func(rec *catalog.Inode, path string) error {
		if rec.State != Dirty || rec.Flags&catalog.FlagAdopted == 0 {
			return ErrStale // it was decided otherwise
		}
		var err error
		file, err = c.share.OpenFile(path, syscall.O_RDONLY, 0)
		return err
	}); err != nil {
		return nil, err
	}
	defer file.Close()
	before, err := c.share.StatFile(file, true)
	if err != nil || before.Size != f.info.Size {
		return nil, err
	}
	crc, err := c.readPaced(ctx, file, before.Size)
	if err != nil {
		return nil, err
	}
	if after, err := c.share.StatFile(file, true); err != nil || after.Stamp() != before.Stamp() {
		return nil, err
	}
	same, err := c.sameAsObject(ctx, d, f.info, crc)
	if err != nil {
		return nil, err
	}
	return &compared{stamp: before.Stamp(), crc: crc, etag: f.info.ETag, same: same}, nil
}

// sameAsObject says whether an object of the right size has that checksum. Where the
// store keeps none, as for what old tools put there, its bytes are fetched.
func (c *Cache) sameAsObject(ctx context.Context, d *depot, info ObjectInfo, crc uint64) (bool, error) {
	if info.HasCRC64 {
		return info.CRC64 == crc, nil
	}
	body, _, err := d.store.Get(ctx, info.Key, 0, -1, info.ETag)
	d.report(err)
	if err != nil {
		return false, fmt.Errorf("read %s to compare it: %w", info.Key, err)
	}
	defer body.Close()
	h := crc64nvme.New()
	n, err := io.Copy(h, body)
	if err != nil {
		return false, fmt.Errorf("read %s to compare it: %w", info.Key, err)
	}
	return n == info.Size && h.Sum64() == crc, nil
}

// readPaced is sumCRC of a whole file, no faster than Limits.CompareRate.
func (c *Cache) readPaced(ctx context.Context, file *os.File, size int64) (uint64, error) {
	h := crc64nvme.New()
	buf := make([]byte, compareChunk)
	rate := c.cfg.Limits.CompareRate
	start := time.Now()
	for off := int64(0); off < size; {
		n, err := file.ReadAt(buf[:min(compareChunk, size-off)], off)
		if err != nil && n == 0 {
			return 0, fmt.Errorf("read %q at %d: %w", file.Name(), off, err)
		}
		h.Write(buf[:n])
		off += int64(n)
		c.adoption.count(func(r *adoptionRecord) { r.Read += int64(n) })
		wait := time.Duration(0)
		if rate > 0 {
			wait = time.Until(start.Add(time.Duration(min(float64(off)/float64(rate)*float64(time.Second), math.MaxInt64/2))))
		}
		if wait <= 0 {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			continue
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return h.Sum64(), nil
}
