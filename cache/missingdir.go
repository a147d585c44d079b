package cache

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	"depotfs/cache/catalog"
)

// inDir is withDir for who makes a name. A directory that others removed is looked at
// first: what the depot has is made again, another one is not there any more.
func (c *Cache) inDir(dir Ino, fn func(d lockedDir) error) error {
	for try := 0; ; try++ {
		err := c.withDir(dir, func(d lockedDir) error { return c.dirMissing(d, fn(d)) })
		if !errors.Is(err, errOutside) || try == maxLooks {
			return err
		}
		if lerr := c.lookAtDirs(dir); lerr != nil {
			return errors.Join(err, lerr)
		}
		if c.followsRemoval(dir) {
			return err
		}
	}
}

// dirMissing says errOutside of an error that comes from others having removed the
// directory, which is locked.
func (c *Cache) dirMissing(d lockedDir, err error) error {
	if !errors.Is(notThere(err), iofs.ErrNotExist) || d.rec.Flags&catalog.FlagHere == 0 || len(d.rec.Links) == 0 {
		return err
	}
	if st, serr := c.share.StatSync(d.path); !errors.Is(notThere(serr), iofs.ErrNotExist) && (serr != nil || st.IsDir()) {
		return err
	}
	return fmt.Errorf("directory %q: %w: %w", d.path, errOutside, err)
}

// lookAtDirs compares a directory and those above it with the share, up to one that
// is there. No lock may be held.
func (c *Cache) lookAtDirs(dir Ino) error {
	for depth := 0; dir != catalog.Root && depth < maxDepth; depth++ {
		rec, err := c.record(dir)
		if err == nil && len(rec.Links) > 0 {
			dir = rec.Links[0].Parent
			err = c.lookAtName(dir, rec.Links[0].Name)
		} else if err == nil {
			return nil // gone by now
		}
		switch {
		case errors.Is(err, ErrStale), errors.Is(err, iofs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		if now, err := c.record(rec.Ino); err == nil && now.Flags&catalog.FlagHere != 0 {
			return nil
		}
	}
	return nil
}

// followsRemoval says whether the removal of a directory by others is meant.
func (c *Cache) followsRemoval(dir Ino) bool {
	if dir == catalog.Root {
		return false
	}
	rec, err := c.record(dir)
	if err != nil || len(rec.Links) == 0 {
		return true
	}
	return rec.Flags&catalog.FlagHere == 0 && c.followsDelete(c.pathText(rec))
}

// neverSent says whether a directory is nowhere but in the catalog: others removed it
// before the depot had it, and nothing is in it.
func (c *Cache) neverSent(rec *catalog.Inode) (bool, error) {
	never := len(rec.Objects) == 0
	err := c.cat.View(func(tx *catalog.Tx) error {
		_, err := tx.Upload(rec.Ino)
		if !errors.Is(err, catalog.ErrNotFound) {
			never = false
			return err
		}
		has, err := tx.HasChildren(rec.Ino)
		never = never && !has
		return err
	})
	return never, err
}

// forgetIfEmpty removes a directory that is not in the share any more from the catalog
// if nothing is in it, and nobody is making something; its parent is locked.
func (c *Cache) forgetIfEmpty(d lockedDir, rec *catalog.Inode, name, path string) (done bool, err error) {
	unlock, ok := c.dirs.tryLock(rec.Ino)
	if !ok {
		return false, nil // the next look finds out
	}
	defer unlock()
	if st, err := c.share.StatSync(path); err == nil && st.IsDir() {
		return false, nil // made again meanwhile
	}
	err = c.emptyDir(rec, path)
	if errors.Is(err, syscall.ENOTEMPTY) {
		return false, nil // what only the depot has, nobody saw when the directory was removed
	}
	if err != nil {
		return false, err
	}
	return true, c.forgetDir(d, rec, name, path, nil, byUs)
}
