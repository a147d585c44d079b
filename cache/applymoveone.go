package cache

import (
	"errors"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

func isNotEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST)
}

// moveOne is one rename, or exchange, in share and catalog, as Rename does it for a user,
// of names that were looked at and may have changed since: errMoved.
func (c *Cache) moveOne(r journal.Record, src, dst *catalog.Inode, from, to string, exchange bool) error {
	_, oldParent, oldName, err := c.at(from)
	if err != nil {
		return err
	}
	at := r
	at.Path = to
	newParent, newName, err := c.applyParents(at)
	if err != nil {
		return err
	}
	if oldParent == 0 || newParent == 0 {
		return errMoved
	}
	err = c.lockedMove(r, src, dst, oldParent, oldName, newParent, newName, to, exchange)
	if errors.Is(err, errOutside) {
		over := Ino(0)
		if dst != nil {
			over = dst.Ino
		}
		if err := c.lookAtInodes(src.Ino, over); err != nil {
			return err
		}
		return errMoved
	}
	if err != nil {
		return err
	}
	c.entryChanged(oldParent, oldName)
	c.entryChanged(newParent, newName)
	if dst != nil && !exchange {
		c.inodeChanged(dst.Ino)
	}
	c.log.Info("another zone renamed", "from", from, "to", to, "zone", r.Zone)
	return nil
}

func (c *Cache) lockedMove(r journal.Record, src, dst *catalog.Inode, oldParent Ino, oldName string, newParent Ino, newName, to string, exchange bool) error {
	dirs := []Ino{oldParent, newParent}
	movesDir := isDir(src)
	if dst != nil && isDir(dst) {
		dirs = append(dirs, dst.Ino)
		movesDir = movesDir || exchange
	}
	if movesDir {
		c.tree.Lock()
		defer c.tree.Unlock()
	} else {
		c.tree.RLock()
		defer c.tree.RUnlock()
	}
	defer c.dirs.lock(dirs...)()
	m := move{by: byOthers, at: r.Time, zone: r.Zone, oldName: oldName, name: newName, exchange: exchange}
	m.remade = to == r.Path || exchange
	var err error
	if m.src, err = c.find(oldParent, oldName); err != nil || m.src.Ino != src.Ino {
		return errors.Join(errMoved, notNotExist(err))
	}
	if m.dst, err = c.find(newParent, newName); err != nil && !isNotExist(err) {
		return err
	}
	if (m.dst == nil) != (dst == nil) || dst != nil && m.dst.Ino != dst.Ino {
		return errMoved
	}
	if m.dst != nil && !exchange && isRegular(m.dst) && holdsOnlyCopy(m.dst.State) {
		return errMoved
	}
	if m.from, err = c.lookDir(oldParent); err != nil {
		return err
	}
	if m.to, err = c.lookDir(newParent); err != nil {
		return err
	}
	m.oldPath, m.path = join(m.from.path, oldName), join(m.to.path, newName)
	if m.dst == nil { // what others made there has bytes that only we have
		if st, err := c.share.Stat(m.path); err == nil && newParentHere(m.to.rec) {
			if _, err := c.adopt(m.to, newName, st); err != nil {
				return err
			}
			return errMoved
		}
	}
	if err := c.mayMove(&m); err != nil {
		if isNotEmpty(err) {
			return errMoved
		}
		return err
	}
	return c.moveLocked(&m)
}

func newParentHere(dir *catalog.Inode) bool {
	return dir.Ino == catalog.Root || dir.Flags&catalog.FlagHere != 0
}

// notNotExist is err, unless it says that something does not exist.
func notNotExist(err error) error {
	if isNotExist(err) {
		return nil
	}
	return err
}

// movedElsewhere is relink's part for a rename of another zone: the name is as old as the
// rename, and the objects stay where they are until that zone has brought them to their
// keys. What only we have goes to the depot under the name that it has now.
func (c *Cache) movedElsewhere(tx *catalog.Tx, rec *catalog.Inode, made moment, m *move, path string) error {
	if m.remade && !isDir(rec) {
		rec.MadeAt, rec.Origin, rec.AttrAt, rec.AttrBy = m.at, m.zone, 0, ""
	} else {
		if made.at != 0 || len(rec.Objects) > 0 {
			rec.MadeAt = afterRename(made.at, m.at)
		}
		attrsMoved(rec, m.at)
		rec.MovedAt = m.at
	}
	if isRegular(rec) && holdsOnlyCopy(rec.State) || !isRegular(rec) && len(rec.Objects) == 0 {
		return c.enqueue(tx, rec, path)
	}
	return nil
}

// finishOwnMove has the key of a file follow that was told of under the name before a
// rename of this zone.
func (c *Cache) finishOwnMove(path string) error {
	rec, _, _, err := c.at(path)
	if err != nil || rec == nil || len(rec.Objects) == 0 {
		return err
	}
	there, err := c.inPlace(rec)
	if err != nil || there {
		return err
	}
	queued := false
	if err := c.cat.Update(func(tx *catalog.Tx) error {
		_, err := tx.QueueItem(rec.Ino)
		if queued = err == nil; queued || !errors.Is(err, catalog.ErrNotFound) {
			return err // it is on its way
		}
		return c.putQueue(tx, rec, 0, false)
	}); err != nil || queued {
		return err
	}
	c.kick(rec.Ino)
	return nil
}
