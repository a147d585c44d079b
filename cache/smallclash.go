package cache

import (
	"context"
	"errors"

	"depotfs/cache/catalog"
)

// clashOfSmall is called when the depot has something else under the key of a marker or of a
// symlink than we expected: opts are then those of a put that replaces it. A marker says
// nothing that is lost with it. What a symlink replaces is kept; a version of another zone that was
// finished later is left where it is, a laterError: its record is on the way and takes the name.
func (c *Cache) clashOfSmall(ctx context.Context, d *depot, rec *catalog.Inode, path, key string, opts *PutOptions) error {
	there, err := d.store.Head(ctx, key)
	if errors.Is(err, ErrNotFound) {
		opts.IfMatch, opts.IfNoneMatch = "", true
		return nil
	}
	if err != nil {
		return err
	}
	if !isDir(rec) && !c.leftover(there) && !sameBytes(there, int64(len(rec.Target)), opts.CRC64, opts.HasCRC64) {
		if err := c.leaveToLater(rec, path, key, there); err != nil {
			return err
		}
		if err := c.keepTheirs(ctx, d, key, path, there, lostName); err != nil {
			return err
		}
		if err := c.noteReplaced(rec.Ino, key); err != nil {
			return err
		}
	}
	opts.IfMatch, opts.IfNoneMatch = there.ETag, false
	return nil
}

// leaveToLater is a laterError where the object under the key of rec is a version that another
// zone has finished later, and of which this zone has not heard yet.
func (c *Cache) leaveToLater(rec *catalog.Inode, path, key string, there ObjectInfo) error {
	theirs, err := c.finishOf(key, path, there)
	if err != nil {
		return err
	}
	ours, err := c.changedAt(rec)
	if err != nil || theirs.zone == "" || theirs.zone == c.zoneName() || !theirs.after(ours) ||
		c.storeNanos()-nanosOf(there.Modified) > int64(missedBatch) { // who put it was ended before it could tell
		return err
	}
	c.listenSoon()
	return laterError{c.now().Add(heldLook), "another zone's later version is under its key"}
}
