package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
	"depotfs/cache/layout"
)

// readAttrs asks for the metadata of objects that were taken in from a listing.
func (c *Cache) readAttrs(ctx context.Context, d *depot) error {
	for next := catalog.Root; ; {
		var batch []*catalog.Inode
		if err := c.cat.View(func(tx *catalog.Tx) error {
			seen := 0
			return tx.EachInode(next, func(r *catalog.Inode) bool {
				next = r.Ino + 1
				if r.Flags&catalog.FlagNoAttr != 0 && len(r.Objects) > 0 {
					batch = append(batch, r)
				}
				seen++
				return len(batch) < importBatch && seen < 50_000
			})
		}); err != nil {
			return err
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(attrReads)
		for _, r := range batch {
			g.Go(func() error { return c.readAttr(gctx, d, r) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		if len(batch) == 0 {
			more := false
			if err := c.cat.View(func(tx *catalog.Tx) error {
				return tx.EachInode(next, func(*catalog.Inode) bool { more = true; return false })
			}); err != nil {
				return err
			}
			if !more {
				return nil
			}
		}
	}
}

// attrReads is how many objects are asked about at a time: a depot of a million objects
// would take six hours to be known one by one over a line of 20 ms. It is the size of a
// burst that no store minds.
const attrReads = 8

// learnObject reads the metadata of a large file that is about to be fetched whole, where
// only the listing told of it: without its zero map all zeros would be fetched, too.
func (c *Cache) learnObject(ctx context.Context, n *node) error {
	rec, err := c.record(n.ino)
	if err != nil || rec.Flags&catalog.FlagNoAttr == 0 || len(rec.Objects) == 0 || rec.Base.Size <= fetch.FlightSize {
		return err
	}
	d := c.depot.Load()
	if d == nil {
		return nil // the first flight says so
	}
	return c.readAttr(ctx, d, rec)
}

// readAttr applies what one object's metadata says. An object that turns out to be
// a symlink gives its name a new inode: a number never changes its type.
func (c *Cache) readAttr(ctx context.Context, d *depot, rec *catalog.Inode) error {
	obj := rec.Objects[0]
	info, err := d.store.Head(ctx, obj.Key)
	d.report(err)
	if errors.Is(err, ErrNotFound) {
		return nil // its readers will be told
	}
	if err != nil {
		return fmt.Errorf("read metadata of %s: %w", obj.Key, err)
	}
	a, err := layout.Decode(info.Metadata)
	if err != nil {
		c.log.Warn("metadata that is not understood", "key", obj.Key, "err", err)
	}
	if a.Mode&syscall.S_IFMT == syscall.S_IFLNK && isRegular(rec) && info.Size > 0 && info.Size <= syscall.PathMax {
		return c.becomeSymlink(ctx, d, rec, info, a)
	}
	now, err := c.change(rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		r.Flags &^= catalog.FlagNoAttr
		if len(r.Objects) == 0 || r.Objects[0].ETag != info.ETag || holdsOnlyCopy(r.State) {
			return nil
		}
		if r.Flags&catalog.FlagAttrDirty == 0 && (!isDir(r) || r.AttrAt == 0) {
			applyMeta(r, a)
		}
		if isRegular(r) && info.HasCRC64 && !r.Base.HasCRC {
			r.Base.CRC64, r.Base.HasCRC = info.CRC64, true
		}
		learnZeros(r, info.Metadata)
		return nil
	})
	if err == nil {
		c.inodeChanged(rec.Ino)
		err = c.showZeros(now)
	}
	if errors.Is(err, ErrStale) {
		return nil
	}
	return err
}

func applyMeta(r *catalog.Inode, a layout.Attrs) {
	if a.Mode != 0 && (a.Mode&syscall.S_IFMT == 0 || a.Mode&syscall.S_IFMT == r.Mode&syscall.S_IFMT) {
		r.Mode = r.Mode&syscall.S_IFMT | a.Mode&0o7777
	}
	if a.HasOwner {
		r.UID, r.GID = a.UID, a.GID
	}
	if a.HasMtime {
		r.Mtime, r.Atime = a.Mtime, max(r.Atime, a.Mtime)
	}
}

// becomeSymlink replaces a file taken in from a listing by the symlink that it is.
func (c *Cache) becomeSymlink(ctx context.Context, d *depot, rec *catalog.Inode, info ObjectInfo, a layout.Attrs) error {
	body, _, err := d.store.Get(ctx, info.Key, 0, -1, info.ETag)
	if err != nil {
		return fmt.Errorf("read symlink %s: %w", info.Key, err)
	}
	defer body.Close()
	b := make([]byte, info.Size)
	if n, err := readFull(body, b); int64(n) != info.Size {
		return fmt.Errorf("read symlink %s: %w", info.Key, err)
	}
	if len(rec.Links) == 0 || strings.ContainsRune(string(b), 0) {
		return nil
	}
	ino, err := c.cat.NextIno()
	if err != nil {
		return err
	}
	at := rec.Links[0]
	err = c.withDir(at.Parent, func(dir lockedDir) error {
		now, err := c.find(at.Parent, at.Name)
		if err != nil || now.Ino != rec.Ino || now.State != Remote {
			return err
		}
		if n := c.peek(now.Ino); n != nil {
			c.drop(n)
			return nil // somebody reads it as a file; the next mount tries again
		}
		link := *now
		link.Ino, link.Mode, link.State, link.Target = ino, syscall.S_IFLNK|0o777, Absent, string(b)
		link.Base, link.BaseLimit, link.Flags = catalog.Version{}, 0, 0
		applyMeta(&link, a)
		path := join(dir.path, at.Name)
		if err := c.makeHere(dir); err != nil {
			return err
		}
		if err := c.share.Symlink(link.Target, path); err != nil {
			return err
		}
		if err := c.share.Chown(path, int(link.UID), int(link.GID)); err != nil && !errors.Is(err, iofs.ErrPermission) {
			return err
		}
		return c.cat.Update(func(tx *catalog.Tx) error {
			if err := tx.DeleteInode(now.Ino); err != nil {
				return err
			}
			for _, o := range link.Objects {
				if err := tx.SetKeyOwner(o.Key, ino); err != nil {
					return err
				}
			}
			if err := tx.PutDirent(catalog.Dirent{Parent: at.Parent, Name: at.Name, Ino: ino, Type: syscall.S_IFLNK}); err != nil {
				return err
			}
			return tx.PutInode(&link)
		})
	})
	if err == nil {
		c.entryChanged(at.Parent, at.Name)
	}
	return err
}
