package cache

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
	"depotfs/cache/layout"
)

// applyPut takes in a version of a file: as a new name, as the next key of what is here
// already, or in the place of an older version, whose readers go on reading it.
func (c *Cache) applyPut(r journal.Record) error {
	if stale, err := c.putTooLate(r); err != nil {
		return err
	} else if stale {
		return c.attrsAfterDelete(r)
	}
	parent, name, err := c.applyParents(r)
	if err != nil || parent == 0 {
		return err
	}
	var done *catalog.Inode
	err = c.withDir(parent, func(d lockedDir) error {
		rec, err := c.foundAt(d, name)
		if err == nil {
			err = c.stillLater(r)
		}
		if err != nil {
			return err
		}
		done, err = c.putAt(d, rec, name, r)
		return err
	})
	if err == nil && done != nil {
		c.wantEagerly(done, r.Path)
	}
	return err
}

// putTooLate says whether a path was deleted after a version of it was made. If this zone
// deleted it, it sees to the object too: who made it did not know.
func (c *Cache) putTooLate(r journal.Record) (bool, error) {
	g, err := c.buried(r.Path)
	if err != nil || g == nil || momentOf(&r).after(timeOf(g)) {
		return false, err
	}
	if g.To != "" || g.Zone != c.zoneName() || r.Key == "" || r.ETag == "" { // of what it has renamed: followKey
		return true, nil
	}
	err = c.cat.Update(func(tx *catalog.Tx) error {
		if _, err := tx.KeyOwner(r.Key); !errors.Is(err, catalog.ErrNotFound) {
			return err // somebody else has the key, or cannot be asked
		}
		return c.removeKept(tx, catalog.Removal{Key: r.Key, ETag: r.ETag, Size: r.Size})
	})
	c.removals.Add(r.Key, c.now())
	return true, err
}

// stillLater is errMoved where a user has deleted the path of a version meanwhile; its directory
// is locked.
func (c *Cache) stillLater(r journal.Record) error {
	g, err := c.buried(r.Path)
	if err == nil && g != nil && !momentOf(&r).after(timeOf(g)) {
		err = errMoved
	}
	return err
}

// attrsAfterDelete takes the attributes of a version that was deleted, where they were set
// later than that, as if they had been told of alone.
func (c *Cache) attrsAfterDelete(r journal.Record) error {
	set := attrsAt(&r)
	if set == momentOf(&r) {
		return nil
	}
	return c.applyAttr(journal.Record{Op: journal.Attr, Path: r.Path, Time: set.at, Zone: set.zone, Mode: r.Mode, UID: r.UID, GID: r.GID, Mtime: r.Mtime})
}

