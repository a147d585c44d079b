package cache

import (
	"context"
	"errors"

	"depotfs/cache/catalog"
)

// errUnsettled: nobody knows whether the depot has the last version of a file that
// vanished from the share, because the answer to its upload was lost.
var errUnsettled = errors.New("vanished from the share, and its upload was not answered yet")

// unsettled says whether an upload of other bytes than Base may have reached the
// depot. (A copy of Base to another key changes nothing about the version.)
func (c *Cache) unsettled(tx *catalog.Tx, r *catalog.Inode) (bool, error) {
	up, err := tx.Upload(r.Ino)
	if errors.Is(err, catalog.ErrNotFound) {
		return false, nil
	}
	return err == nil && up.Gen != r.Base.Gen && ownsKey(r, up.Key), err
}

// settleVanished asks the depot what became of the upload of a file that others
// removed from the share meanwhile. What arrived is the file's version; else it is
// the one before.
func (c *Cache) settleVanished(ctx context.Context, d *depot, ino Ino) error {
	var up *catalog.Upload
	if err := c.cat.View(func(tx *catalog.Tx) error {
		var err error
		up, err = tx.Upload(ino)
		return err
	}); err != nil {
		if errors.Is(err, catalog.ErrNotFound) {
			err = nil
		}
		return err
	}
	unlock, err := d.keys.lock(ctx, up.Key)
	if err != nil {
		return err
	}
	defer unlock()
	if up.UploadID != "" {
		if err := d.store.AbortMultipart(ctx, up.Key, up.UploadID); err != nil && !errors.Is(err, ErrNotFound) {
			d.report(err)
			return err
		}
	}
	info, err := d.store.Head(ctx, up.Key)
	d.report(err)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	arrived := err == nil && info.Metadata[metaVersion] == c.versionMark(up.Gen) && info.Size == up.Size
	_, err = c.change(ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if arrived {
			r.Base = catalog.Version{Gen: up.Gen, Size: info.Size, CRC64: info.CRC64, HasCRC: info.HasCRC64}
			r.BaseLimit = info.Size
			learnZeros(r, info.Metadata)
			if err := c.claim(tx, r, catalog.Object{Key: up.Key, ETag: info.ETag, VersionID: info.VersionID, Gen: up.Gen}); err != nil {
				return err
			}
		}
		return tx.DeleteUpload(ino)
	})
	if err != nil {
		return err
	}
	return laterError{c.now(), "its upload was settled after it vanished from the share"}
}
