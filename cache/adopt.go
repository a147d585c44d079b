package cache

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// adopt takes a file that others made in the share into the catalog. Its
// directory is locked exclusively and the catalog does not have the name. What
// the clean log proves to be the depot's version is clean; the rest is dirty and
// compared with the depot before it is uploaded.
func (c *Cache) adopt(d lockedDir, name string, st share.Stat) (*catalog.Inode, error) {
	if hidden(d.rec.Ino, name) || sillyRenamed(name) {
		return nil, iofs.ErrNotExist
	}
	ino, err := c.cat.NextIno()
	if err != nil {
		return nil, err
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return nil, err
	}
	path := join(d.path, name)
	rec := &catalog.Inode{Ino: ino, Gen: gen, Mode: st.Mode, Links: []catalog.Link{{Parent: d.rec.Ino, Name: name}}, Flags: catalog.FlagAdopted}
	switch st.Type() {
	case syscall.S_IFLNK:
		if rec.Target, err = c.share.Readlink(path); err != nil {
			return nil, err
		}
	case syscall.S_IFDIR:
		rec.Flags |= catalog.FlagHere
		if err := c.toWalk(ino); err != nil {
			return nil, fmt.Errorf("adopt %q: %w", path, err)
		}
	}
	if err := c.addName(d, rec, path, st); err != nil {
		return nil, fmt.Errorf("adopt %q: %w", path, err)
	}
	c.entryChanged(d.rec.Ino, name)
	c.adoption.counted(st)
	c.log.Debug("adopted", "path", path, "size", st.Size)
	c.kickRec(rec)
	return rec, nil
}

// sillyRenamed says whether a name is an NFS client's stand-in for a file that it
// has open and that was unlinked: it goes away by itself.
func sillyRenamed(name string) bool { return strings.HasPrefix(name, ".nfs") && len(name) > 12 }

// agree brings the catalog's names of a directory in line with the share's, when
// the share's directory has changed since the last look.
func (c *Cache) agree(rec *catalog.Inode) error {
	if rec.Flags&catalog.FlagHere == 0 {
		return nil
	}
	err := c.agreeIfMoved(rec)
	if errors.Is(err, ErrStale) || errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	return err
}

func (c *Cache) agreeIfMoved(rec *catalog.Inode) error {
	var path string
	if err := c.cat.View(func(tx *catalog.Tx) error {
		var err error
		path, err = dirPath(tx, rec.Ino)
		return err
	}); err != nil {
		return err
	}
	st, err := c.share.StatSync(path)
	if err != nil {
		return notThere(err)
	}
	if seen, ok := c.dirSeen.Load(rec.Ino); ok && seen.(int64) == st.Mtime {
		return nil
	}
	return c.withDir(rec.Ino, c.agreeLocked)
}

// changedDir notes the mtime that a change of our own gave a directory. One that
// nobody has looked through yet still has to be.
func (c *Cache) changedDir(dir Ino, mtime int64) {
	if _, ok := c.dirSeen.Load(dir); ok {
		c.dirSeen.Store(dir, mtime)
	}
}

// agreeLocked compares the names of one directory; it is locked exclusively.
func (c *Cache) agreeLocked(d lockedDir) error {
	st, err := c.share.StatSync(d.path)
	if err != nil {
		return notThere(err)
	}
	there := map[string]bool{}
	var unknown []string
	if err := c.share.ReadDir(d.path, func(name string, _ uint64, _ uint32) error {
		if !hidden(d.rec.Ino, name) {
			there[name] = true
		}
		return nil
	}); err != nil {
		return notThere(err)
	}
	if err := c.cat.View(func(tx *catalog.Tx) error {
		for name := range there {
			_, err := tx.Lookup(d.rec.Ino, name)
			if errors.Is(err, catalog.ErrNotFound) {
				unknown = append(unknown, name)
			} else if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, name := range unknown {
		fst, err := c.share.Stat(join(d.path, name))
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := c.adopt(d, name, fst); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
	}
	// A directory that changed within the grain of its own clock may change again
	// without showing it: only an older look is remembered.
	if now, err := c.share.Now(); err == nil && now-st.Mtime > stampGrain {
		c.dirSeen.Store(d.rec.Ino, st.Mtime)
	} else if len(unknown) == 0 && err == nil {
		c.dirSeen.Delete(d.rec.Ino)
	}
	return nil
}
