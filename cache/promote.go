package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// promote moves a file whose last byte has come to its plain path, after its
// checksum was verified. A file that is whole already, or not yet, is left alone.
func (c *Cache) promote(n *node) error {
	n.mu.Lock()
	p := n.p
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	p.promoting.Lock()
	defer p.promoting.Unlock()
	for try := 0; ; try++ {
		p.mu.Lock()
		whole := p.wholeLocked()
		p.mu.Unlock()
		if !whole || n.whole.Load() {
			return nil // discarded, or done, by who was first
		}
		rec, err := c.record(n.ino)
		if err != nil {
			return err
		}
		var crc uint64
		if rec.State == Partial || rec.State == Remote {
			if crc, err = c.verify(p, rec); err != nil {
				return err
			}
		}
		err = c.withName(n.ino, false, func(now *catalog.Inode, path string) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.whole.Load() || n.p == nil {
				return nil
			}
			if (now.State == PartialDirty) != (rec.State == PartialDirty) || now.Base != rec.Base {
				return errWritten // while the checksum was computed; or uploaded
			}
			return c.promoteLocked(n, now, path, crc)
		})
		switch {
		case errors.Is(err, errWritten): // withName itself tries again after errMoved
			continue
		case errors.Is(err, errOutside) && try < maxLooks:
			if err := c.lookAtInode(n.ino); err != nil {
				return err
			}
			continue
		case errors.Is(err, errOutside):
			return fmt.Errorf("complete %q: something else is in its place: %w", c.pathText(rec), ErrBusy)
		case errors.Is(err, iofs.ErrNotExist): // unlinked while open: whole without a name
			return c.wholeOrphan(n)
		}
		return err
	}
}

// errWritten: a write came while the checksum was computed. It is not errMoved, for
// which withName would go on asking with what was on record before.
var errWritten = errors.New("written meanwhile")

// maxDiscards is how often a file is fetched anew after a wrong checksum before its
// readers are told.
const maxDiscards = 2

// verify computes the checksum of a complete clean file and compares it with the
// version's. Without a recorded one, length and the conditional GETs have to do.
func (c *Cache) verify(p *partial, rec *catalog.Inode) (uint64, error) {
	crc, err := c.sumFetched(p, rec)
	if err != nil || !rec.Base.HasCRC || crc == rec.Base.CRC64 {
		return crc, err
	}
	now, err := c.record(p.ino)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	dirty := p.sidecar != nil || now.Base != rec.Base
	if !dirty {
		p.here.Remove(0, p.size)
		p.fresh = 1 // the emptied extents must be saved
		p.failLocked(0, p.size, ErrChecksum)
		p.discards++
		p.cursor = 0
		if p.discards > maxDiscards {
			p.gone = fmt.Errorf("checksum of the object differs from the recorded one: %w", ErrChecksum)
		}
	}
	p.mu.Unlock()
	if dirty {
		return 0, nil // promote looks again and sees the write
	}
	path := c.pathText(rec)
	err = fmt.Errorf("fetched bytes of %q have checksum %016x instead of %016x: %w", path, crc, rec.Base.CRC64, ErrChecksum)
	c.problems.add("fetch", path, err.Error(), c.now())
	return 0, err
}

