package cache

import (
	"context"
	"fmt"
	"strings"
	"time"

	"depotfs/cache/layout"
	"depotfs/cache/share"
)

// metaConflict is the user metadata of the loser of a conflict that says why it lost.
const metaConflict = "depotfs-conflict"

// Why a version lost its name.
const (
	lostEarlier  = "it was finished earlier than the version that has the name"
	lostUnproven = "it was found in the share, and nothing proved that it is newer than the depot's version"
	lostUnseen   = "others made another file under its name in the share, where it was not to be seen"
	lostName     = "another file was given its name by a rename, or as a symlink"
	lostWritten  = "others made it in the share while the file was written through the mount"
	lostHere     = lostWritten + ", or another zone replaced the version that it lacked bytes of"
)

// conflictRoot begins all keys of the conflicts.
func (c *Cache) conflictRoot() string { return c.cfg.Prefix + share.Private + "/conflicts/" }

// conflictKey is where the loser of a conflict is kept in the depot. hashed says that its
// path makes no valid key there, and must be in the object's metadata.
func (c *Cache) conflictKey(path string) (key string, hashed bool) {
	return layout.Key(c.conflictRoot()+c.zoneName()+"/"+time.Unix(0, c.storeNanos()).UTC().Format(keyTime)+"/", path, false)
}

// conflictPlaceFor is where a version of a path is kept aside; what the key cannot say of
// the path is in the depot before it is used.
func (c *Cache) conflictPlaceFor(ctx context.Context, d *depot, path string) (key string, hashed bool, err error) {
	if key, hashed = c.conflictKey(path); hashed && !layout.PathFits(path) {
		err = c.putCompanion(ctx, d, key, path)
	}
	return key, hashed, err
}

// keepTheirs copies the depot's version aside before ours replaces it; why is the reason.
func (c *Cache) keepTheirs(ctx context.Context, d *depot, key, path string, info ObjectInfo, why string) error {
	if info.Metadata == nil {
		there, err := d.store.Head(ctx, key)
		d.report(err)
		if err != nil {
			return fmt.Errorf("keep the other version of %q: %w", path, err)
		}
		info.Metadata = there.Metadata
	}
	if err := c.leaveToMove(path, info); err != nil {
		return err
	}
	dst, hashed, err := c.conflictPlaceFor(ctx, d, path)
	if err != nil {
		return err
	}
	meta := map[string]string{}
	addMeta(meta, info.Metadata)
	if hashed {
		addMeta(meta, layout.Encode(layout.Attrs{Path: path}))
	}
	addMeta(meta, map[string]string{metaConflict: plainASCII(why)})
	if _, err := d.store.Copy(ctx, key, info.ETag, dst, info.Size, PutOptions{Metadata: meta}); err != nil {
		return fmt.Errorf("keep the other version of %q: %w", path, err)
	}
	c.noteConflict(path, dst, why, info.Size)
	return nil
}

// noteConflict tells people of a conflict.
func (c *Cache) noteConflict(path, key, why string, size int64) {
	c.problems.add("conflict", path, why+"; the other version is "+key, c.now())
	c.log.Warn("conflict", "path", path, "kept", key, "reason", why)
	c.trash.conflicts(1, size)
}

// plainASCII is text as metadata can hold it.
func plainASCII(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, clip(text, 200))
}
