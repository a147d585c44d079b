package cache

import (
	"errors"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
	"depotfs/cache/layout"
)

// What other zones do to a file before they hear that it was renamed is told of its former
// name. The zone that renamed it does the same to it under its new name, and tells of that,
// as long as nothing else was done to it since. (So a record says all that it says of one
// name, and counts by its time alone; only this zone knows which file it was about.)

// movedFile is a file that this zone has renamed, and what it was as it did.
type movedFile struct {
	rec   *catalog.Inode // nil: it was changed, renamed or deleted since
	path  string
	at    moment             // when it got the name that it has
	grave *catalog.Tombstone // of its former name
	names []string           // that it had from then on, before the one that it has
}

// renamedHere is the file that had a path before this zone renamed it; ok says that it did.
func (c *Cache) renamedHere(path string) (m movedFile, ok bool, err error) {
	m.path = path
	var taken int64
	if err := c.cat.View(func(tx *catalog.Tx) error {
		for range maxDepth {
			g, err := tombstone(tx, m.path)
			if err != nil || g == nil || g.To == "" || g.Zone != c.zoneName() {
				return err
			}
			if m.grave == nil {
				m.grave = g
			}
			m.names = append(m.names, m.path)
			m.path, m.at, taken = g.To, timeOf(g), g.TakenAt
		}
		return nil
	}); err != nil || m.grave == nil {
		return m, false, err
	}
	rec, _, _, err := c.at(m.path)
	if err != nil || rec == nil || !isRegular(rec) || holdsOnlyCopy(rec.State) {
		return m, true, err
	}
	if made := (moment{rec.MadeAt, rec.Origin}); made == m.at || taken != 0 && made == (moment{taken, c.zoneName()}) {
		m.rec = rec
	}
	return m, true, err
}

// versionOfRenamed gives a file that this zone has renamed the version that another zone has
// finished under the old name, and that is later than the one which was renamed.
func (c *Cache) versionOfRenamed(r journal.Record) (bool, error) {
	m, ok, err := c.renamedHere(r.Path)
	if err != nil || !ok || m.rec == nil || r.Op != journal.Put || !timeOf(m.grave).after(momentOf(&r)) {
		return false, err
	}
	known := moment{m.grave.MadeAt, m.grave.MadeBy}
	if known == momentOf(&r) || !momentOf(&r).after(known) || c.isVersion(m.rec, r) {
		return false, nil
	}
	if n := c.peek(m.rec.Ino); n != nil {
		n.mu.Lock()
		writing := n.writers > 0
		n.mu.Unlock()
		if c.drop(n); writing {
			return false, nil // which makes the next version
		}
	}
	now := r
	now.Path, now.Time, now.Zone, now.AttrTime, now.AttrZone = m.path, m.rec.MadeAt+1, c.zoneName(), 0, ""
	if err := c.trying(m.path, func() error { return c.applyPut(now) }); err != nil {
		return false, err
	}
	if err := c.noteTaken(m, r, now.Time); err != nil {
		return false, err
	}
	return true, c.tellTaken(now)
}

// noteTaken notes that a file has the version of a record that was told of its former name: a
// later one of that name, which was still finished before the rename, is its next.
func (c *Cache) noteTaken(m movedFile, r journal.Record, at int64) error {
	return c.cat.Update(func(tx *catalog.Tx) error {
		for i, path := range m.names {
			g, err := tombstone(tx, path)
			if err != nil || g == nil {
				return err
			}
			if g.TakenAt = at; i == 0 {
				g.MadeAt, g.MadeBy = r.Time, r.Zone
			}
			if err := tx.PutTombstone(g); err != nil {
				return err
			}
		}
		return nil
	})
}

// tellTaken tells of a version that versionOfRenamed took: at once where the file has its former
// name again, and so its key, or else when the object has been moved.
func (c *Cache) tellTaken(r journal.Record) error {
	if key, _ := layout.Key(c.cfg.Prefix, r.Path, false); key != r.Key {
		return c.finishOwnMove(r.Path)
	}
	rec, _, _, err := c.at(r.Path)
	if err != nil || rec == nil {
		return err
	}
	return c.cat.Update(func(tx *catalog.Tx) error {
		now, err := inode(tx, rec.Ino)
		if err != nil {
			return err
		}
		o, ok := currentObject(now)
		if !ok || o.Key != r.Key || o.ETag != r.ETag {
			return nil
		}
		return errors.Join(c.announceObject(tx, now, o), tx.PutInode(now))
	})
}

// attrOfRenamed gives a file that this zone has renamed the attributes that another zone has
// set under the old name. They count as set just after the rename, if they were not later.
func (c *Cache) attrOfRenamed(r journal.Record) (bool, error) {
	if h, err := c.heldAt(r.Path); h != nil || err != nil {
		return false, err // it is about another file of that name, which waits
	}
	m, ok, err := c.renamedHere(r.Path)
	if err != nil || !ok || m.rec == nil || !momentOf(&r).after(moment{m.grave.AttrAt, m.grave.AttrBy}) {
		return ok, err
	}
	now, before := r, m.at.at
	if m.rec.AttrBy == m.grave.AttrBy && m.rec.AttrBy != c.zoneName() { // which came this way, too, and were set earlier
		before = max(before, m.rec.AttrAt)
	}
	now.Path, now.Time = m.path, max(r.Time, before+1)
	if err := c.applyAttr(now); err != nil {
		return true, err
	}
	return true, c.cat.Update(func(tx *catalog.Tx) error {
		g, err := tombstone(tx, r.Path)
		if err != nil || g == nil {
			return err
		}
		g.AttrAt, g.AttrBy = r.Time, r.Zone
		return errors.Join(c.tellAttrs(tx, m.rec.Ino, m.path, now), tx.PutTombstone(g))
	})
}
