package cache

import (
	"errors"
	iofs "io/fs"
	"syscall"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// errOutside says that others changed a name in the share. What they did has to be
// taken in first, with the directory locked exclusively: lookAtInode does it.
var errOutside = errors.New("changed in the share")

// lookAtInode compares the first name of an inode with the share.
func (c *Cache) lookAtInode(ino Ino) error {
	rec, err := c.record(ino)
	if err != nil {
		return err
	}
	if len(rec.Links) == 0 {
		return nil
	}
	return c.lookAtName(rec.Links[0].Parent, rec.Links[0].Name)
}

// lookAtName compares one name with the share.
func (c *Cache) lookAtName(dir Ino, name string) error {
	for {
		err := c.withDir(dir, func(d lockedDir) error {
			rec, err := c.find(dir, name)
			if err != nil {
				return err
			}
			return c.lookAt(d, rec, name)
		})
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}

// takeIn has an inode looked at where err says that others changed it; the work that
// met it is tried again.
func (c *Cache) takeIn(ino Ino, err error) error {
	if !errors.Is(err, errOutside) {
		return err
	}
	if err := c.lookAtInode(ino); err != nil {
		return err
	}
	return laterError{c.now().Add(100 * time.Millisecond), "was changed in the share"}
}

// lookAt compares one name of a directory, which is locked exclusively, with the
// share, and takes in what others did to it: doc.go has the table.
func (c *Cache) lookAt(d lockedDir, rec *catalog.Inode, name string) error {
	if _, aside := c.evicting.Load(rec.Ino); aside {
		return nil // not at its plain path for a minute, by our own doing
	}
	path := join(d.path, name)
	st, err := c.share.StatSync(path)
	if errors.Is(notThere(err), iofs.ErrNotExist) {
		if !inShare(rec) && !c.scans.misses(rec.Ino) {
			return nil
		}
		return c.missed(d, rec, name, path)
	}
	if err != nil {
		return err
	}
	if c.scans.found(rec.Ino) {
		c.kick(rec.Ino) // whose upload may have given up meanwhile
	}
	return c.present(d, rec, name, path, st)
}

// present takes in what is at a name that the catalog knows.
func (c *Cache) present(d lockedDir, rec *catalog.Inode, name, path string, st share.Stat) error {
	switch {
	case isDir(rec) && st.IsDir():
		return c.dirIsHere(rec, path)
	case isDir(rec):
		return c.fileForDir(d, rec, name, path, st)
	case !inShare(rec):
		return c.besideRemote(d, rec, name, path, st)
	case otherFile(rec, st):
		if rec.Flags&catalog.FlagUnseen != 0 && !st.IsRegular() {
			return c.besideRemote(d, rec, name, path, st) // what the depot has, nobody replaced
		}
		return c.replace(d, rec, name, path, st, 0)
	case isRegular(rec) && st.Stamp() != rec.Stamp:
		return c.movedOn(rec, path, st)
	}
	return nil
}

// otherFile says whether the share has another file under a name than the catalog.
func otherFile(rec *catalog.Inode, st share.Stat) bool {
	return st.Type() != rec.Mode&syscall.S_IFMT || rec.Stamp.Ino != 0 && st.Ino != rec.Stamp.Ino
}

// dirIsHere notes that the share has a directory.
func (c *Cache) dirIsHere(rec *catalog.Inode, path string) error {
	c.problems.clear("share", path)
	if rec.Flags&catalog.FlagHere != 0 {
		return nil
	}
	_, err := c.change(rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		r.Flags |= catalog.FlagHere
		return nil
	})
	c.dirSeen.Delete(rec.Ino)
	return err
}

// fileForDir is called when others put something else in the place of a directory.
// One that still has names here stays, and with it what the depot has in it.
func (c *Cache) fileForDir(d lockedDir, rec *catalog.Inode, name, path string, st share.Stat) error {
	done, err := c.forgetIfEmpty(d, rec, name, path)
	if err != nil {
		return err
	}
	if !done {
		c.problems.add("share", path, "others put a file here, where a directory is that holds files: move one of them away", c.now())
		return nil
	}
	c.problems.clear("share", path)
	defer c.entryChanged(d.rec.Ino, name)
	_, err = c.adopt(d, name, st)
	return err
}

// besideRemote is called when others made a file under the name of one whose bytes
// are not all here, so that they could not see it. Their file has the name, and the
// depot's version is kept before it is replaced; but a file that is being written
// through the mount keeps its name, and theirs is put aside.
func (c *Cache) besideRemote(d lockedDir, rec *catalog.Inode, name, path string, st share.Stat) error {
	if !st.IsRegular() {
		c.problems.add("share", path, "others put something here that is no regular file, where the depot has one: move it away", c.now())
		return nil
	}
	if own, err := c.share.Stat(share.PartialPath(uint64(rec.Ino))); err == nil && own.Ino == st.Ino {
		return nil // the file itself, on its way to its place
	}
	if rec.State == PartialDirty {
		return c.setAside(path)
	}
	return c.replace(d, rec, name, path, st, catalog.FlagUnseen)
}

// setAside moves a file that others made to .depotfs/conflicts in the share.
func (c *Cache) setAside(path string) error {
	to := share.ConflictPath(c.now(), path)
	if err := c.share.MkdirAll(parentPath(to), 0o700); err != nil {
		return err
	}
	if err := c.share.Rename(path, to, share.NoReplace); err != nil {
		return err
	}
	c.noteConflict(path, c.cfg.CacheDir+"/"+to, lostWritten, 0)
	return nil
}

// movedOn is called for a file that is still the same one and has another stamp.
func (c *Cache) movedOn(rec *catalog.Inode, path string, st share.Stat) error {
	if n := c.peek(rec.Ino); n != nil {
		defer c.drop(n)
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.writers > 0 {
			return nil // the last one to leave looks
		}
	}
	c.scans.heat(rec.Links[0].Parent, c.now())
	return c.changedOutside(rec, path, st)
}

// lookAtDirty notes what others wrote into a file that waits for its upload, when
// somebody opens it; n.mu is held.
func (c *Cache) lookAtDirty(n *node, rec *catalog.Inode, path string) error {
	if rec.State != Dirty || n.handles > 0 || n.p != nil {
		return nil
	}
	st, err := c.share.StatFile(n.file, false)
	if err != nil || st.Stamp() == rec.Stamp {
		return err
	}
	return c.changedOutside(rec, path, st)
}

// stillThere is asked when a file is opened once more: whether the backing file is
// still what the share has under the name; errOutside where it is not. n.mu is held.
func (c *Cache) stillThere(n *node, rec *catalog.Inode, path string) error {
	st, err := c.share.StatSync(path)
	n.missing = false
	if errors.Is(notThere(err), iofs.ErrNotExist) {
		switch {
		case !n.whole.Load():
			return nil // as it should be
		case n.upload != nil, isLost(rec):
			n.missing = true
			return nil
		case c.followsDelete(path) && rec.Flags&catalog.FlagUnseen == 0:
			return c.isMissing(rec, path)
		}
		if n.missing, err = c.isUnsettled(rec); n.missing || err != nil {
			return err // until the depot was asked which version it has, this file has it
		}
		return errOutside
	}
	if err != nil {
		return err
	}
	switch {
	case !n.whole.Load():
		if st.IsRegular() {
			return errOutside
		}
	case otherFile(rec, st):
		return errOutside
	case rec.State == Clean && n.writers == 0 && st.Stamp() != rec.Stamp:
		return errOutside
	}
	return nil
}
