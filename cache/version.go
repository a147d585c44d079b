package cache

import (
	"context"
	"errors"
	"fmt"

	"depotfs/cache/catalog"
)

// currentObject is a key that holds the version that rec derives from.
func currentObject(rec *catalog.Inode) (catalog.Object, bool) {
	for _, o := range rec.Objects {
		if o.Gen == rec.Base.Gen {
			return o, true
		}
	}
	return catalog.Object{}, false
}

// sameVersion is asked when the object under the key is not the version that we
// know: if it has the same identity (size and checksum), reading goes on with its
// new entity tag; anything else is ErrGone.
func (c *Cache) sameVersion(ctx context.Context, d *depot, n *node, rec *catalog.Inode, cause error) error {
	obj, ok := currentObject(rec)
	if !ok {
		return fmt.Errorf("%w (%v)", ErrGone, cause)
	}
	now, err := c.record(n.ino)
	if err != nil {
		return err
	}
	if cur, ok := currentObject(now); ok && cur != obj {
		return nil // renamed: the object has moved to another key meanwhile
	}
	info, err := d.store.Head(ctx, obj.Key)
	if errors.Is(err, ErrNotFound) {
		return c.foundElsewhere(ctx, d, n, obj, fmt.Errorf("object %q: %w (%v)", obj.Key, ErrGone, cause))
	}
	if err != nil {
		return err
	}
	if info.Size != rec.Base.Size || !info.HasCRC64 || !rec.Base.HasCRC || info.CRC64 != rec.Base.CRC64 {
		if own, err := c.ownVersion(ctx, n, obj, info); own || err != nil {
			return err
		}
		// Who replaced it tells: what it replaced is no version to be looked for.
		return c.toldElsewhere(ctx, n, obj, fmt.Errorf("object %q is another version now (etag %s, %d bytes; expected %s, %d bytes): %w",
			obj.Key, info.ETag, info.Size, obj.ETag, rec.Base.Size, ErrGone))
	}
	_, err = c.change(n.ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		for i := range r.Objects {
			if r.Objects[i].Key == obj.Key {
				r.Objects[i].ETag, r.Objects[i].VersionID = info.ETag, info.VersionID
			}
		}
		return nil
	})
	return err
}

// toldElsewhere has the other zones' journals read, and says whether the version is under
// another key by now: nil, or gone.
func (c *Cache) toldElsewhere(ctx context.Context, n *node, obj catalog.Object, gone error) error {
	now, err := c.recordAfterNews(ctx, n.ino)
	if err != nil {
		return gone
	}
	if cur, ok := currentObject(now); ok && cur != obj {
		return nil
	}
	return gone
}

// foundElsewhere is toldElsewhere for an object that is not there any more: its version may be
// kept, too.
func (c *Cache) foundElsewhere(ctx context.Context, d *depot, n *node, obj catalog.Object, gone error) error {
	if err := c.toldElsewhere(ctx, n, obj, gone); err == nil {
		return nil
	}
	now, err := c.record(n.ino)
	if err != nil {
		return gone
	}
	found, err := c.readFromKept(ctx, d, now, gone)
	if err != nil {
		c.log.Debug("look for a version that is not where it was", "inode", n.ino, "err", err)
	}
	if found {
		return nil
	}
	return gone
}

// toldMeanwhile has the journals read for a file whose object is not there any more, and
// says whether that changed what is on record of it.
func (c *Cache) toldMeanwhile(ctx context.Context, rec *catalog.Inode, obj catalog.Object) (bool, error) {
	now, err := c.recordAfterNews(ctx, rec.Ino)
	if errors.Is(err, ErrStale) || err == nil && len(now.Links) == 0 {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	cur, ok := currentObject(now)
	return !ok || cur != obj, nil
}

// recordAfterNews is a record as it is when everything was applied that other zones have
// told by now, as far as they can be asked.
func (c *Cache) recordAfterNews(ctx context.Context, ino Ino) (*catalog.Inode, error) {
	asking, cancel := context.WithTimeout(ctx, c.cfg.Limits.ColdTimeout)
	defer cancel()
	if err := c.refreshNow(asking); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c.log.Debug("read the journals for a version that is not where it was", "inode", ino, "err", err)
	}
	return c.record(ino)
}
