package cache

import (
	"context"
	"errors"
	"fmt"
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
	return g != nil && g.To != "" && g.Zone == c.zoneName(), err
}

// followKey has this zone do its part for the object that a record told of: moved says that
// the record's path is below a directory that was renamed here. If its key is one of a name
// that this zone has renamed, and nobody's by now, it goes: another version, or another object
// of the same one, has the name.
func (c *Cache) followKey(r journal.Record, moved bool) error {
	if moved {
		if err := c.finishOwnMove(r.Path); err != nil {
			return err
		}
	}
	if r.Op != journal.Put && r.Op != journal.Symlink || r.Key == "" || r.ETag == "" {
		return nil
	}
	if taken, err := c.versionOfRenamed(r); taken || err != nil {
		return err
	}
	dropped := false
	err := c.cat.Update(func(tx *catalog.Tx) error {
		dropped = false
		owner, err := tx.KeyOwner(r.Key)
		if err == nil {
			return c.awaitMove(tx, owner, r)
		}
		if !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		if _, err := tx.HeldKey(r.Key); !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		ours, err := c.renamedAway(tx, c.keyPath(r.Key))
		if dropped = ours || moved; !dropped || err != nil {
			return err
		}
		return c.removeKept(tx, catalog.Removal{Key: r.Key, ETag: r.ETag, Size: r.Size})
	})
	if dropped && err == nil {
		c.removals.Add(r.Key, c.now())
	}
	return err
}

// awaitMove is errHeld where the owner of a record's key is a file with another name, which is
// still to be moved from there, and the record's object is another version: its bytes may be
// all that there is of the file by then (versionLost).
func (c *Cache) awaitMove(tx *catalog.Tx, owner Ino, r journal.Record) error {
	rec, err := tx.Inode(owner)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	o, ok := currentObject(rec)
	if !ok || o.Key != r.Key || o.ETag == r.ETag || len(rec.Links) == 0 {
		return nil
	}
	wanted, _, err := c.wantedIn(tx, rec)
	if err != nil || slices.Contains(wanted, r.Key) {
		return err
	}
	return fmt.Errorf("the file that was renamed is still under key %q: %w", r.Key, errHeld)
}

// removeKept removes an object of which nobody said that it was to be deleted: its bytes are
// kept, among the conflicts where nothing is kept of deletes.
func (c *Cache) removeKept(tx *catalog.Tx, rm catalog.Removal) error {
	rm.Since, rm.Path = c.nanos(), c.keyPath(rm.Key)
	rm.NotBefore, rm.Untold = max(rm.NotBefore, rm.Since), true
	if rm.Trash = c.trashKey(c.storeNanos(), rm.Path); rm.Trash == "" {
		rm.Trash, _ = c.conflictKey(rm.Path)
	}
	return putRemoval(tx, &rm)
}

// removeUntold is removeKept for the object of a version that gives its name to what another
// zone did, which did not know of it: what it replaced or deleted has the tag passed. Only an
// object that this zone has put goes, if only as a copy of another zone's with attributes of
// its own; whatever others have put there since stays. It goes after grace.
func (c *Cache) removeUntold(tx *catalog.Tx, rec *catalog.Inode, key, passed string, grace time.Duration) (bool, error) {
	o, ok := currentObject(rec)
	if !ok || o.Key != key || passed == "" || o.ETag == passed {
		return false, nil
	}
	return true, c.removeOurs(tx, rec, o, grace)
}

// removeOurs is removeKept for an object that this zone has put, after grace.
func (c *Cache) removeOurs(tx *catalog.Tx, rec *catalog.Inode, o catalog.Object, grace time.Duration) error {
	return c.removeKept(tx, catalog.Removal{Key: o.Key, Version: c.versionMark(o.Gen), Size: rec.Size, NotBefore: c.nanos() + int64(grace)})
}

// tellKept tells the other zones where a version is kept of which who deleted or renamed its
// name did not know: one of them may know its object as that of a file that has another name
// by now. Of the name itself this says no more than that delete or rename did.
func (c *Cache) tellKept(rm *catalog.Removal, kept, etag string) error {
	path := c.keyPath(rm.Key)
	if !rm.Untold || !c.isTrash(kept) || etag == "" || !c.shared(path) {
		return nil
	}
	return c.cat.Update(func(tx *catalog.Tx) error {
		g, err := tombstone(tx, path)
		if err != nil || g == nil || g.Time == 0 {
			return err
		}
		return c.announce(tx, journal.Record{Op: journal.Delete, Path: path, Time: g.Time, Zone: g.Zone, Key: rm.Key, ETag: etag, Trash: kept})
	})
}

// keepReplaced has the bytes kept of a version of this zone whose name another zone gave to a file
// that it has renamed: it may not have known of this one, and where it gives the file one more
// name, nothing of it is ever put under this key.
func (c *Cache) keepReplaced(tx *catalog.Tx, rec *catalog.Inode, by string) error {
	o, ok := currentObject(rec)
	if !ok || !isRegular(rec) || o.Key == by || rec.Origin != c.zoneName() || c.isKept(o.Key) {
		return nil
	}
	away, err := c.renamedAway(tx, c.keyPath(o.Key))
	switch {
	case err != nil:
	case away: // whoever has put it: nobody else sees to it any more
		err = c.removeKept(tx, catalog.Removal{Key: o.Key, ETag: o.ETag, Size: rec.Base.Size, NotBefore: c.nanos() + int64(passedGrace)})
	default:
		err = c.removeOurs(tx, rec, o, passedGrace)
	}
	if err != nil {
		return err
	}
	c.removals.Add(o.Key, c.now().Add(passedGrace))
	return nil
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
		g, err := tombstone(tx, path)
		if moved = g != nil && g.To != "" && g.Time > made.at; moved || err != nil {
			return err
		}
		m, _, err := renameOf(tx, path, false, made.at)
		moved = m.to != ""
		return err
	}); err != nil || !moved {
		return err
	}
	c.listenSoon()
	return laterError{c.now().Add(time.Second), "waits until another zone tells of the object under its key, which was renamed"}
}
