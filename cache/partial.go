package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
	"depotfs/cache/fetch"
	"depotfs/cache/share"
)

// partial is what is here of a file that is not whole: a sparse file under
// .depotfs/partial and the ranges of it that hold valid bytes.
//
// Bytes are durable before the catalog names them (saveExtents), and written
// ranges are in the sidecar before the write is acknowledged, so that neither a
// kill nor the loss of the catalog takes an acknowledged byte.
type partial struct {
	ino  Ino
	file *os.File

	// promoting is held while the checksum is computed and the file moved to its
	// place, so that this is done once; it comes before node.mu and is held over reads
	// of the partial file only.
	promoting sync.Mutex
	sums      *grainSums // guarded by promoting: what was found by the last computation; nil for small files

	// storing is held shared while fetched bytes go into file, and exclusively by who
	// writes into it or declares it whole, so that no fetched byte ever follows a written
	// one. It comes between node.mu and mu.
	storing sync.RWMutex

	mu       sync.Mutex // guards below; covers written bytes going into file, never the network
	size     int64
	here     extent.Set
	written  extent.Set
	limit    int64          // of the base, only [0, limit) is still part of the file
	mtime    int64          // ns; the file's logical time, not the partial file's
	ctime    int64          // likewise
	sidecar  *share.Sidecar // non-nil once something was written
	writes   int            // how often it was; tells an upload whether what it read is still the file
	wrote    int64          // ns; when it was last, in this run
	plan     fetch.Plan
	air      map[*fetch.Flight]*flight
	readers  map[*fetch.Streams]struct{} // handles that have read
	waiters  []*waiter
	waiting  atomic.Int32 // len(waiters), for looking without the lock
	watchers []*watcher
	order    []catalog.Range // what to fill with first
	cursor   int64           // filling has passed what is before
	saving   bool            // somebody is saving the extents
	fresh    int64           // bytes that came since the extents were saved
	discards int             // how often all bytes were thrown away for a wrong checksum
	filling  bool
	fills    bool               // its class has the rest follow in the background
	stopFill context.CancelFunc // non-nil while filling
	gone     error              // the version cannot be had any more
}

// loadPartial opens the partial file of n; the name is kept in place, n.mu held.
func (c *Cache) loadPartial(n *node, rec *catalog.Inode, path string) error {
	f, err := c.share.OpenFile(share.PartialPath(uint64(n.ino)), syscall.O_RDWR|syscall.O_CREAT, 0o600)
	if err != nil {
		return fmt.Errorf("open partial file of %q: %w", path, err)
	}
	var ext catalog.Extents
	if err := c.cat.View(func(tx *catalog.Tx) error {
		ext, err = tx.Extents(n.ino)
		return err
	}); err != nil {
		f.Close()
		return err
	}
	p := &partial{ino: n.ino, file: f, size: rec.Size, limit: rec.BaseLimit, mtime: rec.Mtime, ctime: rec.Ctime,
		fills: c.rules.Of(path).Fill, here: extent.FromRanges(ext.Here), written: extent.FromRanges(ext.Written)}
	if rec.State == PartialDirty {
		if err := c.replaySidecar(p, rec); err != nil {
			f.Close()
			return fmt.Errorf("recover what was written into %q: %w", path, err)
		}
	}
	if err := f.Truncate(p.size); err != nil {
		f.Close()
		return fmt.Errorf("size partial file of %q: %w", path, err)
	}
	if err := c.takeZeros(p, rec); err != nil {
		f.Close()
		return err
	}
	n.file, n.p = f, p
	return nil
}

// replaySidecar adds the written ranges that the catalog may not know yet.
func (c *Cache) replaySidecar(p *partial, rec *catalog.Inode) error {
	h, recs, err := share.ReadSidecar(c.share, uint64(p.ino))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil // written ranges are in the catalog's extents
	}
	if err != nil {
		return err
	}
	written, limit, size := share.Replay(h, recs, h.BootID == c.bootID)
	p.size, p.limit = size, min(p.limit, limit)
	p.here.Truncate(p.limit)
	for _, w := range p.written.Ranges() {
		if w.Off < size {
			p.here.Add(w.Off, min(w.End, size))
		}
	}
	p.written.Truncate(size)
	for _, w := range written {
		p.here.Add(w.Off, w.End)
		p.written.Add(w.Off, w.End)
	}
	p.sidecar, err = share.AppendSidecar(c.share, uint64(p.ino))
	return err
}

