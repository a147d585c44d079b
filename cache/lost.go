package cache

import (
	"cmp"
	"errors"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// versionLost is called when the object of a file that was renamed here, and is not here,
// has become another version before it could be brought to its key: another zone wrote
// under the old name, not knowing of the rename. What it wrote is the file's next version
// under the new name, too, even if it was deleted since.
func (c *Cache) versionLost(rec *catalog.Inode, gone error) error {
	o, ok := currentObject(rec)
	if !ok {
		return gone
	}
	if found, err := c.readFromTwin(rec, o); found || err != nil {
		return cmp.Or[error](err, laterError{c.now(), "its bytes are another file's, too"})
	}
	if !c.holding.Load() || rec.State == PartialDirty {
		return gone
	}
	next, err := c.heldAt(c.keyPath(o.Key))
	if err != nil || next == nil || next.Op != journal.Put || next.Key != o.Key || next.ETag == o.ETag || next.ETag == "" {
		return errors.Join(err, gone)
	}
	there := catalog.Object{Key: next.Key, ETag: next.ETag, VersionID: next.VersionID} // which is the other name's
	if next.Trash != "" {
		there = catalog.Object{Key: next.Trash}
	}
	if n := c.peek(rec.Ino); n != nil {
		c.drop(n)
		return gone // who has it open read the version before
	}
	if there.Gen, err = c.cat.NextGen(); err != nil {
		return err
	}
	if _, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if r.State != rec.State || r.Base != rec.Base {
			return errMoving
		}
		if err := step(r, evImport); err != nil {
			return err
		}
		r.Base = catalog.Version{Gen: there.Gen, Size: next.Size, CRC64: next.CRC64, HasCRC: next.HasCRC}
		set := r.AttrAt != 0 && r.AttrAt > r.MadeAt // under the name that it has now
		r.MadeAt, r.Origin = max(c.eventNanos(), r.MadeAt+1), c.zoneName()
		r.Zeros = ""
		learnZeros(r, map[string]string{metaZeros: next.Zeros})
		toRemote(r)
		if set {
			r.AttrAt, r.AttrBy, r.Mtime = r.MadeAt+1, c.zoneName(), next.Mtime
		} else {
			setRecordAttrs(r, *next)
		}
		for _, o := range r.Objects {
			if err := disownKey(tx, o.Key, r.Ino); err != nil {
				return err
			}
		}
		r.Objects = []catalog.Object{there}
		return tx.DeleteExtents(r.Ino)
	}); err != nil {
		return err
	}
	c.removePartial(rec)
	c.inodeChanged(rec.Ino)
	return laterError{c.now(), "another zone has written what was renamed here"}
}

// noteKept has a record that waits for a file to be moved from its key (awaitMove) say where
// the bytes of its version are kept, which another zone has deleted.
func (c *Cache) noteKept(tx *catalog.Tx, r journal.Record) error {
	if r.Trash == "" || r.ETag == "" || !c.holding.Load() {
		return nil
	}
	h, err := heldIn(tx, r.Path)
	if err != nil || h == nil || h.Op != journal.Put || h.Key != r.Key || h.ETag != r.ETag {
		return err
	}
	h.Trash = r.Trash
	b, err := journal.Encode(*h)
	if err != nil {
		return nil // it was decoded from the same form
	}
	return tx.PutHeld(r.Path, b)
}

// readFromTwin looks for another file with the bytes of one whose object is gone: a zone
// that did not know of the rename here has renamed it, too. They are copied from there.
func (c *Cache) readFromTwin(rec *catalog.Inode, gone catalog.Object) (bool, error) {
	if !rec.Base.HasCRC {
		return false, nil
	}
	var twin *catalog.Object
	for next, more := catalog.Root, true; more && twin == nil; {
		n := 0
		if err := c.cat.View(func(tx *catalog.Tx) error {
			return tx.EachInode(next, func(r *catalog.Inode) bool {
				next = r.Ino + 1
				n++
				if r.Ino != rec.Ino && isRegular(r) && r.Base.HasCRC && r.Base.Size == rec.Base.Size && r.Base.CRC64 == rec.Base.CRC64 {
					if o, ok := currentObject(r); ok && o.Key != gone.Key {
						twin = &o
					}
				}
				return twin == nil && n < 5000
			})
		}); err != nil {
			return false, err
		}
		more = n == 5000
	}
	if twin == nil {
		return false, nil
	}
	_, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if r.Base != rec.Base {
			return errMoving
		}
		for _, o := range r.Objects {
			if err := disownKey(tx, o.Key, r.Ino); err != nil {
				return err
			}
		}
		r.Objects = []catalog.Object{{Key: twin.Key, ETag: twin.ETag, VersionID: twin.VersionID, Gen: r.Base.Gen}}
		return nil
	})
	return err == nil, err
}

// anothers says whether an object that an inode does not need any more is none of ours to
// remove: it is in the trash, or another zone has told of it under another name.
func (c *Cache) anothers(tx *catalog.Tx, o catalog.Object) (bool, error) {
	if c.isKept(o.Key) {
		return true, nil
	}
	if !c.holding.Load() || o.ETag == "" {
		return false, nil
	}
	found := false
	err := tx.EachHeld(func(_ string, b []byte) bool {
		r, err := journal.Decode(b)
		found = err == nil && r.Op == journal.Put && r.Key == o.Key && r.ETag == o.ETag
		return !found
	})
	return found, err
}
