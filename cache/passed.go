package cache

import (
	"context"
	"errors"
	"slices"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
	"depotfs/cache/layout"
)

// Keys follow names in the zone that renamed. So that zone sees to what the others, not
// knowing of its rename, have put under a key that no name leads to any more: where it is
// not what the file is moved from, it goes, and the trash keeps its bytes.

// renamedAway says whether this zone has given up a path by a rename: objects under its key
// are this zone's to move or to remove.
func (c *Cache) renamedAway(tx *catalog.Tx, path string) (bool, error) {
	g, err := tombstone(tx, path)
	m := renameIn(g, false)
	return m.to != "" && m.zone == c.zoneName(), err
}

// followKey has this zone do its part for the object that a record told of, if its key is
// one of a name that this zone has renamed: moved says that the record's path was.
func (c *Cache) followKey(r journal.Record, moved bool) error {
	if r.Op != journal.Put && r.Op != journal.Symlink || r.Key == "" {
		if moved {
			return c.finishOwnMove(r.Path)
		}
		return nil
	}
	if path := c.keyPath(r.Key); !moved && path != r.Path {
		if err := c.cat.View(func(tx *catalog.Tx) (err error) {
			moved, err = c.renamedAway(tx, path)
			return err
		}); err != nil {
			return err
		}
	}
	if !moved {
		return nil
	}
	if err := c.finishOwnMove(r.Path); err != nil {
		return err
	}
	return c.passObject(r)
}

// passObject removes the object of a record whose key is nobody's here: another version,
// or another object of the same one, has the name.
func (c *Cache) passObject(r journal.Record) error {
	if r.ETag == "" {
		return nil
	}
	dropped := false
	err := c.cat.Update(func(tx *catalog.Tx) error {
		dropped = false
		for _, busy := range []func() error{
			func() error { _, err := tx.KeyOwner(r.Key); return err }, // it is moved from there, or another file's by now
			func() error { _, err := tx.HeldKey(r.Key); return err },
		} {
			if err := busy(); !errors.Is(err, catalog.ErrNotFound) {
				return err
			}
		}
		dropped = true
		return c.removeKept(tx, catalog.Removal{Key: r.Key, ETag: r.ETag, Size: r.Size})
	})
	if dropped && err == nil {
		c.removals.Add(r.Key, c.now())
	}
	return err
}

// removeKept removes an object of which nobody said that it was to be deleted: its bytes are
// kept, among the conflicts where nothing is kept of deletes.
func (c *Cache) removeKept(tx *catalog.Tx, rm catalog.Removal) error {
	rm.Since, rm.Path = c.nanos(), c.keyPath(rm.Key)
	rm.NotBefore = rm.Since
	if rm.Trash = c.trashKey(c.storeNanos(), rm.Path); rm.Trash == "" {
		rm.Trash, _ = c.conflictKey(rm.Path)
	}
	return putRemoval(tx, &rm)
}

// removeUntold is removeKept for the object of a version that gives its name to what another
// zone did, which did not know of it: what it replaced or deleted has the tag passed. Only an
// object that this zone has put goes, if only as a copy of another zone's with attributes of
// its own; whatever others have put there since stays.
func (c *Cache) removeUntold(tx *catalog.Tx, rec *catalog.Inode, key, passed string) (bool, error) {
	o, ok := currentObject(rec)
	if !ok || o.Key != key || passed == "" || o.ETag == passed {
		return false, nil
	}
	return true, c.removeKept(tx, catalog.Removal{Key: o.Key, Version: c.versionMark(o.Gen), Size: rec.Size})
}

// keepPassed has the bytes kept of a version that was renamed here, and whose place another
// zone's takes that was put under the old name: that zone has met no object there, and has
// kept nothing.
func (c *Cache) keepPassed(tx *catalog.Tx, rec *catalog.Inode, path, put string) error {
	key, _ := layout.Key(c.cfg.Prefix, path, false)
	o, ok := currentObject(rec)
	if !ok || o.Key != key || put == key || !isRegular(rec) {
		return nil
	}
	ours, err := c.renamedAway(tx, c.keyPath(put))
	if err != nil || !ours {
		return err
	}
	return c.removeKept(tx, catalog.Removal{Key: key, ETag: o.ETag, Size: rec.Base.Size})
}

// clearUntold removes the object of a removeUntold whose key another version has by now,
// where it is still there in the place of that one's.
func (c *Cache) clearUntold(ctx context.Context, d *depot, rm *catalog.Removal) error {
	info, err := d.store.Head(ctx, rm.Key)
	d.report(err)
	if err != nil || info.Metadata[metaVersion] != rm.Version {
		return ignoreNotFound(err)
	}
	owned := false
	if err := c.cat.View(func(tx *catalog.Tx) error {
		owner, err := tx.KeyOwner(rm.Key)
		if err != nil {
			return err
		}
		rec, err := tx.Inode(owner)
		if err != nil {
			return err
		}
		owned = slices.ContainsFunc(rec.Objects, func(o catalog.Object) bool { return o.Key == rm.Key && o.ETag == info.ETag })
		return nil
	}); err != nil && !errors.Is(err, catalog.ErrNotFound) || owned {
		return err
	}
	return c.deleteObject(ctx, d, rm)
}

// leaveToMove is a laterError where the object under the key of a path is a version of the
// file that had the path before a rename: another zone, which did not know of that, has put
// it, and will tell. Then it follows the rename, and the key is free.
func (c *Cache) leaveToMove(path string, info ObjectInfo) error {
	made, ok := madeOf(info)
	if !ok || made.zone == c.zoneName() || c.storeNanos()-nanosOf(info.Modified) > int64(missedBatch) {
		return nil
	}
	moved := false
	if err := c.cat.View(func(tx *catalog.Tx) error {
		m, _, err := renameOf(tx, path, false, made.at)
		moved = m.to != ""
		return err
	}); err != nil || !moved {
		return err
	}
	c.listenSoon()
	return laterError{c.now().Add(time.Second), "waits until another zone tells of the object under its key, which was renamed"}
}
