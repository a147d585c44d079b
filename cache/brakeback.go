package cache

import (
	"errors"
	iofs "io/fs"
	"os"
	"syscall"

	"depotfs/cache/catalog"
)

// bringBack gives a name that is gone here to a new inode with all that the former one
// had; why says what is in the way. Its bytes are in the depot.
func (c *Cache) bringBack(h *catalog.HeldDelete) (why string, err error) {
	parent, name, err := c.importParents(h.Path)
	if err != nil {
		return "", err
	}
	if parent == 0 {
		return "a file has the name of a directory above it: move that away", nil
	}
	ino, err := c.cat.NextIno()
	if err != nil {
		return "", err
	}
	var back *catalog.Inode
	err = c.withDir(parent, func(d lockedDir) error {
		now, err := c.find(parent, name)
		if errors.Is(err, iofs.ErrNotExist) && d.rec.Flags&catalog.FlagHere != 0 {
			if st, serr := c.share.Stat(join(d.path, name)); serr == nil {
				now, err = c.adopt(d, name, st)
			}
		}
		switch {
		case err == nil && sameName(now, h.Inode):
			return c.joinObjects(now.Ino, h)
		case err == nil:
			why = "a new file has the name, and replaces the object once it is uploaded"
			return nil
		case !errors.Is(err, iofs.ErrNotExist):
			return err
		}
		if back, err = heldInode(h.Inode, ino, catalog.Link{Parent: parent, Name: name}); err != nil {
			return err
		}
		if isSymlink(back) {
			if err := c.linkBack(d, back, join(d.path, name)); err != nil {
				return err
			}
		}
		return c.cat.Update(func(tx *catalog.Tx) error { return c.restoreHeld(tx, h, back) })
	})
	if err != nil || back == nil {
		return why, err
	}
	c.entryChanged(parent, name)
	c.inodeChanged(parent)
	c.kick(ino)
	if isRegular(back) {
		c.wantEagerly(back, h.Path)
	}
	return "", nil
}

// sameName says whether what has a name now is as good as what had it.
func sameName(now, was *catalog.Inode) bool {
	return isDir(now) && isDir(was) || isSymlink(now) && isSymlink(was) && now.Target == was.Target
}

// heldInode is the record of a name that comes back.
func heldInode(was *catalog.Inode, ino Ino, at catalog.Link) (*catalog.Inode, error) {
	r := was.Clone()
	r.Ino, r.Links, r.Nlink = ino, []catalog.Link{at}, 1
	r.Flags &= catalog.FlagPinned | catalog.FlagNoAttr
	r.Stamp, r.DirtySince = catalog.Stamp{}, 0
	switch {
	case isDir(r):
		r.Nlink, r.Size, r.Blocks = 2, 4096, 8
	case isRegular(r):
		if holdsOnlyCopy(was.State) {
			r.Flags |= catalog.FlagNoAttr // these are of bytes that are gone; the object says its own
		}
		r.Gen, r.BaseLimit, r.Size = r.Base.Gen, r.Base.Size, r.Base.Size
		r.State = Absent
		return r, step(r, evImport)
	}
	return r, nil
}

// restoreHeld is the catalog's side of bringBack.
func (c *Cache) restoreHeld(tx *catalog.Tx, h *catalog.HeldDelete, r *catalog.Inode) error {
	now, err := tx.HeldDelete(h.Path)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && now.Time != h.Time {
		return iofs.ErrNotExist // decided meanwhile
	}
	if err != nil {
		return err
	}
	objects := r.Objects
	r.Objects = nil
	for _, o := range objects {
		if _, err := tx.KeyOwner(o.Key); err == nil {
			continue // another file's by now
		}
		if err := c.claim(tx, r, o); err != nil {
			return err
		}
	}
	if err := c.dropHeld(tx, h.Path); err != nil {
		return err
	}
	at := r.Links[0]
	if err := tx.PutDirent(catalog.Dirent{Parent: at.Parent, Name: at.Name, Ino: r.Ino, Type: r.Mode & syscall.S_IFMT}); err != nil {
		return err
	}
	if err := c.touchRemoteDir(tx, at.Parent, subdirs(r)); err != nil {
		return err
	}
	keys, _, err := c.wantedIn(tx, r)
	if err != nil {
		return err
	}
	if len(r.Objects) > 0 && !ownsKey(r, keys[0]) { // a directory above it was renamed meanwhile
		if err := c.putQueue(tx, r, 0, false); err != nil {
			return err
		}
	}
	return tx.PutInode(r)
}

// joinObjects gives the objects of a directory or link that is gone to the one that has
// its name.
func (c *Cache) joinObjects(ino Ino, h *catalog.HeldDelete) error {
	_, err := c.change(ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		for _, o := range h.Inode.Objects {
			if _, err := tx.KeyOwner(o.Key); err == nil {
				continue
			}
			if err := c.claim(tx, r, o); err != nil {
				return err
			}
		}
		return c.dropHeld(tx, h.Path)
	})
	return err
}

// linkBack makes a symlink in the share; others, which a crash may have left, are looked
// at before.
func (c *Cache) linkBack(d lockedDir, rec *catalog.Inode, path string) error {
	if err := c.makeHere(d); err != nil {
		return err
	}
	if err := c.share.Symlink(rec.Target, path); err != nil {
		return err
	}
	if err := c.share.Chown(path, int(rec.UID), int(rec.GID)); err != nil && (os.Geteuid() == 0 || !errors.Is(err, iofs.ErrPermission)) {
		return err
	}
	st, err := c.share.Stat(path)
	if err == nil {
		rec.Stamp = st.Stamp()
	}
	return err
}
