package cache

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

func isNotExist(err error) bool { return errors.Is(err, iofs.ErrNotExist) }

// applyGone is applyDelete, or applyRmdir where a directory has the name.
func (c *Cache) applyGone(r journal.Record) error {
	rec, _, _, err := c.at(r.Path)
	if err != nil {
		return err
	}
	if rec != nil && isDir(rec) {
		r.Op = journal.Rmdir
		return c.applyRmdir(r)
	}
	return c.applyDelete(r)
}

// applyDelete takes a file's name away that another zone has deleted, unless what has it here
// is later. A directory of that name is not what was deleted.
func (c *Cache) applyDelete(r journal.Record) error { return c.takeName(r, 0) }

// takeName is applyDelete; the object of a version that the other zone did not know of stays
// for grace.
func (c *Cache) takeName(r journal.Record, grace time.Duration) error {
	rec, dir, name, err := c.at(r.Path)
	if err != nil {
		return err
	}
	if err := c.readKept(rec, r); err != nil {
		return err
	}
	if rec == nil || isDir(rec) {
		return c.deletedElsewhere(r)
	}
	made, err := c.changedAt(rec)
	if err != nil {
		return err
	}
	if made != momentOf(&r) && made.after(momentOf(&r)) {
		return c.deletedElsewhere(r) // written since, or renamed to here
	}
	if isRegular(rec) && holdsOnlyCopy(rec.State) {
		c.kick(rec.Ino) // the worker keeps our bytes as a conflict first
		return errHeld
	}
	// Its object may be under another key until a rename has been brought to the depot, and
	// is kept already where it is no file's.
	var key string
	if o, ok := currentObject(rec); ok && c.checkKey(o.Key, false) == nil {
		key = o.Key
	}
	untold := false
	err = c.withDir(dir, func(d lockedDir) error {
		now, err := c.find(dir, name)
		if isNotExist(err) || err == nil && now.Ino != rec.Ino {
			return errMoved
		}
		if err != nil {
			return err
		}
		return c.supersede(d, now, name, superseding{trash: r.Trash, finish: func(tx *catalog.Tx) (err error) {
			untold, err = c.removeUntold(tx, now, key, r.ETag, grace)
			return errors.Join(err, bury(tx, graveOf(r)))
		}})
	})
	if err != nil {
		return err
	}
	if untold {
		c.removals.Add(key, c.now().Add(grace))
	}
	c.log.Info("another zone deleted a file", "path", r.Path, "zone", r.Zone)
	return c.fade(parentPath(r.Path))
}

func graveOf(r journal.Record) *catalog.Tombstone {
	if r.Op == journal.Rmdir {
		return &catalog.Tombstone{Path: r.Path, RmdirAt: r.Time, RmdirBy: r.Zone}
	}
	return &catalog.Tombstone{Path: r.Path, Time: r.Time, Zone: r.Zone, Key: r.Key}
}

// changedAt is madeAt, or when what the depot lacks of it was changed.
func (c *Cache) changedAt(rec *catalog.Inode) (moment, error) {
	m, err := c.madeAt(rec)
	switch {
	case err != nil:
	case isRegular(rec) && holdsOnlyCopy(rec.State):
		ours, err := c.ourMoment(rec)
		return moment{max(m.at+1, ours.at), c.zoneName()}, err
	case !isRegular(rec) && rec.MadeAt == 0 && rec.Flags&catalog.FlagAttrDirty != 0:
		m = moment{c.whenDone(rec, max(rec.DirtySince, rec.FinishedAt)), c.zoneName()}
	}
	return m, err
}

// readKept has a file that was renamed here be read from the trash from now on, where the other
// zone has deleted its object, or the version that replaced it, under its former name; rec is
// what has that name now, nil for nothing.
func (c *Cache) readKept(rec *catalog.Inode, r journal.Record) error {
	if r.Trash == "" || r.Key == "" || r.ETag == "" {
		return nil
	}
	return c.cat.Update(func(tx *catalog.Tx) error {
		if err := c.noteKept(tx, r); err != nil {
			return err
		}
		owner, i, err := ownerOf(tx, r)
		if err != nil || owner == nil || rec != nil && owner.Ino == rec.Ino {
			return err
		}
		owner.Objects[i] = catalog.Object{Key: r.Trash, Gen: owner.Objects[i].Gen}
		return errors.Join(tx.DeleteKeyOwner(r.Key), tx.PutInode(owner))
	})
}

// ownerOf is whose object it is that a record is about, and which of its objects; nil for
// nobody's.
func ownerOf(tx *catalog.Tx, r journal.Record) (*catalog.Inode, int, error) {
	rec, err := keyHolder(tx, r.Key)
	if err != nil || rec == nil {
		return nil, 0, err
	}
	i := slices.IndexFunc(rec.Objects, func(o catalog.Object) bool { return o.Key == r.Key && o.ETag == r.ETag })
	if i < 0 {
		rec = nil
	}
	return rec, i, nil
}

// deletedElsewhere notes the deletion of what this zone does not have under that name. If
// its object is that of another name here, by a rename that the other zone did not know
// of, and nothing was kept of it, that one is deleted.
func (c *Cache) deletedElsewhere(r journal.Record) error {
	var lost *catalog.Inode
	err := c.cat.Update(func(tx *catalog.Tx) (err error) {
		lost = nil
		if err = bury(tx, graveOf(r)); err == nil && r.Key != "" && r.ETag != "" {
			lost, _, err = ownerOf(tx, r)
		}
		return err
	})
	if err != nil || lost == nil || len(lost.Links) != 1 || isRegular(lost) && holdsOnlyCopy(lost.State) {
		return err
	}
	at := lost.Links[0]
	if path, err := c.pathOf(lost); err != nil || path == r.Path {
		return err // a later version with the same bytes
	}
	if err := c.dropFile(at.Parent, at.Name, lost.Ino); err != nil {
		return err
	}
	c.log.Info("another zone deleted a file that was renamed here", "path", r.Path, "zone", r.Zone)
	return nil
}

