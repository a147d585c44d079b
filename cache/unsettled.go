package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"depotfs/cache/catalog"
)

// errUnsettled: nobody knows whether the depot has the last version of a file that
// vanished from the share, because the answer to its upload was lost.
var errUnsettled = fmt.Errorf("vanished from the share, and its upload was not answered yet: %w", syscall.EIO)

// unsettled says whether an upload of other bytes than Base may have reached the
// depot. (A copy of Base to another key changes nothing about the version.)
func (c *Cache) unsettled(tx *catalog.Tx, r *catalog.Inode) (bool, error) {
	up, err := tx.Upload(r.Ino)
	if errors.Is(err, catalog.ErrNotFound) {
		return false, nil
	}
	return err == nil && up.Gen != r.Base.Gen && ownsKey(r, up.Key), err
}

// isUnsettled is unsettled for who has no transaction. The worker is sent to ask the depot.
func (c *Cache) isUnsettled(rec *catalog.Inode) (yes bool, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		yes, err = c.unsettled(tx, rec)
		return err
	})
	if yes {
		c.work.Add(rec.Ino, c.now())
	}
	return yes, err
}

// settleVanished asks the depot what became of the uploads of a file that others
// removed from the share meanwhile. What arrived last is the file's version, be it of
// an attempt before the one on record.
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
	gen, arrived := c.markedGen(info)
	arrived = arrived && err == nil
	_, err = c.change(ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if arrived {
			if gen != r.Base.Gen {
				r.Base = catalog.Version{Gen: gen, Size: info.Size, CRC64: info.CRC64, HasCRC: info.HasCRC64}
				r.BaseLimit = info.Size
				learnZeros(r, info.Metadata)
			}
			o := catalog.Object{Key: up.Key, ETag: info.ETag, VersionID: info.VersionID, Gen: gen}
			if err := c.claim(tx, r, o); err != nil {
				return err
			}
			if err := errors.Join(c.made(tx, r, r.FinishedAt), c.announceObject(tx, r, o)); err != nil {
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

// markedGen is the generation of ours that an object is marked with.
func (c *Cache) markedGen(info ObjectInfo) (uint64, bool) {
	text, ours := strings.CutPrefix(info.Metadata[metaVersion], c.epochMark())
	gen, err := strconv.ParseUint(text, 10, 64)
	return gen, ours && err == nil
}
