package cache

import (
	"errors"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// moveInCatalog is the catalog's side of a rename, in one transaction with the end
// of its intent. recover calls it too.
func (c *Cache) moveInCatalog(m *move, victimOpen bool, intent *catalog.Intent) error {
	var srcSt, dstSt, fromSt, toSt *share.Stat
	stat := func(path string, want bool) *share.Stat {
		if !want {
			return nil
		}
		st, err := c.share.Stat(path)
		if err != nil {
			return nil
		}
		return &st
	}
	srcSt = stat(m.path, inShare(m.src))
	if m.exchange {
		dstSt = stat(m.oldPath, inShare(m.dst))
	}
	fromSt = stat(m.from.path, true)
	toSt = stat(m.to.path, true)
	err := c.cat.Update(func(tx *catalog.Tx) error {
		old := catalog.Link{Parent: m.from.rec.Ino, Name: m.oldName}
		to := catalog.Link{Parent: m.to.rec.Ino, Name: m.name}
		fromDirs, toDirs := 0, 0
		if isDir(m.src) {
			fromDirs, toDirs = -1, 1
		}
		if m.dst != nil {
			if isDir(m.dst) {
				toDirs--
			}
			if m.by == byUs && !m.exchange {
				if err := c.judgeVictim(tx, m.dst.Ino, m.path); err != nil {
					return err
				}
			}
			if m.by == byOthers && !m.exchange {
				dst, err := inode(tx, m.dst.Ino)
				if err == nil && m.remade {
					err = c.keepReplaced(tx, dst, "")
				}
				if err == nil {
					_, err = c.releaseObjects(tx, dst, m.path, "", victimOpen)
				}
				if err != nil {
					return err
				}
			}
			switch {
			case m.exchange:
				if isDir(m.dst) {
					fromDirs++
				}
				if err := tx.DeleteDirent(to.Parent, to.Name); err != nil {
					return err
				}
			case isDir(m.dst):
				if err := c.dropDirLink(tx, m.dst.Ino, to, m.path); err != nil {
					return err
				}
			default:
				if err := c.removeLink(tx, m.dst.Ino, to, m.path, victimOpen, c.deleted(m.path)); err != nil {
					return err
				}
			}
		}
		if err := tx.DeleteDirent(old.Parent, old.Name); err != nil {
			return err
		}
		if err := c.relink(tx, m, m.src.Ino, old, to, srcSt, m.path); err != nil {
			return err
		}
		if srcSt != nil {
			if err := renamedUpload(tx, m.src.Ino, m.before, srcSt.Stamp()); err != nil {
				return err
			}
		}
		if m.by == byUs && (isDir(m.src) || m.exchange) {
			if err := c.moveHeld(tx, m.oldPath, m.path, m.exchange, 0); err != nil {
				return err
			}
		}
		if m.exchange {
			if err := c.relink(tx, m, m.dst.Ino, to, old, dstSt, m.oldPath); err != nil {
				return err
			}
		}
		if err := c.touchMoved(tx, old.Parent, fromSt, fromDirs); err != nil {
			return err
		}
		if err := c.touchMoved(tx, to.Parent, toSt, toDirs); err != nil {
			return err
		}
		if m.by == byUs {
			if err := c.announceMove(tx, m); err != nil {
				return err
			}
			if err := c.announceEmptied(tx, m.from); err != nil {
				return err
			}
		}
		return tx.DeleteIntent(intent.Seq)
	})
	if err != nil {
		return err
	}
	if n := c.peek(m.src.Ino); n != nil {
		// The next fsync must make the new name durable.
		if m.dst == nil || n.ino != m.dst.Ino {
			n.unsynced.Store(true)
		}
		c.drop(n)
	}
	if m.by == byUs {
		c.kickEmptied(m.from)
	}
	return nil
}

func (c *Cache) touchMoved(tx *catalog.Tx, dir Ino, st *share.Stat, dirs int) error {
	if st == nil {
		return c.touchRemoteDir(tx, dir, dirs)
	}
	return c.touchDir(tx, dir, *st, dirs)
}

// relink gives an inode a new name in place of an old one and has its objects follow.
func (c *Cache) relink(tx *catalog.Tx, m *move, ino Ino, old, to catalog.Link, st *share.Stat, path string) error {
	rec, err := inode(tx, ino)
	if err != nil {
		return err
	}
	made, err := madeIn(tx, rec)
	if err != nil {
		return err
	}
	was := m.oldPath
	if path == m.oldPath { // of two that change places
		was = m.path
	}
	// Attributes that were set later than another zone's rename of a file are the old name's.
	set := moment{rec.AttrAt, rec.AttrBy}
	if isDir(rec) || m.by == byOthers && m.remade && rec.AttrAt != 0 && set.after(moment{m.at, m.zone}) {
		if err := leaveAttrs(tx, rec, was); err != nil {
			return err
		}
	}
	for i := range rec.Links {
		if rec.Links[i] == old {
			rec.Links[i] = to
		}
	}
	rec.Ctime = c.nanos()
	if st != nil {
		rec.Ctime = st.Ctime
		if now := st.Stamp(); now.Ino == rec.Stamp.Ino && now.Size == rec.Stamp.Size && now.Mtime == rec.Stamp.Mtime {
			rec.Stamp = now // only ctime moved, and we moved it
		}
	}
	if err := tx.PutDirent(catalog.Dirent{Parent: to.Parent, Name: to.Name, Ino: ino, Type: rec.Mode & syscall.S_IFMT}); err != nil {
		return err
	}
	if m.by == byOthers {
		err = c.movedElsewhere(tx, rec, made, m, path)
	} else {
		err = c.enqueueMove(tx, rec, path)
	}
	if err != nil {
		return err
	}
	return tx.PutInode(rec)
}

// dropDirLink takes the name from an empty directory that a rename replaces.
func (c *Cache) dropDirLink(tx *catalog.Tx, ino Ino, l catalog.Link, path string) error {
	rec, err := inode(tx, ino)
	if err != nil {
		return err
	}
	if err := errors.Join(leaveAttrs(tx, rec, path), tx.DeleteDirent(l.Parent, l.Name), c.disown(tx, rec, path+"/", nil)); err != nil {
		return err
	}
	rec.Links, rec.Nlink, rec.Ctime = nil, 0, c.nanos()
	rec.Flags |= catalog.FlagOrphan
	if err := tx.DeleteQueue(ino); err != nil {
		return err
	}
	return tx.PutInode(rec)
}