// promoteLocked renames the partial file into place; the name is kept in place and
// n.mu held.
func (c *Cache) promoteLocked(n *node, rec *catalog.Inode, path string, crc uint64) error {
	p := n.p
	p.storing.Lock() // what was asked for twice may still come
	defer p.storing.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wholeLocked() {
		return nil
	}
	if err := c.dressPartial(p, rec); err != nil {
		return fmt.Errorf("complete %q: %w", path, err)
	}
	if err := c.makeParents(rec.Links[0].Parent); err != nil {
		return err
	}
	from := share.PartialPath(uint64(n.ino))
	intent := &catalog.Intent{Kind: catalog.IntentPromote, Ino: n.ino, From: from, To: path, Time: c.nanos()}
	if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.PutIntent(intent) }); err != nil {
		return err
	}
	err := c.share.Rename(from, path, share.NoReplace)
	if err != nil {
		_ = c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteIntent(intent.Seq) })
		if errors.Is(err, iofs.ErrExist) {
			return errOutside // others made a file of that name
		}
		return fmt.Errorf("complete %q: %w", path, err)
	}
	st, err := c.share.StatFile(p.file, false)
	if err != nil {
		return err
	}
	var gen uint64
	if n.writers > 0 {
		if gen, err = c.cat.NextGen(); err != nil {
			return err
		}
	}
	var done *catalog.Inode
	done, err = c.change(n.ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if err := becomeWhole(tx, r, st); err != nil {
			return err
		}
		r.Ctime = max(r.Ctime, p.ctime)
		if r.State == Clean && !r.Base.HasCRC {
			r.Base.CRC64, r.Base.HasCRC = crc, true
		}
		if r.State == Clean && p.sums != nil {
			if err := putSums(tx, r.Ino, r.Base.Gen, p.sums); err != nil {
				return err
			}
		}
		if r.State == Clean && n.writers > 0 {
			// It was opened for writing when it was not whole; from now on nobody sees
			// its first write.
			if err := step(r, evWrite); err != nil {
				return err
			}
			r.Gen, r.DirtySince = gen, c.nanos()
			if err := c.enqueue(tx, r, path); err != nil {
				return err
			}
		}
		return tx.DeleteIntent(intent.Seq)
	})
	if err != nil {
		return err
	}
	if n.writers > 0 {
		if err := c.cat.Sync(context.Background()); err != nil {
			return fmt.Errorf("mark %q dirty: %w", path, err)
		}
	}
	n.whole.Store(true)
	if n.upload != nil {
		n.upload(errWhole)
	}
	if p.sidecar != nil {
		p.sidecar.Close()
		p.sidecar = nil
	}
	if err := share.RemoveSidecar(c.share, uint64(n.ino)); err != nil {
		c.log.Warn("remove sidecar", "ino", n.ino, "err", err)
	}
	n.unsynced.Store(done.State == Dirty)
	n.clean = catalog.Stamp{}
	c.problems.clear("fetch", path)
	c.problems.clear("share", path)
	c.log.Info("file is whole", "path", path, "size", st.Size, "state", stateName(done.State))
	if done.State == Clean {
		c.noteClean(done, path)
	} else {
		c.kickRec(done)
	}
	c.inodeChanged(n.ino)
	return nil
}

// dressPartial makes the complete partial file durable and gives it the owner,
// mode and times that the plain file has to have.
func (c *Cache) dressPartial(p *partial, rec *catalog.Inode) error {
	f := p.file
	if st, err := c.share.StatFile(f, false); err != nil {
		return err
	} else if st.UID != rec.UID || st.GID != rec.GID {
		if err := f.Chown(int(rec.UID), int(rec.GID)); err != nil && !errors.Is(err, iofs.ErrPermission) {
			return err
		}
	}
	if err := syscall.Fchmod(int(f.Fd()), rec.Mode&0o7777); err != nil {
		return err
	}
	if err := c.share.UtimesFile(f, &rec.Atime, &p.mtime); err != nil {
		return err
	}
	return f.Sync()
}

// becomeWhole is the catalog's side of a promotion.
func becomeWhole(tx *catalog.Tx, r *catalog.Inode, st share.Stat) error {
	if err := step(r, evWhole); err != nil {
		return err
	}
	ctime := r.Ctime // the share's moves with the rename, but nothing was changed
	setAttrs(r, st)
	r.Stamp, r.Ctime = st.Stamp(), ctime
	return tx.DeleteExtents(r.Ino)
}

// wholeOrphan is promote for a file that lost its name while it was open: the
// backing file stays where it is until the last handle closes.
func (c *Cache) wholeOrphan(n *node) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil {
		return nil
	}
	n.p.storing.Lock()
	defer n.p.storing.Unlock()
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	if !n.p.wholeLocked() {
		return nil
	}
	rec, err := c.record(n.ino)
	if err != nil {
		return err
	}
	if err := c.dressPartial(n.p, rec); err != nil {
		return fmt.Errorf("complete unlinked inode %d: %w", n.ino, err)
	}
	n.whole.Store(true)
	return nil
}
