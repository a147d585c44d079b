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
// under the new name, too.
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
	var next *journal.Record
	if err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachHeld(func(_ string, b []byte) bool {
			r, err := journal.Decode(b)
			if err == nil && r.Op == journal.Put && r.Key == o.Key && r.ETag != o.ETag && r.ETag != "" {
				next = &r
			}
			return next == nil
		})
	}); err != nil || next == nil {
		return errors.Join(err, gone)
	}
	if n := c.peek(rec.Ino); n != nil {
		c.drop(n)
		return gone // who has it open read the version before
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return err
	}
	if _, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if r.State != rec.State || r.Base != rec.Base {
			return errMoving
		}
		if err := step(r, evImport); err != nil {
			return err
		}
		r.Base = catalog.Version{Gen: gen, Size: next.Size, CRC64: next.CRC64, HasCRC: next.HasCRC}
		r.Zeros = ""
		learnZeros(r, map[string]string{metaZeros: next.Zeros})
		toRemote(r)
		setRecordAttrs(r, *next)
		for _, o := range r.Objects {
			if err := disownKey(tx, o.Key, r.Ino); err != nil {
				return err
			}
		}
		r.Objects = []catalog.Object{{Key: next.Key, ETag: next.ETag, VersionID: next.VersionID, Gen: gen}} // which is the other name's
		return tx.DeleteExtents(r.Ino)
	}); err != nil {
		return err
	}
	c.removePartial(rec)
	c.inodeChanged(rec.Ino)
	return laterError{c.now(), "another zone has written what was renamed here"}
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
	if c.isTrash(o.Key) {
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
