package cache

import (
	"errors"
	iofs "io/fs"
	"maps"
	"slices"
	"syscall"

	"depotfs/cache/catalog"
)

// agree brings the catalog's names of a directory in line with the share's, when
// the share's directory has changed since the last look.
func (c *Cache) agree(rec *catalog.Inode) error {
	if c.gone.Load() {
		return nil // what is known is shown
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
	here := err == nil && st.IsDir()
	if err != nil && !errors.Is(notThere(err), iofs.ErrNotExist) {
		return err
	}
	if known := rec.Flags&catalog.FlagHere != 0; here != known && rec.Ino != catalog.Root {
		if err := c.lookAtInode(rec.Ino); err != nil {
			return err
		}
	}
	if !here {
		return nil
	}
	if seen, ok := c.dirSeen.Load(rec.Ino); ok && seen.(int64) == st.Mtime {
		return nil
	}
	if err := c.withDir(rec.Ino, c.agreeLocked); err != nil {
		return err
	}
	return c.followMoves()
}

// outsideName is a name as a listing of the share's directory shows it.
type outsideName struct {
	ino uint64
	typ uint32 // 0: the file system does not say
}

// agreeLocked compares the names of one directory; it is locked exclusively. What
// is new is adopted; what is missing, or another file, is looked at.
func (c *Cache) agreeLocked(d lockedDir) error {
	st, err := c.share.StatSync(d.path)
	if err != nil {
		return notThere(err)
	}
	there := map[string]outsideName{}
	if err := c.share.ReadDir(d.path, func(name string, ino uint64, typ uint32) error {
		if !hidden(d.rec.Ino, name) {
			there[name] = outsideName{ino, typ}
		}
		return nil
	}); err != nil {
		return notThere(err)
	}
	var odd []catalog.Dirent
	if err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.ReadDir(d.rec.Ino, 0, func(e catalog.Dirent) bool {
			o, ok := there[e.Name]
			delete(there, e.Name)
			if rec, err := tx.Inode(e.Ino); err == nil && differs(rec, o, ok) {
				odd = append(odd, e)
			}
			return true
		})
	}); err != nil {
		return err
	}
	var errs []error
	for _, e := range odd {
		rec, err := c.record(e.Ino)
		if err == nil {
			err = c.lookAt(d, rec, e.Name)
		}
		if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, iofs.ErrNotExist) && !errors.Is(err, errUnsettled) {
			errs = append(errs, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if err := c.adoptName(d, name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	// A directory that changed within the grain of its own clock may change again
	// without showing it: only an older look is remembered.
	if now, err := c.share.Now(); err == nil && now-st.Mtime > c.grain() {
		c.dirSeen.Store(d.rec.Ino, st.Mtime)
	} else {
		c.dirSeen.Delete(d.rec.Ino)
	}
	return nil
}

// differs says whether a name is to be looked at. The inode number of a listing is
// a hint only: on some file systems it is not the one that stat shows.
func differs(rec *catalog.Inode, o outsideName, there bool) bool {
	here := inShare(rec)
	switch {
	case !there:
		return here
	case !here, o.typ != 0 && o.typ != rec.Mode&syscall.S_IFMT:
		return true
	case isDir(rec):
		return false
	}
	return o.ino != rec.Stamp.Ino
}

// adoptName takes in a name that the catalog does not have.
func (c *Cache) adoptName(d lockedDir, name string) error {
	st, err := c.share.Stat(join(d.path, name))
	if err != nil {
		return err
	}
	_, err = c.adopt(d, name, st)
	return err
}
