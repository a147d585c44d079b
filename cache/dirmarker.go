package cache

import "depotfs/cache/catalog"

// A directory's marker is an empty object, the same whoever puts it. A directory that came
// to be known by what is in it has none.

// announceEmptied tells of a directory that a user of this zone has emptied and that another
// zone has deleted before: here it is still there, and there it went with its last name. One
// without a marker gets it now; the caller kicks it.
func (c *Cache) announceEmptied(tx *catalog.Tx, d lockedDir) error {
	if !c.tells() || d.path == "" {
		return nil
	}
	g, err := tombstone(tx, d.path)
	if err != nil || len(d.rec.Objects) > 0 && (g == nil || g.RmdirAt == 0) {
		return err
	}
	r, err := inode(tx, d.rec.Ino)
	if err != nil || len(r.Links) == 0 {
		return err
	}
	if names, err := tx.HasChildren(r.Ino); names || err != nil {
		return err
	}
	deleted := g != nil && g.RmdirAt != 0 && r.MadeAt <= g.RmdirAt
	if deleted { // with the marker, by who deleted it
		for _, o := range r.Objects {
			if err := disownKey(tx, o.Key, r.Ino); err != nil {
				return err
			}
		}
		r.Objects, d.rec.Objects = nil, nil
		r.MadeAt, r.Origin = max(c.eventNanos(), g.RmdirAt+1), c.zoneName()
		if err := tx.PutInode(r); err != nil {
			return err
		}
	}
	if len(r.Objects) == 0 { // else it was known by what was in it
		if err := c.enqueue(tx, r, d.path); err != nil {
			return err
		}
	}
	if !deleted {
		return nil
	}
	return c.announceObject(tx, r, catalog.Object{})
}

// kickEmptied has the workers look at what announceEmptied may have recorded.
func (c *Cache) kickEmptied(d lockedDir) {
	if d.path != "" && len(d.rec.Objects) == 0 {
		c.kick(d.rec.Ino)
	}
}

// removeMarkers removes the markers that this zone has put for a directory which another one
// has deleted: that one need not have known of them. Those that others have put meanwhile
// are the same bytes, and stay. A directory that was made here may count as another zone's,
// which made it later, and have the marker from here.
func (c *Cache) removeMarkers(tx *catalog.Tx, rec *catalog.Inode, path string) error {
	if rec.Origin != c.zoneName() && rec.DirtySince == 0 { // not made here, either
		return nil
	}
	now := c.nanos()
	for _, o := range rec.Objects {
		if err := putRemoval(tx, &catalog.Removal{Key: o.Key, Version: c.versionMark(o.Gen), Path: path, Since: now, NotBefore: now}); err != nil {
			return err
		}
	}
	return nil
}
