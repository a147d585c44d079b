package cache

import (
	"cmp"
	"errors"
	"fmt"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// replace gives a name under which others put another file to a new inode. The old
// one lives on without a name while it is open. What the depot has becomes the new
// one's base, so that the upload is a change of it and not a stranger's object.
func (c *Cache) replace(d lockedDir, rec *catalog.Inode, name, path string, st share.Stat, flags catalog.Flags) error {
	next, err := c.found(d, name, path, st)
	if err != nil {
		return err
	}
	now := c.nanos()
	next.Flags |= flags | rec.Flags&catalog.FlagPinned
	next.DirtySince, next.LastUsed = now, now
	next.FinishedAt = min(now, max(st.Mtime, st.Ctime)) // when it got the name
	err = c.succeed(d, rec, next, name, path, func(tx *catalog.Tx, r *catalog.Inode) error {
		if !isRegular(r) {
			r.Flags |= catalog.FlagAttrDirty
		} else if err := step(r, evCreate); err != nil {
			return err
		}
		return c.enqueue(tx, r, path)
	})
	if err != nil {
		return err
	}
	c.moves.arrive(next)
	c.log.Info("file was replaced in the share", "path", path, "size", st.Size)
	return nil
}

// restoreOpen gives the name of a file that others removed from the share while it
// was open to a new inode, which shows the depot's version.
func (c *Cache) restoreOpen(d lockedDir, rec *catalog.Inode, name, path string) error {
	ino, err := c.cat.NextIno()
	if err != nil {
		return err
	}
	next := *rec
	next.Ino, next.Links, next.Nlink, next.Objects = ino, []catalog.Link{{Parent: d.rec.Ino, Name: name}}, 1, nil
	err = c.succeed(d, rec, &next, name, path, func(tx *catalog.Tx, r *catalog.Inode) error {
		if unsettled, err := c.unsettled(tx, r); unsettled || err != nil {
			return cmp.Or(err, errUnsettled)
		}
		if err := step(r, evVanish); err != nil {
			return err
		}
		toRemote(r)
		return c.putQueue(tx, r, 0, false)
	})
	if err == nil {
		c.moves.restored(rec, &next)
		c.log.Warn("file vanished from the share while it was open; it is read from the depot", "path", path)
	}
	return err
}

// succeed puts next in the place of rec under one name; its directory is locked
// exclusively. next takes over the objects, unless rec needs them: it has other
// names, or is open and not here. finish completes next in the same transaction.
func (c *Cache) succeed(d lockedDir, rec, next *catalog.Inode, name, path string, finish func(*catalog.Tx, *catalog.Inode) error) error {
	open := false
	if n := c.peek(rec.Ino); n != nil {
		defer c.drop(n)
		n.mu.Lock()
		defer n.mu.Unlock()
		open = n.handles > 0
		c.cancelUpload(n, rec)
		now, err := c.record(rec.Ino)
		if err != nil {
			return err
		}
		if resident(now.State) != resident(rec.State) || now.State == PartialDirty {
			return errMoved // written or fetched before it was locked
		}
	}
	dst, err := c.share.Stat(d.path)
	if err != nil {
		return err
	}
	inherits := isRegular(rec) && isRegular(next) && len(rec.Links) == 1 && (resident(rec.State) || !open)
	var done catalog.Inode
	err = c.cat.Update(func(tx *catalog.Tx) error {
		old, err := inode(tx, rec.Ino)
		if err != nil {
			return err
		}
		r := *next // as it was, for who asks again after an error
		if inherits {
			if err := inherit(tx, old, &r); err != nil {
				return err
			}
		}
		if err := passUnseen(tx, old, &r, inherits); err != nil {
			return err
		}
		var del *deletion
		if !isRegular(rec) || !isRegular(next) { // else it is a change of the file
			del = c.deleted(path)
		}
		if isDir(old) != isDir(&r) {
			if err := c.announceGone(tx, old, path, del); err != nil {
				return err
			}
		}
		if err := c.removeLink(tx, old.Ino, catalog.Link{Parent: d.rec.Ino, Name: name}, path, open, del); err != nil {
			return err
		}
		if err := tx.PutDirent(catalog.Dirent{Parent: d.rec.Ino, Name: name, Ino: r.Ino, Type: r.Mode & syscall.S_IFMT}); err != nil {
			return err
		}
		if err := c.touchDir(tx, d.rec.Ino, dst, subdirs(&r)); err != nil {
			return err
		}
		if err := finish(tx, &r); err != nil {
			return err
		}
		if err := tx.PutInode(&r); err != nil {
			return err
		}
		done = r
		return nil
	})
	if err != nil {
		return fmt.Errorf("take in %q as others left it: %w", path, err)
	}
	*next = done
	if len(rec.Links) > 1 {
		c.work.Add(rec.Ino, c.now()) // the key of this name is to go
	} else {
		if !open {
			c.removePartial(rec)
		}
		if !inherits {
			c.kickRemovals(rec, path)
		}
		c.kick(rec.Ino)
	}
	c.kickRec(next)
	c.changed.wake()
	c.entryChanged(d.rec.Ino, name)
	c.inodeChanged(rec.Ino)
	return nil
}

// inherit moves what the depot has of old to r, or may have: an upload whose answer
// was not heard may have replaced the version that is on record.
func inherit(tx *catalog.Tx, old, r *catalog.Inode) error {
	up, err := tx.Upload(old.Ino)
	if err == nil && ownsKey(old, up.Key) {
		if _, err = tx.Upload(r.Ino); errors.Is(err, catalog.ErrNotFound) {
			up.Ino = r.Ino
			err = errors.Join(tx.DeleteUpload(old.Ino), tx.PutUpload(up))
		}
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	for _, o := range old.Objects {
		if err := tx.SetKeyOwner(o.Key, r.Ino); err != nil {
			return err
		}
	}
	r.Objects, r.Base, r.BaseLimit = old.Objects, old.Base, old.Base.Size
	r.Flags |= old.Flags & (catalog.FlagUnseen | catalog.FlagReplaces) // nobody has seen that version since
	old.Objects = nil
	return tx.PutInode(old)
}

// found makes the record of what others made in the share.
func (c *Cache) found(d lockedDir, name, path string, st share.Stat) (*catalog.Inode, error) {
	ino, err := c.cat.NextIno()
	if err != nil {
		return nil, err
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return nil, err
	}
	rec := &catalog.Inode{Ino: ino, Gen: gen, Nlink: 1, Links: []catalog.Link{{Parent: d.rec.Ino, Name: name}}, Flags: catalog.FlagAdopted}
	setAttrs(rec, st)
	rec.Stamp = st.Stamp()
	switch st.Type() {
	case syscall.S_IFLNK:
		if rec.Target, err = c.share.Readlink(path); err != nil {
			return nil, err
		}
	case syscall.S_IFDIR:
		rec.Nlink = 2
		rec.Flags |= catalog.FlagHere
		if err := c.toWalk(ino); err != nil {
			return nil, fmt.Errorf("take in %q: %w", path, err)
		}
	}
	return rec, nil
}