func (p *partial) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sidecar != nil {
		p.sidecar.Close()
		p.sidecar = nil
	}
}

// store puts bytes that a flight has brought where nothing valid is yet and wakes who
// waits for them. Bytes that were written meanwhile win. It returns where the flight
// ends now, and its class.
func (p *partial) store(f *flight, off int64, b []byte) (end int64, class fetch.Class, err error) {
	p.storing.RLock()
	defer p.storing.RUnlock()
	p.mu.Lock()
	missing := p.here.Missing(off, min(off+int64(len(b)), p.limit))
	p.mu.Unlock()
	for _, m := range missing {
		if err := writeSparse(p.file, b[m.Off-off:m.End-off], m.Off); err != nil {
			// A reader must not be told ENOSPC: it has not asked to write.
			return 0, 0, fmt.Errorf("keep fetched bytes in the cache directory: %w (%v)", syscall.EIO, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range missing {
		p.here.Add(m.Off, m.End)
		p.fresh += m.End - m.Off
	}
	f.Pos = off + int64(len(b))
	p.wakeLocked()
	return min(f.End, p.limit), f.Class, nil
}

// leftOf is what a flight has still to bring.
func (p *partial) leftOf(f *flight) (pos, end int64, class fetch.Class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f.Pos, min(f.End, p.limit), f.Class
}

// awaited says whether [off, end) completes what a reader waits for.
func (p *partial) awaited(off, end int64) bool {
	if p.waiting.Load() == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.waiters {
		if w.off < end && off < w.end && w.end <= end {
			return true
		}
	}
	return false
}

// wakeLocked tells the waiters whose bytes are here.
func (p *partial) wakeLocked() {
	p.tellLocked(func(w *waiter) (bool, error) { return p.here.Contains(w.off, min(w.end, p.size)), nil })
}

// failLocked tells the waiters that overlap [off, end) that fetching it failed.
func (p *partial) failLocked(off, end int64, err error) {
	p.tellLocked(func(w *waiter) (bool, error) { return w.off < end && off < w.end, err })
	p.cursor = min(p.cursor, off)
	p.notifyLocked(err)
}

// tellLocked tells those waiters for which over is true.
func (p *partial) tellLocked(over func(*waiter) (bool, error)) {
	keep := p.waiters[:0]
	for _, w := range p.waiters {
		if over, err := over(w); over {
			w.ch <- err
			continue
		}
		keep = append(keep, w)
	}
	clear(p.waiters[len(keep):])
	p.waiters = keep
	p.waiting.Store(int32(len(keep)))
}

// wholeLocked says whether no byte is missing.
func (p *partial) wholeLocked() bool { return p.here.Contains(0, p.size) }

// readPartial reads from a file that may lack bytes.
func (n *node) readPartial(ctx context.Context, h *Handle, b []byte, off int64) (int, error) {
	p := n.p
	p.mu.Lock()
	size, fill := p.size, (p.fills || len(p.order) > 0) && !p.filling
	here := p.here.Contains(off, min(off+int64(len(b)), size))
	p.mu.Unlock()
	ahead := &h.ahead
	if off < size && h.c.hydrate(n, off, min(off+int64(len(b)), size)) {
		ahead = nil // looking at an image is no sequential reading
	}
	if fill {
		h.c.fill(n)
	}
	if off >= size {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), size-off)]
	if len(b) == 0 {
		return 0, nil
	}
	h.c.reads.note(here)
	if err := h.c.ensure(ctx, n, ahead, off, off+int64(len(b))); err != nil {
		return 0, err
	}
	m, err := h.file.ReadAt(b, off)
	if errors.Is(err, io.EOF) && m < len(b) {
		p.mu.Lock()
		cut := p.size < off+int64(len(b)) || n.whole.Load()
		p.mu.Unlock()
		if !cut {
			return m, fmt.Errorf("read inode %d: partial file is shorter than its extents: %w", n.ino, io.ErrUnexpectedEOF)
		}
	}
	return m, err
}

// syncPartial makes what was written into a partial file durable.
func (c *Cache) syncPartial(n *node) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil || n.whole.Load() {
		if n.file == nil {
			return nil
		}
		return n.file.Sync()
	}
	if err := c.saveExtents(n); err != nil {
		return err
	}
	return c.cat.Sync(context.Background())
}
