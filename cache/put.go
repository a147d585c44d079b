package cache

import (
	"context"
	"errors"
	"fmt"
	"io"

	"depotfs/cache/catalog"
)

// put sends the bytes, in one request or in parts.
func (c *Cache) put(ctx context.Context, d *depot, s *sending) (ObjectInfo, error) {
	inParts, err := c.goesInParts(s)
	if err != nil {
		return ObjectInfo{}, err
	}
	if inParts {
		return c.putParts(ctx, d, s)
	}
	crc, zeros, err := scanRange(s.file, 0, s.stamp.Size)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ObjectInfo{}, errMoving
	}
	if err != nil {
		return ObjectInfo{}, fmt.Errorf("read %q: %w", s.path, err)
	}
	if err := c.unmoved(s); err != nil {
		return ObjectInfo{}, err
	}
	s.crc, s.zeros = crc, zeros
	s.opts.CRC64, s.opts.HasCRC64 = crc, true
	withZeros(s.opts.Metadata, zeros, s.stamp.Size, crc)
	up := &catalog.Upload{Ino: s.rec.Ino, Key: s.key, Size: s.stamp.Size, Gen: s.rec.Gen, Stamp: s.stamp, Created: c.nanos()}
	if err := c.noteAttempt(up); err != nil {
		return ObjectInfo{}, err
	}
	s.opts.Before = func(ctx context.Context) error { return c.myTurn(ctx, s) }
	info, err := d.store.Put(ctx, s.key, s.file, s.stamp.Size, s.opts)
	if err == nil {
		s.bar.set(s.stamp.Size)
	}
	return info, err
}

// goesInParts says whether a file is uploaded in parts: when it is large, or was begun
// that way and can go on.
func (c *Cache) goesInParts(s *sending) (bool, error) {
	if s.plan != nil || s.stamp.Size >= c.transfers.Load().PartSize {
		return true, nil
	}
	goesOn := false
	err := c.cat.View(func(tx *catalog.Tx) error {
		up, err := tx.Upload(s.rec.Ino)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		goesOn = err == nil && s.goesOn(up)
		return err
	})
	return goesOn, err
}

// myTurn returns when the object of s may become visible.
func (c *Cache) myTurn(ctx context.Context, s *sending) error {
	if s.aside {
		return c.unmoved(s)
	}
	if err := c.awaitEarlier(ctx, s); err != nil {
		return err
	}
	return c.unmoved(s)
}
