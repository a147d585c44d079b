package cache

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// dirtyPartial makes a partial file durably dirty before its first change; n.mu is held.
func (c *Cache) dirtyPartial(n *node) error {
	if n.p.sidecar != nil {
		return nil
	}
	rec, err := c.record(n.ino)
	if err != nil {
		return err
	}
	path := c.pathText(rec)
	gen, err := c.cat.NextGen()
	if err != nil {
		return err
	}
	hdr := share.Header{Path: path, Base: rec.Base, Size: rec.Size, BootID: c.bootID}
	if len(rec.Objects) > 0 {
		hdr.Key, hdr.ETag = rec.Objects[0].Key, rec.Objects[0].ETag
	}
	if rec.State == PartialDirty {
		// The sidecar was compacted away; what it said is in the catalog.
		hdr.Size = n.p.size
	}
	side, err := share.CreateSidecar(c.share, uint64(n.ino), hdr)
	if errors.Is(err, syscall.EEXIST) && rec.State != PartialDirty {
		// Of a version that the depot has: only its removal has failed (see rebase).
		if err = share.RemoveSidecar(c.share, uint64(n.ino)); err == nil {
			side, err = share.CreateSidecar(c.share, uint64(n.ino), hdr)
		}
	}
	if err != nil {
		return fmt.Errorf("note writes into %q: %w", path, err)
	}
	if n.p.limit < rec.Base.Size {
		if err := side.Append(share.LimitRecord(n.p.limit)); err != nil {
			return errors.Join(err, side.Remove())
		}
	}
	now := c.nanos()
	if rec, err = c.change(n.ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if r.State != PartialDirty {
			r.Gen, r.DirtySince = gen, now
		}
		if err := step(r, evWrite); err != nil {
			return err
		}
		c.noteFinished(r, now)
		return c.enqueue(tx, r, path)
	}); err != nil {
		return errors.Join(err, side.Remove())
	}
	if err := c.cat.Sync(context.Background()); err != nil {
		return errors.Join(err, side.Remove())
	}
	n.p.mu.Lock()
	n.p.sidecar = side
	n.p.mu.Unlock()
	c.kickRec(rec) // the close may never come
	return nil
}

// writePartial writes into a file that lacks bytes; what is missing stays missing.
func (c *Cache) writePartial(n *node, b []byte, off int64) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.whole.Load() {
		return n.file.WriteAt(b, off)
	}
	if err := c.dirtyPartial(n); err != nil {
		return 0, err
	}
	p := n.p
	p.storing.Lock()
	defer p.storing.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.size; off > old { // the gap reads as zeros from now on
		if err := p.growLocked(off); err != nil {
			return 0, err
		}
	}
	m, err := p.file.WriteAt(b, off)
	if m > 0 {
		end := off + int64(m)
		if serr := p.sidecar.Append(share.WriteRecord(off, end)); serr != nil {
			return 0, serr
		}
		p.here.Add(off, end)
		p.written.Add(off, end)
		p.size = max(p.size, end)
		p.touch(c.nanos())
		p.wakeLocked()
	}

	if errors.Is(err, syscall.ENOSPC) {
		c.noSpace(n.ino)
	}
	return m, err
}

// touch moves the times for a change of the bytes; p.mu is held.
func (p *partial) touch(now int64) {
	p.mtime, p.ctime, p.wrote = now, now, now
	p.writes++
}

// growLocked extends the file with zeros.
func (p *partial) growLocked(size int64) error {
	if err := p.sidecar.Append(share.TruncateRecord(size)); err != nil {
		return err
	}
	if err := p.file.Truncate(size); err != nil {
		return err
	}
	p.here.Add(p.size, size)
	p.written.Add(p.size, size)
	p.size = size
	return nil
}

// truncatePartial changes the length of a file that lacks bytes. Cut to nothing
// it is whole at once, without asking the depot.
func (c *Cache) truncatePartial(n *node, size int64) error {
	n.mu.Lock()
	if n.whole.Load() {
		defer n.mu.Unlock()
		return n.file.Truncate(size)
	}
	err := c.truncatePartialLocked(n, size)
	whole := false
	if err == nil {
		n.p.mu.Lock()
		whole = n.p.wholeLocked()
		n.p.mu.Unlock()
	}
	n.mu.Unlock()
	if err != nil || !whole {
		return err
	}
	return c.promote(n)
}

func (c *Cache) truncatePartialLocked(n *node, size int64) error {
	if err := c.dirtyPartial(n); err != nil {
		return err
	}
	p := n.p
	p.storing.Lock()
	defer p.storing.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.touch(c.nanos())
	if size >= p.size {
		return p.growLocked(size)
	}
	// The record first: after a crash in between, the cut is made good from it,
	// while the other way round extents would name bytes that are not there.
	if err := p.sidecar.Append(share.TruncateRecord(size)); err != nil {
		return err
	}
	if err := p.file.Truncate(size); err != nil {
		return err
	}
	p.size, p.limit = size, min(p.limit, size)
	p.here.Truncate(size)
	p.written.Truncate(size)
	p.wakeLocked()
	return nil
}