// foundAt is what has a name of a locked directory, nil for nothing. What others made in
// the share is taken in first: it has bytes that only we have.
func (c *Cache) foundAt(d lockedDir, name string) (*catalog.Inode, error) {
	rec, err := c.find(d.rec.Ino, name)
	if !isNotExist(err) {
		return rec, err
	}
	if d.rec.Flags&catalog.FlagHere == 0 && d.rec.Ino != catalog.Root {
		return nil, nil
	}
	st, err := c.share.Stat(join(d.path, name))
	if isNotExist(notThere(err)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rec, err = c.adopt(d, name, st)
	if isNotExist(err) { // a name that is not shown
		return nil, fmt.Errorf("%q is in the share: %w", name, errRefused)
	}
	return rec, err
}

// putAt gives a name the version of r; rec has the name now. It returns the record with
// the version where that is news.
func (c *Cache) putAt(d lockedDir, rec *catalog.Inode, name string, r journal.Record) (*catalog.Inode, error) {
	switch {
	case rec == nil:
		return c.putNew(d, name, r)
	case isDir(rec):
		return nil, errHeld // a directory keeps its name; who made the file keeps it as a conflict, and says so
	}
	made, err := c.madeAt(rec)
	if err != nil {
		return nil, err
	}
	switch {
	case c.isVersion(rec, r):
		if made.after(momentOf(&r)) && made != momentOf(&r) && ownsKey(rec, r.Key) {
			return nil, c.attrsElsewhere(d, rec, name, r)
		}
		return nil, c.sameElsewhere(d, rec, name, r, made)
	case !momentOf(&r).after(made):
		return nil, c.attrsElsewhere(d, rec, name, r)
	case isRegular(rec) && holdsOnlyCopy(rec.State):
		c.kick(rec.Ino) // its upload meets theirs, and decides
		return nil, errHeld
	}
	return c.putOver(d, rec, name, r)
}

// isVersion says whether the version of r is the one that rec is, or derives from.
func (c *Cache) isVersion(rec *catalog.Inode, r journal.Record) bool {
	if !isRegular(rec) || rec.Base.Gen == 0 || rec.Base.Size != r.Size {
		return false
	}
	if rec.Base.HasCRC && r.HasCRC {
		return rec.Base.CRC64 == r.CRC64
	}
	for _, o := range rec.Objects {
		if o.Key == r.Key && o.ETag == r.ETag && r.ETag != "" && o.Gen == rec.Base.Gen {
			return true
		}
	}
	return false
}

// sameElsewhere is told that the version that rec has is under another key, has other
// attributes, or counts as made at another time. No byte is touched.
func (c *Cache) sameElsewhere(d lockedDir, rec *catalog.Inode, name string, r journal.Record, made moment) error {
	if len(rec.Links) == 1 {
		if _, err := c.change(rec.Ino, func(tx *catalog.Tx, now *catalog.Inode) error {
			if now.Base != rec.Base {
				return errMoved
			}
			if momentOf(&r).after(made) {
				now.MadeAt, now.Origin = r.Time, r.Zone
			}
			if passed, err := c.passedKey(tx, now, r.Key); err != nil || passed {
				return err
			}
			if r.HasCRC && !now.Base.HasCRC {
				now.Base.CRC64, now.Base.HasCRC = r.CRC64, true
			}
			learnZeros(now, map[string]string{metaZeros: r.Zeros})
			return c.claimAlone(tx, now, r, now.Base.Gen)
		}); err != nil {
			return err
		}
	}
	return c.attrsElsewhere(d, rec, name, r)
}

// attrsElsewhere takes the attributes of a record if they are later than those that rec,
// as it was before the record, had.
func (c *Cache) attrsElsewhere(d lockedDir, rec *catalog.Inode, name string, r journal.Record) error {
	set, err := c.dressedAt(rec)
	if err != nil || !attrsAt(&r).after(set) {
		return err
	}
	return c.takeAttrsIn(d, name, rec.Ino, r)
}

// passedKey says whether a version is under the key that its name wants, and the other key
// is one where it was before: who told of that did not know of the rename.
func (c *Cache) passedKey(tx *catalog.Tx, rec *catalog.Inode, key string) (bool, error) {
	wanted, _, err := c.wantedIn(tx, rec)
	if err != nil || slices.Contains(wanted, key) {
		return false, err
	}
	return slices.ContainsFunc(rec.Objects, func(o catalog.Object) bool {
		return o.Gen == rec.Base.Gen && slices.Contains(wanted, o.Key)
	}), nil
}

// remoteFile is the record of a version that is in the depot alone.
func (c *Cache) remoteFile(r journal.Record) (*catalog.Inode, error) {
	ino, err := c.cat.NextIno()
	if err != nil {
		return nil, err
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return nil, err
	}
	rec := &catalog.Inode{Ino: ino, Gen: gen, Mode: defaultFile, Nlink: 1, Size: r.Size, BaseLimit: r.Size,
		Base:  catalog.Version{Gen: gen, Size: r.Size, CRC64: r.CRC64, HasCRC: r.HasCRC},
		Atime: r.Mtime, MadeAt: r.Time, Origin: r.Zone}
	setRecordAttrs(rec, r)
	rec.Ctime = c.nanos()
	learnZeros(rec, map[string]string{metaZeros: r.Zeros})
	return rec, step(rec, evImport)
}

// setRecordAttrs gives rec the attributes that a record says. Set-id bits of files are not
// taken from a bucket.
func setRecordAttrs(rec *catalog.Inode, r journal.Record) {
	bits := uint32(0o7777)
	if isRegular(rec) {
		bits = 0o1777
	}
	if r.Mode != 0 {
		rec.Mode = rec.Mode&syscall.S_IFMT | r.Mode&bits
	}
	rec.UID, rec.GID = r.UID, r.GID
	rec.Mtime, rec.Atime = r.Mtime, max(rec.Atime, r.Mtime)
	setAttrTime(rec, r)
}

// setAttrTime notes when the attributes of a record were set.
func setAttrTime(rec *catalog.Inode, r journal.Record) {
	rec.AttrAt, rec.AttrBy = 0, ""
	if set := attrsAt(&r); isDir(rec) && r.Mode != 0 || journal.Later(set.at, set.zone, rec.MadeAt, rec.Origin) {
		rec.AttrAt, rec.AttrBy = set.at, set.zone
	}
}

// putNew makes a name known.
func (c *Cache) putNew(d lockedDir, name string, r journal.Record) (*catalog.Inode, error) {
	rec, err := c.remoteFile(r)
	if err != nil {
		return nil, err
	}
	rec.Links = []catalog.Link{{Parent: d.rec.Ino, Name: name}}
	touch := c.touching(d)
	if err := c.cat.Update(func(tx *catalog.Tx) error {
		n := rec.Clone()
		path := join(d.path, name)
		if err := errors.Join(takeKept(tx, n, path), c.mayClaim(tx, n.Ino, r)); err != nil {
			return err
		}
		if err := c.claim(tx, n, catalog.Object{Key: r.Key, ETag: r.ETag, VersionID: r.VersionID, Gen: n.Gen}); err != nil {
			return err
		}
		if err := tx.PutDirent(catalog.Dirent{Parent: d.rec.Ino, Name: name, Ino: n.Ino, Type: syscall.S_IFREG}); err != nil {
			return err
		}
		if err := touch(tx, 0); err != nil {
			return err
		}
		if n.AttrBy == c.zoneName() { // see putOver
			if err := c.announceAttrs(tx, n, path); err != nil {
				return err
			}
		}
		return tx.PutInode(n)
	}); err != nil {
		return nil, err
	}
	c.log.Info("another zone made a file", "path", r.Path, "zone", r.Zone, "size", r.Size)
	c.entryChanged(d.rec.Ino, name)
	return rec, nil
}

// putOver gives the name of an older version to a new inode: who has the old one open
// reads on from its own bytes.
func (c *Cache) putOver(d lockedDir, rec *catalog.Inode, name string, r journal.Record) (*catalog.Inode, error) {
	next, err := c.remoteFile(r)
	if err != nil {
		return nil, err
	}
	next.Flags |= rec.Flags & catalog.FlagPinned
	next.LastUsed = rec.LastUsed
	next.Links = []catalog.Link{{Parent: d.rec.Ino, Name: name}}
	set, err := c.dressedAt(rec)
	if err != nil {
		return nil, err
	}
	later := isRegular(rec) && rec.AttrAt != 0 && set != attrsAt(&r) && set.after(attrsAt(&r))
	if later {
		next.Mode, next.UID, next.GID, next.Mtime = rec.Mode, rec.UID, rec.GID, rec.Mtime
		next.AttrAt, next.AttrBy = set.at, set.zone
	}
	untold := false
	err = c.supersede(d, rec, name, superseding{next: next, finish: func(tx *catalog.Tx) (err error) {
		n := next.Clone()
		if err := c.mayClaim(tx, n.Ino, r); err != nil {
			return err
		}
		if err := c.claim(tx, n, catalog.Object{Key: r.Key, ETag: r.ETag, VersionID: r.VersionID, Gen: n.Gen}); err != nil {
			return err
		}
		if rec.Origin == c.zoneName() { // asking in every zone for each version would cost too much
			if untold, err = c.removeUntold(tx, rec, r.Key, r.ETag, 0); err == nil && !untold { // a claim ends removals
				err = c.keepReplaced(tx, rec, r.Key)
			}
			if err != nil {
				return err
			}
		}
		if err := c.keepPassed(tx, rec, join(d.path, name), r.Key); err != nil {
			return err
		}
		if later && n.AttrBy == c.zoneName() {
			// The other zone may have passed over them while it had a version of its own.
			if err := c.announceAttrs(tx, n, join(d.path, name)); err != nil {
				return err
			}
		}
		return tx.PutInode(n)
	}})
	if err != nil {
		return nil, err
	}
	if untold {
		c.removals.Add(r.Key, c.now())
	}
	c.log.Info("another zone changed a file", "path", r.Path, "zone", r.Zone, "size", r.Size)
	return next, nil
}

// applyParents makes the directories above the path of a record known. Of a file and a
// directory that want the same name the directory has it in every zone; 0 where the
// record is to be passed over.
func (c *Cache) applyParents(r journal.Record) (Ino, string, error) {
	for range maxApplies {
		parent, name, err := c.importParents(r.Path)
		if err != nil || parent != 0 {
			return parent, name, err
		}
		if err := c.clearParents(r); err != nil {
			return 0, "", err
		}
	}
	return 0, "", fmt.Errorf("a file is in the way of %q: %w", layout.Private, errMoved)
}
