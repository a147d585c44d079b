package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"syscall"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

const (
	settingListed = "listed"
	// importBatch is how many names one transaction takes in: enough to make the
	// transaction's cost vanish, few enough to fit a Badger transaction.
	importBatch = 500
	// defaultFile and defaultDir are the modes of objects that carry none.
	defaultFile = syscall.S_IFREG | 0o644
	defaultDir  = syscall.S_IFDIR | 0o755
)

// importAll takes in the whole listing of the depot, once in a catalog's life:
// later changes are this zone's own, or other zones' to announce.
func (c *Cache) importAll(ctx context.Context, d *depot) error {
	done, err := c.setting(settingListed)
	if err != nil {
		return err
	}
	if done != "" {
		c.listed.Store(true)
		return c.readAttrs(ctx, d)
	}
	start := c.now()
	var n int64
	err = d.store.List(ctx, ListQuery{Prefix: c.cfg.Prefix}, func(p ListPage) error {
		n += int64(len(p.Objects))
		return c.importPage(ctx, d, p.Objects)
	})
	if err != nil {
		return fmt.Errorf("list the depot: %w", err)
	}
	if err := c.putSetting(settingListed, c.now().UTC().Format(time.RFC3339)); err != nil {
		return err
	}
	c.listed.Store(true)
	c.log.Info("depot listed", "objects", n, "dur", c.now().Sub(start))
	return c.readAttrs(ctx, d)
}

// unlisted returns the depot if it may have names in a directory that are not known,
// else nil.
func (c *Cache) unlisted(dir *catalog.Inode) *depot {
	d := c.depot.Load()
	if d == nil || c.listed.Load() || dir.Flags&catalog.FlagListed != 0 || !d.joined() {
		return nil
	}
	return d
}

// importDir makes sure that the names that the depot has in one directory are
// known, while importAll is still on its way. A store that does not answer leaves
// what is known.
func (c *Cache) importDir(ctx context.Context, dir *catalog.Inode) error {
	d := c.unlisted(dir)
	if d == nil {
		return nil
	}
	var path string
	err := c.cat.View(func(tx *catalog.Tx) (err error) {
		path, err = dirPath(tx, dir.Ino)
		return err
	})
	if err != nil {
		return err
	}
	prefix := c.cfg.Prefix
	if path != "" {
		key, encoded := layout.Key(c.cfg.Prefix, path, true)
		if encoded {
			return nil // cannot be listed by name; importAll finds what is in it
		}
		prefix = key
	}
	ctx, done := d.use(ctx)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Limits.ColdTimeout)
	defer cancel()
	err = d.store.List(ctx, ListQuery{Prefix: prefix, Delimiter: "/"}, func(p ListPage) error {
		objects := p.Objects
		for _, sub := range p.Prefixes {
			objects = append(objects, ObjectInfo{Key: sub})
		}
		return c.importPage(ctx, d, objects)
	})
	d.report(err)
	if err != nil {
		c.log.Warn("list a directory of the depot", "dir", path, "err", err)
		return nil
	}
	_, err = c.change(dir.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		r.Flags |= catalog.FlagListed
		return nil
	})
	return err
}

// importPage takes in the objects of one page.
func (c *Cache) importPage(ctx context.Context, d *depot, objects []ObjectInfo) error {
	for len(objects) > 0 {
		n := min(len(objects), importBatch)
		for _, o := range objects[:n] {
			if err := c.importObject(ctx, d, o); err != nil {
				return err
			}
		}
		objects = objects[n:]
	}
	return nil
}

// importObject takes in one object whose name is not known yet. Names that cannot
// be shown are counted.
func (c *Cache) importObject(ctx context.Context, d *depot, o ObjectInfo) error {
	path, dir, err := layout.Path(c.cfg.Prefix, o.Key)
	if errors.Is(err, layout.ErrPrivate) {
		if _, ok := layout.IsNameKey(c.cfg.Prefix, o.Key); !ok {
			return nil
		}
		path, dir, err = c.namedPath(ctx, d, o.Key)
	}
	if err != nil {
		if errors.Is(err, layout.ErrNotShowable) {
			c.badNames.Add(1)
			c.log.Debug("object cannot be shown", "key", o.Key, "err", err)
			return nil
		}
		return err
	}
	if path == "" {
		return nil
	}
	if hides, err := c.hides(path, o); hides || err != nil {
		return err
	}
	if rm, err := c.removal(o.Key); err != nil {
		return err
	} else if rm != nil && rm.Version != "" { // of an attempt that may never have come there: then this is another one
		info, err := d.store.Head(ctx, o.Key)
		d.report(err)
		if err != nil {
			return ignoreNotFound(err)
		}
		info.Key = o.Key
		o = info
	}
	parent, name, err := c.importParents(path)
	if err != nil {
		return err
	}
	if parent == 0 {
		c.badNames.Add(1)
		return c.notTaken()
	}
	return c.importName(parent, name, dir, o)
}

// namedPath asks an object under .depotfs/names for its path.
func (c *Cache) namedPath(ctx context.Context, d *depot, key string) (string, bool, error) {
	return c.namedPathBelow(ctx, d, c.cfg.Prefix, key)
}

