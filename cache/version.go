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
		return fmt.Errorf("object %q: %w (%v)", obj.Key, ErrGone, cause)
	}
	if err != nil {
		return err
	}
	if info.Size != rec.Base.Size || !info.HasCRC64 || !rec.Base.HasCRC || info.CRC64 != rec.Base.CRC64 {
		if own, err := c.ownVersion(ctx, n, obj, info); own || err != nil {
			return err
		}
		return fmt.Errorf("object %q is another version now (etag %s, %d bytes; expected %s, %d bytes): %w",
			obj.Key, info.ETag, info.Size, obj.ETag, rec.Base.Size, ErrGone)
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
