package cache

import (
	"errors"
	"syscall"

	"depotfs/cache/catalog"
)

// Release ends the handle.
func (h *Handle) Release() {
	if h.done.Swap(true) {
		return
	}
	h.c.stopReading(h)
	h.c.releaseHandle(h.n, h.write)
}

func (c *Cache) releaseHandle(n *node, write bool) {
	n.mu.Lock()
	n.handles--
	if write {
		n.writers--
		if n.writers == 0 {
			if err := c.endWrite(n); err != nil && !errors.Is(err, ErrStale) {
				c.log.Error("record the end of writing", "ino", n.ino, "err", err)
			}
		}
	}
	last := n.handles == 0
	n.mu.Unlock()
	if last {
		c.reapOrphan(n)
	}
	c.drop(n)
	if last {
		c.heldSoon()
	}
}

// endWrite records what the last writer left; n.mu is held.
func (c *Cache) endWrite(n *node) error {
	if n.file == nil {
		return nil
	}
	if n.p != nil && !n.whole.Load() {
		return c.saveExtents(n)
	}
	st, err := c.share.StatFile(n.file, false)
	if err != nil {
		return err
	}
	now := c.nanos()
	unchanged := false
	rec, err := c.change(n.ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		r.Flags &^= catalog.FlagWriting
		unchanged = r.State == Dirty && n.clean != (catalog.Stamp{}) && st.Stamp() == n.clean && settled(n.clean, n.openedAt)
		if unchanged {
			if err := step(r, evUnchanged); err != nil {
				return err
			}
			setAttrs(r, st)
			r.Gen, r.DirtySince = r.Base.Gen, 0
			return nil // the queue finds that nothing is to be done, or that its name changed
		}
		if r.State == Clean { // a shared mapping wrote after its file was closed
			if err := step(r, evWrite); err != nil {
				return err
			}
		}
		if (r.Stamp.Size != st.Size || r.Stamp.Mtime != st.Mtime) && r.Flags&catalog.FlagUnseen == 0 {
			r.Flags &^= catalog.FlagAdopted // written under our eyes: newer than what the depot has
		}
		c.noteChange(r, st, now)
		return nil
	})
	n.clean = catalog.Stamp{}
	if err != nil {
		return err
	}
	c.kickRec(rec)
	return nil
}

// sameContent compares stamps but for ctime, which a rename moves.
func sameContent(a, b catalog.Stamp) bool {
	return a.Ino == b.Ino && a.Size == b.Size && a.Mtime == b.Mtime
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