// namedPathBelow is namedPath for an object below any prefix.
func (c *Cache) namedPathBelow(ctx context.Context, d *depot, prefix, key string) (string, bool, error) {
	info, err := d.store.Head(ctx, key)
	if err != nil {
		return "", false, fmt.Errorf("read the name of %s: %w", key, err)
	}
	a, _ := layout.Decode(info.Metadata)
	if a.Path == "" {
		body, _, err := d.store.Get(ctx, layout.PathKey(key), 0, maxPathBody, "")
		if errors.Is(err, ErrNotFound) {
			return "", false, layout.ErrNotShowable
		}
		if err != nil {
			return "", false, err
		}
		defer body.Close()
		b := make([]byte, maxPathBody)
		n, _ := readFull(body, b)
		a.Path = string(b[:n])
	}
	return layout.NamedPath(prefix, key, a.Path)
}

const maxPathBody = 64 << 10 // bytes; paths of more are not made by anything

// importParents makes the directories above path known and returns the last of
// them with the name in it; 0 where a file is in the way.
func (c *Cache) importParents(path string) (Ino, string, error) {
	parent := catalog.Root
	for {
		head, rest, more := strings.Cut(path, "/")
		if !more {
			return parent, head, nil
		}
		rec, err := c.find(parent, head)
		if errors.Is(err, iofs.ErrNotExist) {
			if err = c.importName(parent, head, true, ObjectInfo{}); err != nil {
				return 0, "", err
			}
			rec, err = c.find(parent, head)
		}
		if err != nil {
			return 0, "", err
		}
		if !isDir(rec) {
			return 0, "", nil
		}
		parent, path = rec.Ino, rest
	}
}

// importName makes one name known, unless catalog or share have it already: what
// is in the share is compared with the depot when its turn to be uploaded comes.
func (c *Cache) importName(parent Ino, name string, dir bool, o ObjectInfo) error {
	if rec, err := c.find(parent, name); err == nil {
		return c.importKnown(rec, dir, o)
	} else if !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	ino, err := c.cat.NextIno()
	if err != nil {
		return err
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return err
	}
	err = c.withDir(parent, func(d lockedDir) error {
		if rec, err := c.find(parent, name); err == nil {
			return c.importKnown(rec, dir, o)
		}
		if d.rec.Flags&catalog.FlagHere != 0 {
			if st, err := c.share.Stat(join(d.path, name)); err == nil {
				_, err = c.adopt(d, name, st)
				return err
			}
		}
		if rm, err := c.removing(o); err != nil || rm {
			return err // deleted here; the depot will follow
		}
		return c.cat.Update(func(tx *catalog.Tx) error { return c.putImported(tx, ino, gen, d, name, dir, o) })
	})
	if err == nil {
		c.entryChanged(parent, name)
	}
	return err
}

// removing says whether an object that was found is one that is to go.
func (c *Cache) removing(o ObjectInfo) (bool, error) {
	rm, err := c.removal(o.Key)
	switch {
	case err != nil || rm == nil:
		return false, err
	case rm.ETag == o.ETag:
		return true, nil
	case rm.Version == "":
		return rm.ETag == "", nil
	}
	return o.Metadata == nil || o.Metadata[metaVersion] == rm.Version || c.leftover(o), nil
}

// removal is that of a key, nil for none.
func (c *Cache) removal(key string) (rm *catalog.Removal, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		rm, err = tx.Removal(key)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, nil
	}
	return rm, err
}

// importKnown ties an object to a directory that had none.
func (c *Cache) importKnown(rec *catalog.Inode, dir bool, o ObjectInfo) error {
	if !dir || !isDir(rec) || o.ETag == "" || ownsKey(rec, o.Key) {
		return nil
	}
	_, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		return c.claim(tx, r, catalog.Object{Key: o.Key, ETag: o.ETag, Gen: r.Gen})
	})
	return err
}

func (c *Cache) putImported(tx *catalog.Tx, ino Ino, gen uint64, d lockedDir, name string, dir bool, o ObjectInfo) error {
	mtime := o.Modified.UnixNano()
	if o.Modified.IsZero() {
		mtime = c.nanos()
	}
	rec := &catalog.Inode{Ino: ino, Gen: gen, Mode: defaultFile, Nlink: 1, Size: o.Size,
		Atime: mtime, Mtime: mtime, Ctime: mtime, Links: []catalog.Link{{Parent: d.rec.Ino, Name: name}}}
	rec.UID, rec.GID = d.rec.UID, d.rec.GID
	dirs := 0
	if dir {
		rec.Mode, rec.Nlink, rec.Size, rec.Blocks, dirs = defaultDir, 2, 4096, 8, 1
	} else {
		if err := step(rec, evImport); err != nil {
			return err
		}
		rec.Base = catalog.Version{Gen: gen, Size: o.Size}
		rec.BaseLimit = o.Size
	}
	if err := c.dropHeld(tx, join(d.path, name)); err != nil { // there is a later version
		return err
	}
	if dir && o.ETag == "" {
		rec.Flags |= catalog.FlagNoAttr
		if r, err := keptAttrs(tx, join(d.path, name), true); err != nil {
			return err
		} else if r != nil {
			setRecordAttrs(rec, *r)
		}
	}
	if o.ETag != "" {
		rec.Flags |= catalog.FlagNoAttr
		if err := c.claim(tx, rec, catalog.Object{Key: o.Key, ETag: o.ETag, Gen: gen}); err != nil {
			return err
		}
	}
	if err := tx.PutDirent(catalog.Dirent{Parent: d.rec.Ino, Name: name, Ino: ino, Type: rec.Mode & syscall.S_IFMT}); err != nil {
		return err
	}
	parent, err := inode(tx, d.rec.Ino)
	if err != nil {
		return err
	}
	parent.Nlink += uint32(dirs)
	if err := tx.PutInode(parent); err != nil {
		return err
	}
	return tx.PutInode(rec)
}
