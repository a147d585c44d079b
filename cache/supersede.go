package cache

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
	"depotfs/cache/share"
)

// superseding says what another zone's change puts in the place of a file.
type superseding struct {
	next   *catalog.Inode             // has the name then; nil: nobody
	trash  string                     // key of a copy from which an open file is read on; "" = none
	finish func(tx *catalog.Tx) error // the rest of the transaction; may be nil
}

// supersede takes a file, symlink or special file from its name for the sake of another
// zone's change; the directory is locked exclusively. Bytes that only we have are errHeld.
// Who has the file open reads on. Its objects are left to the zone that made the change.
//
// The file is moved aside before the catalog changes, as for an eviction: a crash in
// between puts it back, and the record is applied again.
func (c *Cache) supersede(d lockedDir, rec *catalog.Inode, name string, s superseding) error {
	path := join(d.path, name)
	open := false
	if n := c.peek(rec.Ino); n != nil {
		defer c.drop(n)
		n.mu.Lock()
		defer n.mu.Unlock()
		now, err := c.record(rec.Ino)
		if err != nil {
			return err
		}
		if rec = now; n.writers > 0 {
			return fmt.Errorf("%q is open for writing: %w", path, errHeld)
		}
		open = n.handles > 0
		if !open {
			n.endFetchingLocked()
		}
		c.cancelUpload(n, rec)
	}
	if isRegular(rec) && holdsOnlyCopy(rec.State) {
		return fmt.Errorf("%q has bytes that only this zone has: %w", path, errHeld)
	}
	if _, aside := c.evicting.Load(rec.Ino); aside {
		return fmt.Errorf("%q is being evicted: %w", path, errHeld)
	}
	intent, err := c.putOut(rec, path)
	if err != nil {
		return err
	}
	if err := c.supersedeInCatalog(d, rec, name, path, open, intent, s); err != nil {
		return errors.Join(err, c.putBack(rec, intent))
	}
	if intent != nil {
		if open && len(rec.Links) == 1 {
			err = c.share.Rename(intent.To, share.OpenPath(uint64(rec.Ino)), 0)
		} else {
			err = c.share.Unlink(intent.To)
		}
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			c.log.Warn("remove what another zone has replaced", "path", path, "err", err)
		}
	}
	if !open && len(rec.Links) == 1 {
		c.removePartial(rec)
	}
	c.kick(rec.Ino)
	c.kickRemovals(rec, path)
	c.changed.wake()
	c.entryChanged(d.rec.Ino, name)
	c.inodeChanged(rec.Ino)
	return nil
}

// endFetchingLocked stops what is fetched of a file that nobody has open; n.mu is held.
func (n *node) endFetchingLocked() {
	if n.p == nil {
		return
	}
	n.p.mu.Lock()
	if n.p.stopFill != nil {
		n.p.stopFill()
	}
	n.p.mu.Unlock()
	n.stopHydration()
}

// putOut moves what the share has at a path aside, if it is what we know; nil where it has
// nothing there.
func (c *Cache) putOut(rec *catalog.Inode, path string) (*catalog.Intent, error) {
	st, err := c.share.StatSync(path)
	there := err == nil
	switch err = notThere(err); {
	case err != nil && !errors.Is(err, iofs.ErrNotExist):
		return nil, err
	case !inShare(rec) && there:
		return nil, errOutside // others made something where we have nothing
	case !there:
		return nil, nil
	case otherFile(rec, st), isRegular(rec) && st.Stamp() != rec.Stamp:
		return nil, errOutside
	}
	intent := &catalog.Intent{Kind: catalog.IntentEvict, Ino: rec.Ino, From: path, To: share.EvictPath(uint64(rec.Ino)), ShareIno: st.Ino, Time: c.nanos()}
	if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.PutIntent(intent) }); err != nil {
		return nil, err
	}
	if err := c.share.Rename(path, intent.To, 0); err != nil {
		return nil, errors.Join(err, c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteIntent(intent.Seq) }))
	}
	return intent, nil
}

