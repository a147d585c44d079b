package cache

import (
	"fmt"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// changedOutside takes in a file that is the same one and has another stamp than the
// catalog says: it is dirty until its bytes were compared with the depot's, and its
// quiet time begins again. An upload may have ended since rec was read: what is on
// record in the transaction counts.
func (c *Cache) changedOutside(rec *catalog.Inode, path string, st share.Stat) error {
	was := catalog.State(Absent)
	_, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if was = r.State; !resident(was) || r.Stamp == st.Stamp() {
			was = Absent
			return nil
		}
		now := c.nanos()
		if r.State == Clean {
			gen, err := c.cat.NextGen()
			if err != nil {
				return err
			}
			if r.DirtySince == 0 {
				r.DirtySince = now
			}
			if r.Mode != st.Mode || r.UID != st.UID || r.GID != st.GID || r.Mtime != st.Mtime {
				r.Flags |= catalog.FlagAttrDirty // the depot is to know, whatever became of the bytes
			}
			r.Gen = gen
			r.FinishedAt = max(r.FinishedAt, min(now, max(st.Mtime, st.Ctime)))
		} else {
			c.noteFinished(r, now)
		}
		if err := step(r, evWrite); err != nil {
			return err
		}
		setAttrs(r, st) // which looks at the old stamp
		r.Stamp = st.Stamp()
		r.Flags |= catalog.FlagAdopted
		return c.enqueue(tx, r, path)
	})
	if err != nil {
		return fmt.Errorf("take in %q as others changed it: %w", path, err)
	}
	if was == Absent {
		return nil
	}
	if was == Clean {
		c.log.Info("file was changed in the share", "path", path, "size", st.Size)
	}
	c.kick(rec.Ino)
	c.inodeChanged(rec.Ino)
	return nil
}
