package cache

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
)

// arrivals is what was here at a time.
type arrivals struct {
	here     extent.Set
	fresh    int64
	discards int
}

// takeArrivals returns what is here and counts it as saved.
func (p *partial) takeArrivals() arrivals {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := arrivals{here: p.here.Clone(), fresh: p.fresh, discards: p.discards}
	p.fresh = 0
	return a
}

// giveBack counts as not saved what could not be.
func (p *partial) giveBack(a arrivals) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh += a.fresh
}

// discardedSince says whether bytes of a were thrown away since.
func (p *partial) discardedSince(a arrivals) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.discards != a.discards
}

func (p *partial) syncFile() error {
	if err := ignoringEINTR(func() error { return unix.Fdatasync(int(p.file.Fd())) }); err != nil {
		return fmt.Errorf("make partial file of inode %d durable: %w", p.ino, err)
	}
	return nil
}

// saveExtents writes to the catalog which bytes are here, after they are durable;
// n.mu is held. Fetched bytes go on coming meanwhile, and are for the next time.
func (c *Cache) saveExtents(n *node) error {
	p := n.p
	if n.whole.Load() {
		return nil
	}
	a := p.takeArrivals()
	if a.fresh == 0 && p.sidecar == nil { // which changes under n.mu
		return nil
	}
	err := p.syncFile()
	if err == nil && p.sidecar != nil {
		if err = p.sidecar.Sync(); err != nil {
			err = fmt.Errorf("make sidecar of inode %d durable: %w", n.ino, err)
		}
	}
	if err == nil {
		err = c.recordExtents(n, a)
	}
	if err != nil {
		p.giveBack(a)
	}
	return err
}

// saveFetched is saveExtents now and then while bytes come. Opens of the file and
// others who need n.mu do not wait for the disk.
func (c *Cache) saveFetched(n *node) {
	p := n.p
	a := p.takeArrivals()
	err := p.syncFile()
	if err == nil {
		n.mu.Lock()
		switch {
		case n.whole.Load():
		case p.sidecar != nil: // it was written to, perhaps cut, meanwhile
			p.giveBack(a)
			err = c.saveExtents(n)
			a.fresh = 0
		default:
			err = c.recordExtents(n, a)
		}
		n.mu.Unlock()
	}
	if err != nil {
		p.giveBack(a)
		c.log.Warn("save extents", "ino", n.ino, "err", err)
	}
}

// recordExtents puts durable bytes on record; n.mu is held.
func (c *Cache) recordExtents(n *node, a arrivals) error {
	p := n.p
	if p.discardedSince(a) {
		return nil // who threw bytes away has asked for another save
	}
	_, err := c.change(n.ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if r.State == Remote {
			if err := step(r, evFetch); err != nil {
				return err
			}
		}
		r.Size, r.BaseLimit, r.Mtime = p.size, p.limit, p.mtime // which change under n.mu
		if p.sidecar != nil {
			r.Ctime = max(r.Ctime, p.ctime)
		}
		r.Blocks = (a.here.Len() + 511) / 512
		return tx.PutExtents(n.ino, catalog.Extents{Here: a.here.Ranges(), Written: p.written.Ranges()})
	})
	if errors.Is(err, ErrStale) {
		return nil // unlinked meanwhile
	}
	return err
}
