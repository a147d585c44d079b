package cache

import (
	"context"
	"depotfs/cache/catalog"
	"errors"
)

// claim records one key as holding an object of the inode.
func (c *Cache) claim(tx *catalog.Tx, r *catalog.Inode, o catalog.Object) error {
	if err := tx.SetKeyOwner(o.Key, r.Ino); err != nil {
		return err
	}
	if err := c.keyTaken(tx, o.Key); err != nil {
		return err
	}
	switch rm, err := tx.Removal(o.Key); {
	case errors.Is(err, catalog.ErrNotFound):
	case err != nil:
		return err
	case rm.UploadID == "" && rm.Version == "":
		if err := tx.DeleteRemoval(o.Key); err != nil {
			return err
		}
	default: // the object is ours now; parts, and the version, of an upload that was given up still are to go
		if rm.ETag = ""; rm.Version == "" {
			rm.Trash = ""
		}
		if err := tx.PutRemoval(rm); err != nil {
			return err
		}
		c.removals.Add(o.Key, c.now())
	}
	for i := range r.Objects {
		if r.Objects[i].Key == o.Key {
			r.Objects[i] = o
			return nil
		}
	}
	r.Objects = append(r.Objects, o)
	return nil
}

// guard says under which condition the key may be written: over our own version,
// over one that is being removed anyway, or where nothing is. A key that another
// file still needs is not touched: that file moves first.
func (c *Cache) guard(ctx context.Context, d *depot, key string, rec *catalog.Inode) (PutOptions, error) {
	for _, o := range rec.Objects {
		if o.Key == key {
			return PutOptions{IfMatch: o.ETag}, nil
		}
	}
	var owner Ino
	var rm *catalog.Removal
	if err := c.cat.View(func(tx *catalog.Tx) error {
		var err error
		if owner, err = tx.KeyOwner(key); err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		if rm, err = tx.Removal(key); err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		return nil
	}); err != nil {
		return PutOptions{}, err
	}
	if owner != 0 && owner != rec.Ino {
		return PutOptions{}, takenError{owner, key}
	}
	if rm == nil {
		if opts, held, err := c.overHeld(ctx, d, key, rec); held || err != nil {
			return opts, err
		}
		return PutOptions{IfNoneMatch: true}, nil
	}
	if rm.UploadID != "" { // the record goes when we take the key over
		if err := d.store.AbortMultipart(ctx, key, rm.UploadID); err != nil {
			return PutOptions{}, err
		}
	}
	if err := c.keepFirst(ctx, d, rm); err != nil {
		return PutOptions{}, err
	}
	if rm.ETag != "" {
		return PutOptions{IfMatch: rm.ETag}, nil
	}
	info, err := d.store.Head(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return PutOptions{IfNoneMatch: true}, nil
	case err != nil:
		return PutOptions{}, err
	case rm.Version == "" || info.Metadata[metaVersion] == rm.Version:
		return PutOptions{IfMatch: info.ETag}, nil
	}
	return PutOptions{IfNoneMatch: true}, nil // somebody else's: a clash, which is resolved as one
}
