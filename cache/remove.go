package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// Unlink removes a name that is no directory. A file that is open lives on without
// a name until its last handle closes.
func (c *Cache) Unlink(ctx context.Context, parent Ino, name string) error {
	rec, err := c.findAny(ctx, parent, name)
	if err != nil {
		return err
	}
	if isDir(rec) {
		return syscall.EISDIR
	}
	return c.withDir(parent, func(d lockedDir) error {
		rec, err := c.find(parent, name)
		if err != nil {
			return err
		}
		if isDir(rec) {
			return syscall.EISDIR
		}
		return c.unlinkLocked(d, rec, name)
	})
}

// findAny is Lookup for who is about to change the name.
func (c *Cache) findAny(ctx context.Context, parent Ino, name string) (*catalog.Inode, error) {
	rec, err := c.find(parent, name)
	if errors.Is(err, iofs.ErrNotExist) && !hidden(parent, name) {
		return c.findOutside(ctx, parent, name)
	}
	return rec, err
}

// unlinkLocked removes one name of rec from share and catalog; the directory is locked.
func (c *Cache) unlinkLocked(d lockedDir, rec *catalog.Inode, name string) error {
	path := join(d.path, name)
	n := c.peek(rec.Ino)
	if n != nil {
		defer c.drop(n)
		n.mu.Lock()
		defer n.mu.Unlock()
		c.cancelUpload(n, rec)
	}
	open := n != nil && n.handles > 0
	intent := &catalog.Intent{Kind: catalog.IntentUnlink, Ino: rec.Ino, From: path, OldParent: d.rec.Ino, OldName: name,
		ShareIno: rec.Stamp.Ino, Time: c.nanos()}
	inShare := !isRegular(rec) || resident(rec.State)
	if inShare {
		if open && len(rec.Links) == 1 {
			intent.Kind, intent.To = catalog.IntentOrphan, share.OpenPath(uint64(rec.Ino))
		}
		if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.PutIntent(intent) }); err != nil {
			return err
		}
		var err error
		if intent.Kind == catalog.IntentOrphan {
			err = c.share.Rename(path, intent.To, 0)
		} else {
			err = c.share.Unlink(path)
		}
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			_ = c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteIntent(intent.Seq) })
			return fmt.Errorf("unlink %q: %w", path, err)
		}
	}
	if err := c.forgetName(d, rec.Ino, name, path, open, intent, byUs); err != nil {
		return err
	}
	if !open && len(rec.Links) == 1 {
		c.removePartial(rec)
	}
	if len(rec.Links) > 1 {
		c.work.Add(rec.Ino, c.now()) // the key of this name is to go
	} else {
		c.kick(rec.Ino)
		c.kickRemovals(rec, path)
	}
	c.changed.wake()
	return nil
}

// forgetName is the catalog's side of an unlink.
func (c *Cache) forgetName(d lockedDir, ino Ino, name, path string, open bool, intent *catalog.Intent, by author) error {
	dst, err := c.share.Stat(d.path)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	here := err == nil
	err = c.cat.Update(func(tx *catalog.Tx) error {
		var del *deletion
		if by == byUs {
			del = c.deleted(path)
			r, err := inode(tx, ino)
			if err == nil {
				err = c.judgeGone(tx, r, path, del)
			}
			if err != nil {
				return err
			}
		}
		if err := c.removeLink(tx, ino, catalog.Link{Parent: d.rec.Ino, Name: name}, path, open, del); err != nil {
			return err
		}
		if by == byUs {
			if err := c.announceEmptied(tx, d); err != nil {
				return err
			}
		}
		if here {
			if err := c.touchDir(tx, d.rec.Ino, dst, 0); err != nil {
				return err
			}
		} else if err := c.touchRemoteDir(tx, d.rec.Ino, 0); err != nil {
			return err
		}
		if intent != nil && intent.Seq != 0 {
			return tx.DeleteIntent(intent.Seq)
		}
		return nil
	})
	if err == nil && by == byUs {
		c.kickEmptied(d)
	}
	return err
}

// touchRemoteDir is touchDir for a directory that is not in the share.
func (c *Cache) touchRemoteDir(tx *catalog.Tx, dir Ino, dirs int) error {
	now := c.nanos()
	return c.touchDir(tx, dir, share.Stat{Mtime: now, Ctime: now, Size: 4096, Blocks: 8}, dirs)
}

