package cache

import (
	"errors"
	"fmt"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// applyMkdir makes a directory known. It is made in the share when something is in it.
func (c *Cache) applyMkdir(r journal.Record) error {
	if err := c.keepAttrs(r); err != nil {
		return err
	}
	rec, _, _, err := c.at(r.Path)
	if err != nil {
		return err
	}
	g, err := c.buried(r.Path)
	if err != nil {
		return err
	}
	if g != nil && g.RmdirAt != 0 && !momentOf(&r).after(rmdirOf(g)) {
		if rec != nil && isDir(rec) { // it was made again, or never went
			return c.dressDir(rec, r)
		}
		return nil
	}
	if rec != nil && !isDir(rec) {
		if err := c.clearName(r.Path, r); err != nil {
			return err
		}
		rec = nil
	}
	if isImplied(&r) {
		return nil
	}
	parent, name, err := c.applyParents(r)
	if err != nil || parent == 0 {
		return err
	}
	if err := c.importName(parent, name, true, ObjectInfo{}); err != nil {
		return err
	}
	if rec, err = c.find(parent, name); err != nil {
		return err
	}
	if !isDir(rec) {
		return errMoved // others made a file in the share
	}
	return c.takeDir(rec, r)
}

// takeDir gives a directory the marker and, if they are later, the attributes of a record.
func (c *Cache) takeDir(rec *catalog.Inode, r journal.Record) error {
	made, err := c.changedAt(rec)
	if err != nil {
		return err
	}
	if momentOf(&r).after(made) {
		if err := c.takeMarker(rec, r); err != nil {
			return err
		}
	}
	return c.dressDir(rec, r)
}

// dressDir gives a directory the attributes of a record, if they are later than those that
// rec, as it was before the record, had.
func (c *Cache) dressDir(rec *catalog.Inode, r journal.Record) error {
	set, err := c.dressedAt(rec)
	if err != nil || !attrsAt(&r).after(set) {
		return err
	}
	return c.takeAttrs(rec.Ino, r)
}

// takeMarker gives a directory the marker and the time of a record.
func (c *Cache) takeMarker(rec *catalog.Inode, r journal.Record) error {
	_, err := c.change(rec.Ino, func(tx *catalog.Tx, now *catalog.Inode) error {
		set, err := dressedIn(tx, now)
		if err != nil {
			return err
		}
		if now.AttrAt, now.AttrBy = set.at, set.zone; set.at == 0 {
			now.Flags |= catalog.FlagNoAttr
		}
		now.MadeAt, now.Origin = r.Time, r.Zone
		return c.claimSmall(tx, now, r)
	})
	return err
}

// applySymlink makes a symbolic link, as applyPut makes a file.
func (c *Cache) applySymlink(r journal.Record) error {
	if stale, err := c.putTooLate(r); stale || err != nil {
		return err
	}
	parent, name, err := c.applyParents(r)
	if err != nil || parent == 0 {
		return err
	}
	return c.withDir(parent, func(d lockedDir) error {
		rec, err := c.foundAt(d, name)
		if err == nil {
			err = c.stillLater(r)
		}
		if err != nil {
			return err
		}
		if rec == nil {
			return c.linkNew(d, nil, name, r)
		}
		if isDir(rec) {
			return errHeld
		}
		made, err := c.changedAt(rec)
		switch {
		case err != nil, !momentOf(&r).after(made):
			return err
		case isSymlink(rec) && rec.Target == r.Target:
			return c.takeLink(rec, r)
		case isRegular(rec) && holdsOnlyCopy(rec.State):
			c.kick(rec.Ino)
			return errHeld
		}
		return c.linkNew(d, rec, name, r)
	})
}

// takeLink gives a symlink the object of a record with its target.
func (c *Cache) takeLink(rec *catalog.Inode, r journal.Record) error {
	_, err := c.change(rec.Ino, func(tx *catalog.Tx, now *catalog.Inode) error {
		now.MadeAt, now.Origin = r.Time, r.Zone
		now.UID, now.GID, now.Mtime = r.UID, r.GID, r.Mtime
		return c.claimSmall(tx, now, r)
	})
	return err
}

// claimSmall gives a symlink or directory the object of a record, and no other.
func (c *Cache) claimSmall(tx *catalog.Tx, now *catalog.Inode, r journal.Record) error {
	if r.Key == "" || r.ETag == "" {
		return nil
	}
	return c.claimAlone(tx, now, r, now.Gen)
}

// linkNew makes a symlink, in the place of old where that is not nil. A crash between
// share and catalog leaves one that is adopted, and then is the record's.
func (c *Cache) linkNew(d lockedDir, old *catalog.Inode, name string, r journal.Record) error {
	ino, err := c.cat.NextIno()
	if err != nil {
		return err
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return err
	}
	rec := &catalog.Inode{Ino: ino, Gen: gen, Mode: syscall.S_IFLNK | 0o777, Nlink: 1, Target: r.Target, Links: []catalog.Link{{Parent: d.rec.Ino, Name: name}}}
	if old != nil {
		if err := c.supersede(d, old, name, superseding{}); err != nil {
			return err
		}
	}
	if err := c.makeHere(d); err != nil {
		return err
	}
	path := join(d.path, name)
	if err := c.share.Symlink(r.Target, path); err != nil {
		return fmt.Errorf("make symlink %q: %w", path, err)
	}
	if err := c.mayKeepOwnerOf(path, r); err != nil {
		return err
	}
	st, err := c.share.Stat(path)
	if err != nil {
		return err
	}
	setAttrs(rec, st)
	rec.Stamp, rec.MadeAt, rec.Origin = st.Stamp(), r.Time, r.Zone
	touch := c.touching(d)
	if err := c.cat.Update(func(tx *catalog.Tx) error {
		n := rec.Clone()
		if err := c.claimSmall(tx, n, r); err != nil {
			return err
		}
		if err := tx.PutDirent(catalog.Dirent{Parent: d.rec.Ino, Name: name, Ino: ino, Type: syscall.S_IFLNK}); err != nil {
			return err
		}
		return errors.Join(touch(tx, 0), tx.PutInode(n))
	}); err != nil {
		return err
	}
	c.entryChanged(d.rec.Ino, name)
	return nil
}

// mayKeepOwnerOf gives what was made in the share the owner that a record says, as far as
// we may.
func (c *Cache) mayKeepOwnerOf(path string, r journal.Record) error {
	st, err := c.share.Stat(path)
	if err != nil || st.UID == r.UID && st.GID == r.GID {
		return err
	}
	err = c.share.Chown(path, int(r.UID), int(r.GID))
	if errors.Is(err, syscall.EPERM) {
		return nil
	}
	return err
}
