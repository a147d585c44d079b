package cache

import (
	"errors"
	"fmt"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// keyHolder is whose key it is; nil for nobody's.
func keyHolder(tx *catalog.Tx, key string) (*catalog.Inode, error) {
	owner, err := tx.KeyOwner(key)
	if err == nil {
		var rec *catalog.Inode
		if rec, err = tx.Inode(owner); err == nil {
			return rec, nil
		}
	}
	if errors.Is(err, catalog.ErrNotFound) {
		err = nil
	}
	return nil, err
}

// disownKey makes a key nobody's where it is ino's.
func disownKey(tx *catalog.Tx, key string, ino Ino) error {
	owner, err := tx.KeyOwner(key)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && owner != ino {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.DeleteKeyOwner(key)
}

// claimAlone gives an inode the object of a record, of a generation, in the place of all that
// it has.
func (c *Cache) claimAlone(tx *catalog.Tx, now *catalog.Inode, r journal.Record, gen uint64) error {
	if err := c.mayClaim(tx, now.Ino, r); err != nil {
		return err
	}
	for _, o := range now.Objects {
		if o.Key != r.Key {
			if err := disownKey(tx, o.Key, now.Ino); err != nil {
				return err
			}
		}
	}
	now.Objects = nil
	return c.claim(tx, now, catalog.Object{Key: r.Key, ETag: r.ETag, VersionID: r.VersionID, Gen: gen})
}

// sendIfNobodyDoes has a clean file sent again whose last object has become another's: it was
// renamed, and the zone that did may not have its bytes. If it has, its record comes first.
func (c *Cache) sendIfNobodyDoes(tx *catalog.Tx, rec *catalog.Inode) error {
	if _, ok := currentObject(rec); ok || !isRegular(rec) || rec.State != Clean {
		return nil
	}
	c.work.Add(rec.Ino, c.now().Add(passedGrace))
	return c.putQueue(tx, rec, passedGrace, false)
}

// mayClaim makes a key free for an object that a record tells of. One from which another
// file of ours is read stays that file's until a record says where its bytes went, and so
// does one that has a later version than the record's: that has been replaced.
func (c *Cache) mayClaim(tx *catalog.Tx, ino Ino, r journal.Record) error {
	key := r.Key
	owner, err := tx.KeyOwner(key)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && owner == ino {
		return nil
	}
	if err != nil {
		return err
	}
	rec, err := tx.Inode(owner)
	if errors.Is(err, catalog.ErrNotFound) {
		return tx.DeleteKeyOwner(key)
	}
	if err != nil {
		return err
	}
	if o, ok := currentObject(rec); ok && isRegular(rec) && len(rec.Links) > 0 && o.Key == key {
		made, err := madeIn(tx, rec)
		if err != nil {
			return err
		}
		if !resident(rec.State) || o.ETag != r.ETag && made != momentOf(&r) && made.after(momentOf(&r)) {
			return fmt.Errorf("key %q is that of inode %d: %w", key, owner, errHeld)
		}
	}
	for i, o := range rec.Objects {
		if o.Key == key && len(rec.Links) > 0 {
			rec.Objects = append(rec.Objects[:i:i], rec.Objects[i+1:]...)
			if err := errors.Join(c.sendIfNobodyDoes(tx, rec), tx.PutInode(rec)); err != nil {
				return err
			}
			break
		}
	}
	return tx.DeleteKeyOwner(key)
}