// removeLink takes one name from an inode. With the last one go the record, unless
// the file is open, and the inode's claim on its objects; del is nil where the file is
// not deleted but lives on elsewhere.
func (c *Cache) removeLink(tx *catalog.Tx, ino Ino, l catalog.Link, path string, open bool, del *deletion) error {
	rec, err := inode(tx, ino)
	if err != nil {
		return err
	}
	if err := errors.Join(leaveAttrs(tx, rec, path), tx.DeleteDirent(l.Parent, l.Name)); err != nil {
		return err
	}
	for i := range rec.Links {
		if rec.Links[i] == l {
			rec.Links = append(rec.Links[:i:i], rec.Links[i+1:]...)
			break
		}
	}
	rec.Ctime = c.nanos()
	if len(rec.Links) > 0 {
		rec.Nlink = uint32(len(rec.Links))
		c.stampLeft(tx, rec)
		if err := tx.PutQueue(&catalog.QueueItem{Ino: ino, NotBefore: rec.Ctime, Since: rec.Ctime}); err != nil {
			return err
		}
		return tx.PutInode(rec)
	}
	// What is open and not here is still read from its object; the last handle's
	// end removes it.
	if open && isRegular(rec) && !resident(rec.State) {
		err = putDeletion(tx, ino, del)
	} else {
		err = c.disown(tx, rec, path, del)
	}
	if err != nil {
		return err
	}
	// Nobody tells us who has a FIFO open: it stays for them, as directories do.
	if !open && rec.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return tx.DeleteInode(ino)
	}
	rec.Nlink = 0
	rec.Flags |= catalog.FlagOrphan
	if err := tx.DeleteQueue(ino); err != nil {
		return err
	}
	return tx.PutInode(rec)
}

// disown turns the objects of an inode, and what an upload of it may have left,
// into removals; del is not nil where the trash is to keep them. Objects of a delete that
// is held are left to that.
func (c *Cache) disown(tx *catalog.Tx, rec *catalog.Inode, path string, del *deletion) error {
	now := c.nanos()
	if rec.Flags&catalog.FlagHeld != 0 {
		rec.Objects = nil
	}
	for i, o := range rec.Objects {
		if rec.Flags&catalog.FlagForeign != 0 {
			continue
		}
		rm := &catalog.Removal{Key: o.Key, ETag: o.ETag, Path: path, Since: now, NotBefore: now}
		c.trashObject(rm, rec, i, del)
		if err := c.removeOwned(tx, rec.Ino, rm); err != nil {
			return err
		}
	}
	up, err := tx.Upload(rec.Ino)
	if err == nil {
		// A request under way may still make the object after we stopped waiting for
		// its answer: what has our version mark goes, and so does what we replace.
		rm := &catalog.Removal{Key: up.Key, Version: c.versionMark(up.Gen), Replaced: up.Replaced, UploadID: up.UploadID, Path: path, Since: now, NotBefore: now}
		for _, o := range rec.Objects {
			if o.Key == up.Key {
				rm.ETag = o.ETag
			}
		}
		c.trashAttempt(rm, rec, up, del)
		if err = putRemoval(tx, rm); err == nil {
			err = tx.DeleteUpload(rec.Ino)
		}
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	rec.Objects = nil
	return nil
}

func ownsKey(rec *catalog.Inode, key string) bool {
	for _, o := range rec.Objects {
		if o.Key == key {
			return true
		}
	}
	return false
}

// removePartial removes what an unlinked file had under .depotfs/partial.
func (c *Cache) removePartial(rec *catalog.Inode) {
	if !isRegular(rec) || resident(rec.State) {
		return
	}
	err := c.share.Unlink(share.PartialPath(uint64(rec.Ino)))
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		c.log.Warn("remove partial file", "ino", rec.Ino, "err", err)
	}
	if err := share.RemoveSidecar(c.share, uint64(rec.Ino)); err != nil {
		c.log.Warn("remove sidecar", "ino", rec.Ino, "err", err)
	}
}

// reapOrphan removes a file without a name after its last handle closed.
func (c *Cache) reapOrphan(n *node) {
	rec, err := c.record(n.ino)
	if err != nil || rec.Flags&catalog.FlagOrphan == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.handles > 0 {
		return
	}
	gone := false
	err = c.cat.Update(func(tx *catalog.Tx) error {
		r, err := inode(tx, n.ino)
		if err != nil {
			return err
		}
		if gone = r.Flags&catalog.FlagOrphan != 0 && len(r.Links) == 0; !gone {
			return nil // linked again (linkat with AT_EMPTY_PATH)
		}
		if err := c.bequeath(tx, r); err != nil {
			return err
		}
		if err := c.disownOrphan(tx, r); err != nil {
			return err
		}
		return tx.DeleteInode(n.ino)
	})
	if err != nil || !gone {
		if err != nil && !errors.Is(err, ErrStale) {
			c.log.Warn("forget an unlinked file", "ino", n.ino, "err", err)
		}
		return
	}
	c.kickRemovals(rec, "")
	c.changed.wake()
	if err := c.share.Unlink(share.OpenPath(uint64(n.ino))); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		c.log.Warn("remove an unlinked file", "ino", n.ino, "err", err)
	}
	c.removePartial(rec)
}