// applyRmdir takes an empty directory away. One with names stays: later records decide,
// and when its last name goes, so does it (fade).
func (c *Cache) applyRmdir(r journal.Record) error {
	rec, dir, name, err := c.at(r.Path)
	if err != nil {
		return err
	}
	if err := c.cat.Update(func(tx *catalog.Tx) error { return bury(tx, graveOf(r)) }); err != nil || rec == nil || !isDir(rec) {
		return err
	}
	made, err := c.changedAt(rec)
	if err != nil || made != momentOf(&r) && made.after(momentOf(&r)) {
		return err
	}
	gone, err := c.dropDir(dir, name, rec.Ino)
	if err != nil || !gone {
		return err
	}
	c.log.Info("another zone deleted a directory", "path", r.Path, "zone", r.Zone)
	return c.fade(parentPath(r.Path))
}

// fade removes directories that lost their last name to another zone, from the innermost
// on, if they were deleted there.
func (c *Cache) fade(path string) error {
	for ; path != ""; path = parentPath(path) {
		rec, dir, name, err := c.at(path)
		if err != nil || rec == nil || !isDir(rec) {
			return err
		}
		g, err := c.buried(path)
		if err != nil || g == nil || g.RmdirAt == 0 {
			return err
		}
		made, err := c.changedAt(rec)
		if err != nil || made.after(rmdirOf(g)) {
			return err
		}
		if gone, err := c.dropDir(dir, name, rec.Ino); err != nil || !gone {
			return err
		}
	}
	return nil
}

// dropDir removes an empty directory for the sake of another zone; gone is false where
// something is in it.
func (c *Cache) dropDir(parent Ino, name string, ino Ino) (gone bool, err error) {
	c.tree.RLock()
	defer c.tree.RUnlock()
	defer c.dirs.lock(parent, ino)()
	rec, err := c.find(parent, name)
	if isNotExist(err) || err == nil && rec.Ino != ino {
		return false, errMoved
	}
	if err != nil {
		return false, err
	}
	d, err := c.lookDir(parent)
	if err != nil {
		return false, err
	}
	path := join(d.path, name)
	if err := c.emptyDir(rec, path); err != nil {
		if isNotEmpty(err) {
			err = nil
		}
		return false, err
	}
	if err := c.rmdirOf(d, rec, name, byOthers); err != nil {
		if isNotEmpty(err) {
			err = nil // others put something there: now it is known
		}
		return false, err
	}
	c.entryChanged(parent, name)
	return true, nil
}

// clearParents takes away the file that is where a record has a directory.
func (c *Cache) clearParents(r journal.Record) error {
	for path := parentPath(r.Path); path != ""; path = parentPath(path) {
		rec, _, _, err := c.at(path)
		if err != nil {
			return err
		}
		if rec != nil {
			if isDir(rec) {
				return nil // by now
			}
			return c.clearName(path, r)
		}
	}
	return nil
}

// clearName takes a file from a name that another zone has a directory under. What this
// zone made of it is kept as a conflict before it goes, by the worker.
func (c *Cache) clearName(path string, r journal.Record) error {
	rec, dir, name, err := c.at(path)
	if err != nil || rec == nil {
		return err
	}
	if _, ok := currentObject(rec); !ok && isRegular(rec) && rec.State == Clean && rec.Origin == c.zoneName() {
		// A record has taken its object, and its bytes are here alone by now.
		var later laterError
		if err := c.uploadAnew(rec, path); !errors.As(err, &later) {
			return err
		}
		if rec, err = c.record(rec.Ino); err != nil {
			return err
		}
	}
	ours := rec.Origin == c.zoneName() && len(rec.Objects) > 0
	if isRegular(rec) && (ours || holdsOnlyCopy(rec.State)) {
		if err := c.cat.Update(func(tx *catalog.Tx) error { return c.putQueue(tx, rec, 0, false) }); err != nil {
			return err
		}
		dir := journal.Record{Op: journal.Mkdir, Path: path, Time: r.Time, Zone: r.Zone}
		if r.Op == journal.Mkdir && r.Path == path {
			dir = r
		}
		if err := c.hold(dir); err != nil {
			return err
		}
		c.kick(rec.Ino)
		return fmt.Errorf("a file is where zone %s has a directory: %w", r.Zone, errHeld)
	}
	if o, ok := currentObject(rec); ok && isRegular(rec) {
		// If the directory goes before its maker has heard of it, the file is back.
		shadow := recordOf(rec, path, o)
		if err := c.cat.View(func(tx *catalog.Tx) error {
			made, err := madeIn(tx, rec)
			if err != nil {
				return err
			}
			shadow.Time = made.at
			return tellAttrTime(tx, rec, &shadow)
		}); err != nil {
			return err
		}
		if shadow.Time > 0 && shadow.Zone != "" {
			if err := c.hold(shadow); err != nil {
				return err
			}
		}
	}
	return c.dropFile(dir, name, rec.Ino)
}

// dropFile takes a file from its name, whose bytes are nowhere needed under it.
func (c *Cache) dropFile(dir Ino, name string, ino Ino) error {
	return c.withDir(dir, func(d lockedDir) error {
		rec, err := c.find(dir, name)
		if isNotExist(err) || err == nil && rec.Ino != ino {
			return errMoved
		}
		if err != nil {
			return err
		}
		return c.supersede(d, rec, name, superseding{})
	})
}