// putBack undoes putOut; recovery would do it, too.
func (c *Cache) putBack(rec *catalog.Inode, intent *catalog.Intent) error {
	if intent == nil {
		return nil
	}
	if err := c.share.Rename(intent.To, intent.From, share.NoReplace); err != nil {
		return err
	}
	st, err := c.share.Stat(intent.From)
	if err != nil {
		return err
	}
	_, err = c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if sameContent(st.Stamp(), r.Stamp) {
			r.Stamp = st.Stamp()
		}
		return tx.DeleteIntent(intent.Seq)
	})
	return err
}

func (c *Cache) supersedeInCatalog(d lockedDir, rec *catalog.Inode, name, path string, open bool, intent *catalog.Intent, s superseding) error {
	touch := c.touching(d)
	link := catalog.Link{Parent: d.rec.Ino, Name: name}
	return c.cat.Update(func(tx *catalog.Tx) error {
		old, err := inode(tx, rec.Ino)
		if err != nil {
			return err
		}
		if old.State != rec.State {
			return errMoved
		}
		passed, err := c.releaseObjects(tx, old, path, s.trash, open)
		if err != nil {
			return err
		}
		var del *deletion
		if passed {
			del = c.deleted(path)
		}
		if err := c.removeLink(tx, old.Ino, link, path, open, del); err != nil {
			return err
		}
		dirs := 0
		if s.next != nil {
			dirs = subdirs(s.next)
			if err := tx.PutDirent(catalog.Dirent{Parent: link.Parent, Name: name, Ino: s.next.Ino, Type: s.next.Mode & syscall.S_IFMT}); err != nil {
				return err
			}
		}
		if err := touch(tx, dirs); err != nil {
			return err
		}
		if s.finish != nil {
			if err := s.finish(tx); err != nil {
				return err
			}
		}
		if intent == nil {
			return nil
		}
		return tx.DeleteIntent(intent.Seq)
	})
}

// releaseObjects takes from an inode the objects of a name that another zone has changed: they
// are that zone's to remove. What is open and not here is read from them as long as they
// are there, or from the trash. passed says that some are left to the inode: they are under
// a name that this zone has renamed, and nobody else removes them.
func (c *Cache) releaseObjects(tx *catalog.Tx, old *catalog.Inode, path, trash string, open bool) (passed bool, _ error) {
	last := len(old.Links) <= 1
	reads := last && open && isRegular(old) && !resident(old.State)
	ofName, _ := layout.Key(c.cfg.Prefix, path, isDir(old))
	var keep, left []catalog.Object
	for _, o := range old.Objects {
		if !last && o.Key != ofName {
			left = append(left, o)
			continue
		}
		if o.Key != ofName {
			ours, err := c.renamedAway(tx, c.keyPath(o.Key))
			if err != nil {
				return false, err
			}
			if ours {
				left, passed = append(left, o), true
				continue
			}
		}
		if err := disownKey(tx, o.Key, old.Ino); err != nil {
			return false, err
		}
		if reads && o.Gen == old.Base.Gen {
			if trash != "" {
				o = catalog.Object{Key: trash, Gen: o.Gen}
			}
			keep = append(keep, o)
		}
	}
	old.Objects = left
	if !passed { // else it is read from those that are left to it
		old.Objects = append(left, keep...)
	}
	if reads && !passed {
		old.Flags |= catalog.FlagForeign
	}
	return passed, tx.PutInode(old)
}

// touching is touchDir with the times that a directory has in the share now, if it is there.
func (c *Cache) touching(d lockedDir) func(tx *catalog.Tx, dirs int) error {
	st, err := c.share.Stat(d.path)
	if err != nil {
		return func(tx *catalog.Tx, dirs int) error { return c.touchRemoteDir(tx, d.rec.Ino, dirs) }
	}
	return func(tx *catalog.Tx, dirs int) error { return c.touchDir(tx, d.rec.Ino, st, dirs) }
}

// anotherZone stands in an intent for whichever other zone's change it is.
const anotherZone = "another"
