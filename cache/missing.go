package cache

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"time"

	"depotfs/cache/catalog"
)

// misses says whether a name of the inode was missing when it was last looked at.
func (s *scans) misses(ino Ino) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.missing[ino]
	return ok
}

// miss notes that a name is missing and returns since when.
func (s *scans) miss(ino Ino, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.missing[ino]
	if !ok {
		s.missing[ino], since = now, now
	}
	return since
}

// found says whether the inode was missing, and forgets it.
func (s *scans) found(ino Ino) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.missing[ino]
	delete(s.missing, ino)
	return ok
}

// followsDelete says whether what others remove from the share is meant to be
// deleted: see ShareDeletes.
func (c *Cache) followsDelete(path string) bool {
	return c.cfg.ShareDeletes == FollowDeleted && c.rules.Of(path).Name != "template" && c.rules.Of(path+"/x").Name != "template"
}

// isLost says whether the depot has no version of a file.
func isLost(rec *catalog.Inode) bool { return len(rec.Objects) == 0 || rec.Base.Gen == 0 }

// isMissing is the answer to who opens a file that others removed and whose
// deletion will be followed: as if it was done.
func (c *Cache) isMissing(rec *catalog.Inode, path string) error {
	now := c.now()
	c.scans.miss(rec.Ino, now)
	c.scans.heat(rec.Links[0].Parent, now)
	return fmt.Errorf("open %q: it was removed from the share: %w", path, iofs.ErrNotExist)
}

// missed is called when the share, whose marker is there, does not have a name that
// the catalog says is there. What the depot has is there again, or the deletion is
// followed when it has lasted.
func (c *Cache) missed(d lockedDir, rec *catalog.Inode, name, path string) error {
	if err := c.checkMarker(); err != nil {
		return err // not the file, the whole share is missing
	}
	if isDir(rec) {
		return c.missedDir(d, rec, name, path)
	}
	open, sending := false, false
	if n := c.peek(rec.Ino); n != nil {
		n.mu.Lock()
		open, sending = n.file != nil && n.whole.Load(), n.upload != nil
		n.mu.Unlock()
		c.drop(n)
	}
	if c.moves.leave(rec, open) {
		return nil // renamed, it seems: followMoves sees to it
	}
	lost := isLost(rec) && !isSymlink(rec)
	if lost || c.followsDelete(path) && rec.Flags&catalog.FlagUnseen == 0 { // who removed theirs did not see the depot's
		return c.followMissing(d, rec, name, path, lost)
	}
	switch {
	case isSymlink(rec):
		return c.restoreSymlink(rec, path)
	case len(rec.Links) > 1 && c.restoreLink(rec, path):
		return nil
	case sending:
		return nil // the depot has what is open in a moment
	case open && len(rec.Links) == 1:
		err := c.restoreOpen(d, rec, name, path)
		if errors.Is(err, errUnsettled) {
			c.work.Add(rec.Ino, c.now()) // the worker asks the depot
		}
		return err
	}
	_, err := c.vanished(rec, path)
	return err
}

// followMissing deletes a file that was missing for long enough.
func (c *Cache) followMissing(d lockedDir, rec *catalog.Inode, name, path string, lost bool) error {
	now := c.now()
	since := c.scans.miss(rec.Ino, now)
	c.scans.heat(d.rec.Ino, now)
	if now.Sub(since) < missingTime {
		return nil
	}
	if lost {
		c.log.Error("a file that was not uploaded yet was removed from the share", "path", path, "size", rec.Size)
	} else {
		c.log.Info("a file was removed from the share; it is deleted everywhere", "path", path)
	}
	open := false
	if n := c.peek(rec.Ino); n != nil {
		defer c.drop(n)
		n.mu.Lock()
		defer n.mu.Unlock()
		c.cancelUpload(n, rec)
		open = n.handles > 0
	}
	if err := c.forgetName(d, rec.Ino, name, path, open, &catalog.Intent{}, byUs); err != nil {
		return err
	}
	c.scans.found(rec.Ino)
	c.problems.clear("lost", path)
	c.kick(rec.Ino)
	c.kickRemovals(rec, path)
	c.entryChanged(d.rec.Ino, name)
	c.changed.wake()
	return nil
}

// restoreSymlink makes a symlink again: the depot has it.
func (c *Cache) restoreSymlink(rec *catalog.Inode, path string) error {
	err := c.share.Symlink(rec.Target, path)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil // its directory is missing too, and is made when it is needed
	}
	if err != nil {
		return err
	}
	if err := c.share.Chown(path, int(rec.UID), int(rec.GID)); err != nil && !errors.Is(err, iofs.ErrPermission) {
		return err
	}
	return c.restamp(rec, path)
}

// restoreLink makes a name again whose file has others; it reports whether it did.
func (c *Cache) restoreLink(rec *catalog.Inode, path string) bool {
	for _, l := range rec.Links {
		d, err := c.lookDir(l.Parent)
		if err != nil {
			continue
		}
		other := join(d.path, l.Name)
		if st, err := c.share.StatSync(other); err != nil || st.Ino != rec.Stamp.Ino || other == path {
			continue
		}
		if c.share.Link(other, path) == nil {
			return c.restamp(rec, path) == nil
		}
	}
	return false
}

// restamp notes the stamp of a name that we have just made.
func (c *Cache) restamp(rec *catalog.Inode, path string) error {
	st, err := c.share.Stat(path)
	if err != nil {
		return err
	}
	_, err = c.change(rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		now := st.Stamp()
		if isSymlink(r) || sameContent(now, r.Stamp) {
			r.Stamp = now
		}
		return nil
	})
	c.log.Warn("a name vanished from the share and was made again", "path", path)
	return err
}

// missedDir notes that a directory is not in the share any more. What the depot
// has in it is remote, and the directory is made again when it is needed; where
// deletions are followed it goes when nothing is left in it.
func (c *Cache) missedDir(d lockedDir, rec *catalog.Inode, name, path string) error {
	if rec.Flags&catalog.FlagHere != 0 {
		if _, err := c.change(rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
			r.Flags &^= catalog.FlagHere
			return nil
		}); err != nil {
			return err
		}
		c.log.Warn("a directory vanished from the share", "path", path)
	}
	c.dirSeen.Delete(rec.Ino) // what is in it is looked at next
	never, err := c.neverSent(rec)
	if err != nil {
		return err
	}
	if !never {
		if !c.followsDelete(path) {
			c.scans.found(rec.Ino)
			return nil
		}
		now := c.now()
		c.scans.heat(d.rec.Ino, now)
		c.scans.heat(rec.Ino, now)
		if now.Sub(c.scans.miss(rec.Ino, now)) < missingTime {
			return nil
		}
	}
	done, err := c.forgetIfEmpty(d, rec, name, path)
	if done {
		c.scans.found(rec.Ino)
		c.entryChanged(d.rec.Ino, name)
	}
	return err
}
