package cache

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"

	"depotfs/cache/catalog"
)

// errMoved says that a name was changed between looking and locking; try again.
var errMoved = errors.New("moved meanwhile")

// maxDepth bounds the walk to the root: a longer chain is a damaged catalog.
// PATH_MAX allows 2,048 directories of one letter in one call, and relative
// calls go deeper.
const maxDepth = 1 << 16

// inodes answers by number: a transaction as of its beginning, the catalog as of now.
type inodes interface {
	Inode(Ino) (*catalog.Inode, error)
}

// dirPath returns the share-relative path of a directory ("" for the root). Read from
// the catalog it is exact only while the caller keeps all paths in place.
func dirPath(in inodes, ino Ino) (string, error) {
	var room [16]string // deeper than CloudStack's tree
	parts := room[:0]
	for depth := 0; ino != catalog.Root; depth++ {
		rec, err := in.Inode(ino)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && len(rec.Links) == 0 {
			return "", ErrStale
		}
		if err != nil {
			return "", err
		}
		if depth > maxDepth {
			return "", fmt.Errorf("inode %d: %w: endless chain of parents", ino, catalog.ErrDamaged)
		}
		parts = append(parts, rec.Links[0].Name)
		ino = rec.Links[0].Parent
	}
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, "/"), nil
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// pathOf is where the first name of rec is, for people and for keys.
func (c *Cache) pathOf(rec *catalog.Inode) (string, error) {
	if rec.Ino == catalog.Root {
		return "", nil
	}
	if len(rec.Links) == 0 {
		return "", iofs.ErrNotExist
	}
	var p string
	err := c.cat.View(func(tx *catalog.Tx) error {
		d, err := dirPath(tx, rec.Links[0].Parent)
		p = join(d, rec.Links[0].Name)
		return err
	})
	return p, err
}

// pathText is pathOf for logs and status.
func (c *Cache) pathText(rec *catalog.Inode) string {
	p, err := c.pathOf(rec)
	if err != nil {
		return fmt.Sprintf("(inode %d, no name)", rec.Ino)
	}
	return p
}

// lockedDir is a directory whose lock is held, with its path in the share.
type lockedDir struct {
	rec  *catalog.Inode // shared: to read only
	path string
}

// withDir locks the directory exclusively and keeps all paths in place while fn runs.
func (c *Cache) withDir(dir Ino, fn func(d lockedDir) error) error {
	if c.gone.Load() {
		return ErrMarker
	}
	c.tree.RLock()
	defer c.tree.RUnlock()
	defer c.dirs.lock(dir)()
	d, err := c.lookDir(dir)
	if err != nil {
		return err
	}
	return fn(d)
}

// lookDir reads a directory's record and path; its lock is held.
func (c *Cache) lookDir(dir Ino) (lockedDir, error) {
	rec, err := inode(c.cat, dir)
	if err != nil {
		return lockedDir{}, err
	}
	if !isDir(rec) {
		return lockedDir{}, errNotDir
	}
	path, err := dirPath(c.cat, dir)
	return lockedDir{rec, path}, err
}

// withName keeps one name of the inode in place (its directory locked
// exclusively if excl, else shared) while fn runs with its current record and
// path. An inode without a name answers iofs.ErrNotExist.
func (c *Cache) withName(ino Ino, excl bool, fn func(rec *catalog.Inode, path string) error) error {
	for {
		err := c.tryName(ino, excl, fn)
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}

func (c *Cache) tryName(ino Ino, excl bool, fn func(rec *catalog.Inode, path string) error) error {
	if c.gone.Load() {
		return ErrMarker
	}
	c.tree.RLock()
	defer c.tree.RUnlock()
	rec, err := inode(c.cat, ino)
	if err != nil {
		return err
	}
	if len(rec.Links) == 0 {
		return fmt.Errorf("inode %d: %w", ino, iofs.ErrNotExist)
	}
	at := rec.Links[0]
	if excl {
		defer c.dirs.lock(at.Parent)()
	} else {
		defer c.dirs.rlock(at.Parent)()
	}
	if rec, err = c.record(ino); err != nil {
		return err
	}
	if len(rec.Links) == 0 || rec.Links[0] != at {
		return errMoved
	}
	d, err := dirPath(c.cat, at.Parent)
	if err != nil {
		return err
	}
	return fn(rec, join(d, at.Name))
}

// inode reads a record and says ErrStale where there is none. What the catalog
// itself answers is shared and only to be read; see record.
func inode(in inodes, ino Ino) (*catalog.Inode, error) {
	rec, err := in.Inode(ino)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, fmt.Errorf("inode %d: %w", ino, ErrStale)
	}
	return rec, err
}

// record reads one inode as it is now; the record is the caller's own.
func (c *Cache) record(ino Ino) (*catalog.Inode, error) {
	rec, err := inode(c.cat, ino)
	if err != nil {
		return nil, err
	}
	return rec.Clone(), nil
}

// change reads an inode, lets fn alter it and writes it back, in one transaction.
func (c *Cache) change(ino Ino, fn func(tx *catalog.Tx, rec *catalog.Inode) error) (*catalog.Inode, error) {
	var rec *catalog.Inode
	err := c.cat.Update(func(tx *catalog.Tx) error {
		var err error
		if rec, err = inode(tx, ino); err != nil {
			return err
		}
		if err := fn(tx, rec); err != nil {
			return err
		}
		return tx.PutInode(rec)
	})
	return rec, err
}

// parentPath is the directory of a share-relative path.
func parentPath(path string) string {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)]
}
