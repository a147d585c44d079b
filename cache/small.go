package cache

import (
	"context"
	"depotfs/cache/catalog"
	"depotfs/cache/layout"
	"errors"
	"fmt"
)

// sendSmall brings a directory's marker or a symlink to the depot, under all its names.
func (c *Cache) sendSmall(ctx context.Context, d *depot, rec *catalog.Inode) error {
	if rec.Ino == catalog.Root {
		return c.unqueue(rec)
	}
	rec, err := c.withAttrs(ctx, d, rec)
	if err != nil {
		return err
	}
	keys, paths, err := c.wantedKeys(rec)
	if err != nil {
		return err
	}
	for i, key := range keys {
		if ownsKey(rec, key) && rec.Flags&catalog.FlagAttrDirty == 0 {
			continue
		}
		if err := c.putSmall(ctx, d, rec, paths[i], key); err != nil {
			return err
		}
	}
	if err := c.attrsSent(rec); err != nil {
		return err
	}
	if err := c.settleLast(ctx, d, rec.Ino); err != nil {
		return err
	}
	return c.dropStale(rec.Ino, nil)
}

func (c *Cache) putSmall(ctx context.Context, d *depot, rec *catalog.Inode, path, key string) error {
	if _, err := c.settleAttempt(ctx, d, rec.Ino, key, func(*catalog.Upload) bool { return false }); err != nil {
		return err
	}
	unlock, err := d.keys.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if rec.Flags&catalog.FlagAdopted != 0 && !ownsKey(rec, key) {
		if there, err := c.smallThere(ctx, d, rec, key); there || err != nil {
			return err
		}
	}
	opts, err := c.guard(ctx, d, key, rec)
	if err != nil {
		return err
	}
	_, encoded := layout.Key(c.cfg.Prefix, path, isDir(rec))
	body := []byte(rec.Target)
	opts.Metadata = c.metadata(rec, path, encoded, rec.Gen)
	opts.CRC64, opts.HasCRC64 = crcOf(body), true
	if encoded && !layout.PathFits(path) {
		if err := c.putCompanion(ctx, d, key, path); err != nil {
			return err
		}
	}
	if err := c.noteAttempt(&catalog.Upload{Ino: rec.Ino, Key: key, Size: int64(len(body)), Gen: rec.Gen, Created: c.nanos()}); err != nil {
		return err
	}
	info, err := d.store.Put(ctx, key, bytesAt(body), int64(len(body)), opts)
	if errors.Is(err, ErrChanged) {
		if err = c.clashOfSmall(ctx, d, rec, path, key, &opts); err != nil {
			return err
		}
		info, err = d.store.Put(ctx, key, bytesAt(body), int64(len(body)), opts)
	}
	d.report(err)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	gone := func(tx *catalog.Tx) error { // it was removed meanwhile
		now := c.nanos()
		return putRemoval(tx, &catalog.Removal{Key: key, ETag: info.ETag, Path: path, Since: now, NotBefore: now})
	}
	now, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if len(r.Links) == 0 {
			return gone(tx)
		}
		r.Flags &^= catalog.FlagAdopted
		if isDir(rec) {
			r.Flags &^= catalog.FlagAttrDirty
		}
		if err := tx.DeleteUpload(r.Ino); err != nil {
			return err
		}
		if r.MadeAt == 0 {
			if err := c.made(tx, r, max(r.DirtySince, r.FinishedAt)); err != nil {
				return err
			}
		}
		o := catalog.Object{Key: key, ETag: info.ETag, VersionID: info.VersionID, Gen: rec.Gen}
		if err := c.claim(tx, r, o); err != nil {
			return err
		}
		return c.announceObject(tx, r, o)
	})
	if errors.Is(err, ErrStale) {
		now, err = nil, c.cat.Update(gone)
	}
	if err == nil && (now == nil || len(now.Links) == 0) {
		c.removals.Add(key, c.now())
	}
	return err
}

// smallThere compares a directory or symlink that was found in the share with what
// the depot has under its key, and takes that over where it is the same.
func (c *Cache) smallThere(ctx context.Context, d *depot, rec *catalog.Inode, key string) (bool, error) {
	info, err := d.store.Head(ctx, key)
	d.report(err)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case info.Size != int64(len(rec.Target)) || !metaSays(info, rec):
		return false, nil
	}
	same := isDir(rec)
	if !same {
		info.Key = key
		if same, err = c.sameAsObject(ctx, d, info, crcOf([]byte(rec.Target))); err != nil || !same {
			return false, err
		}
	}
	taken := false
	_, err = c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		switch owner, err := tx.KeyOwner(key); {
		case err == nil && owner != r.Ino, len(r.Links) == 0:
			return nil
		case err != nil && !errors.Is(err, catalog.ErrNotFound):
			return err
		}
		taken = true
		if sameAttrs(r, rec) && len(r.Links) == 1 {
			r.Flags &^= catalog.FlagAttrDirty | catalog.FlagAdopted
		}
		return c.claim(tx, r, catalog.Object{Key: key, ETag: info.ETag, VersionID: info.VersionID, Gen: r.Gen})
	})
	if errors.Is(err, ErrStale) {
		return true, nil
	}
	return taken, err
}

// putCompanion records a path that is too long for metadata as an object's body.
func (c *Cache) putCompanion(ctx context.Context, d *depot, key, path string) error {
	b := []byte(path)
	_, err := d.store.Put(ctx, layout.PathKey(key), bytesAt(b), int64(len(b)), PutOptions{CRC64: crcOf(b), HasCRC64: true})
	d.report(err)
	if err != nil {
		return fmt.Errorf("record the path of %s: %w", key, err)
	}
	return nil
}
