package cache

import (
	"errors"
	iofs "io/fs"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// demote drops the local bytes, which the depot has under conflicts, and shows
// the depot's version instead. An open file is left for later.
func (c *Cache) demote(s *sending, info ObjectInfo, made moment) error {
	gen, err := c.cat.NextGen()
	if err != nil {
		return err
	}
	return c.withName(s.rec.Ino, true, func(rec *catalog.Inode, path string) error {
		s.n.mu.Lock()
		defer s.n.mu.Unlock()
		if s.n.handles > 0 {
			return laterError{c.now().Add(time.Second), "in conflict, and open"}
		}
		if err := c.unmoved(s); err != nil {
			return err
		}
		if path != s.path {
			return errMoving // theirs has the name that this file had: it is not this one's version
		}
		if g, err := c.buried(path); err != nil {
			return err
		} else if !s.aside && g != nil && !made.after(timeOf(g)) {
			return errMoving // theirs was deleted, or renamed, since it was looked at
		}
		intent := &catalog.Intent{Kind: catalog.IntentEvict, Ino: rec.Ino, From: path, To: share.EvictPath(uint64(rec.Ino)), ShareIno: rec.Stamp.Ino, Time: c.nanos()}
		if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.PutIntent(intent) }); err != nil {
			return err
		}
		if err := c.share.Rename(path, intent.To, 0); err != nil {
			return errors.Join(err, c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteIntent(intent.Seq) }))
		}
		now, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
			if err := step(r, evVanish); err != nil {
				return err
			}
			if err := c.becomeTheirs(tx, r, path, info, gen, made); err != nil {
				return err
			}
			for _, o := range r.Objects {
				if o.Key == s.key {
					continue
				}
				if err := c.removeObject(tx, r.Ino, o, c.keyPath(o.Key)); err != nil { // of a name before the last
					return err
				}
			}
			r.Objects = nil
			if err := c.claim(tx, r, catalog.Object{Key: s.key, ETag: info.ETag, VersionID: info.VersionID, Gen: gen}); err != nil {
				return err
			}
			if err := tx.DeleteUpload(r.Ino); err != nil {
				return err
			}
			if err := tx.DeleteExtents(r.Ino); err != nil {
				return err
			}
			return tx.DeleteIntent(intent.Seq)
		})
		if err != nil {
			return err
		}
		s.n.whole.Store(false)
		s.n.file.Close()
		s.n.file, s.n.p = nil, nil
		c.inodeChanged(rec.Ino)
		c.wantEagerly(now, path)
		if err := c.share.Unlink(intent.To); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			c.log.Warn("remove the loser of a conflict", "path", path, "err", err)
		}
		return nil
	})
}