// Rmdir removes an empty directory.
func (c *Cache) Rmdir(ctx context.Context, parent Ino, name string) error {
	rec, err := c.findAny(ctx, parent, name)
	if err != nil {
		return err
	}
	if !isDir(rec) {
		return errNotDir
	}
	if err := c.importDir(ctx, rec); err != nil {
		return err
	}
	if c.gone.Load() {
		return ErrMarker
	}
	c.tree.RLock()
	defer c.tree.RUnlock()
	defer c.dirs.lock(parent, rec.Ino)()
	again, err := c.find(parent, name)
	if err != nil {
		return err
	}
	if again.Ino != rec.Ino {
		return syscall.EBUSY
	}
	d, err := c.lookDir(parent)
	if err != nil {
		return err
	}
	return c.rmdirLocked(d, again, name)
}

func (c *Cache) rmdirLocked(d lockedDir, rec *catalog.Inode, name string) error {
	return c.rmdirOf(d, rec, name, byUs)
}

func (c *Cache) rmdirOf(d lockedDir, rec *catalog.Inode, name string, by author) error {
	path := join(d.path, name)
	if err := c.emptyDir(rec, path); err != nil {
		return err
	}
	intent := &catalog.Intent{Kind: catalog.IntentUnlink, Ino: rec.Ino, From: path, OldParent: d.rec.Ino, OldName: name, Time: c.nanos()}
	if by == byOthers {
		intent.Zone = anotherZone
	}
	if rec.Flags&catalog.FlagHere != 0 {
		if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.PutIntent(intent) }); err != nil {
			return err
		}
		if err := c.share.Rmdir(path); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			_ = c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteIntent(intent.Seq) })
			if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
				// Others put something there: now it is known, and in the way.
				if aerr := c.agreeLocked(lockedDir{rec: rec, path: path}); aerr != nil {
					return aerr
				}
				return syscall.ENOTEMPTY
			}
			return fmt.Errorf("rmdir %q: %w", path, err)
		}
	}
	return c.forgetDir(d, rec, name, path, intent, by)
}

// emptyDir answers ENOTEMPTY while the catalog has names in the directory.
func (c *Cache) emptyDir(rec *catalog.Inode, path string) error {
	return c.cat.View(func(tx *catalog.Tx) error {
		has, err := tx.HasChildren(rec.Ino)
		if err == nil && has {
			return fmt.Errorf("remove directory %q: %w", path, syscall.ENOTEMPTY)
		}
		return err
	})
}

// forgetDir is the catalog's side of an rmdir. The record stays without a name for
// who still has the directory open; recover removes it.
func (c *Cache) forgetDir(d lockedDir, rec *catalog.Inode, name, path string, intent *catalog.Intent, by author) error {
	dst, err := c.share.Stat(d.path)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	here := err == nil
	err = c.cat.Update(func(tx *catalog.Tx) error {
		r, err := inode(tx, rec.Ino)
		if err != nil {
			return err
		}
		if by == byUs {
			if err := c.judgeGone(tx, r, path, nil); err != nil {
				return err
			}
		}
		if err := errors.Join(leaveAttrs(tx, r, path), tx.DeleteDirent(d.rec.Ino, name)); err != nil {
			return err
		}
		if by == byOthers {
			if err := c.removeMarkers(tx, r, path); err != nil {
				return err
			}
			if _, err := c.releaseObjects(tx, r, path, "", false); err != nil {
				return err
			}
		}
		if err := c.disown(tx, r, path+"/", nil); err != nil {
			return err
		}
		if err := tx.DeleteQueue(r.Ino); err != nil {
			return err
		}
		r.Links, r.Nlink, r.Size, r.Blocks, r.Ctime = nil, 0, 0, 0, c.nanos()
		r.Flags |= catalog.FlagOrphan
		if err := tx.PutInode(r); err != nil {
			return err
		}
		if by == byUs {
			if err := c.announceEmptied(tx, d); err != nil {
				return err
			}
		}
		if here {
			err = c.touchDir(tx, d.rec.Ino, dst, -1)
		} else {
			err = c.touchRemoteDir(tx, d.rec.Ino, -1)
		}
		if err == nil && intent != nil && intent.Seq != 0 {
			err = tx.DeleteIntent(intent.Seq)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.dirSeen.Delete(rec.Ino)
	c.kickRemovals(rec, path)
	if by == byUs {
		c.kickEmptied(d)
	}
	c.changed.wake()
	return nil
}
