package cache

import (
	"errors"
	"syscall"

	"depotfs/cache/catalog"
)

// queueSubtree has everything below a renamed directory looked at.
func (c *Cache) queueSubtree(dir *catalog.Inode) error {
	var subdirs []Ino
	for cookie := uint64(0); ; {
		var batch []catalog.Dirent
		if err := c.cat.View(func(tx *catalog.Tx) error {
			return tx.ReadDir(dir.Ino, cookie, func(e catalog.Dirent) bool {
				batch = append(batch, e)
				return len(batch) < 500
			})
		}); err != nil {
			return err
		}
		if len(batch) == 0 {
			break
		}
		cookie = batch[len(batch)-1].Cookie
		if err := c.cat.Update(func(tx *catalog.Tx) error {
			for _, e := range batch {
				rec, err := tx.Inode(e.Ino)
				if errors.Is(err, catalog.ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				if err := movedBelow(tx, rec); err != nil {
					return err
				}
				if holdsOnlyCopy(rec.State) {
					continue // waits anyway, and goes to wherever its name is then
				}
				if err := c.putQueue(tx, rec, 0, isDir(rec)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		for _, e := range batch {
			if e.Type == syscall.S_IFDIR {
				subdirs = append(subdirs, e.Ino)
			} else {
				c.kick(e.Ino)
			}
		}
	}
	for _, ino := range subdirs {
		c.kick(ino)
	}
	// Done with the children: from here on it is a directory like others.
	return c.cat.Update(func(tx *catalog.Tx) error {
		it, err := tx.QueueItem(dir.Ino)
		if err != nil {
			return err
		}
		it.Subtree = false
		return tx.PutQueue(it)
	})
}

// movedBelow gives what is below a renamed directory the time that it has under its new
// name, for the put records of its new keys: a name that was deleted there before is
// another one.
func movedBelow(tx *catalog.Tx, r *catalog.Inode) error {
	m, err := madeIn(tx, r)
	if err != nil || m.at == r.MadeAt {
		return err
	}
	r.MadeAt = m.at
	return tx.PutInode(r)
}
