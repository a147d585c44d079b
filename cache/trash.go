package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
	"depotfs/cache/share"
)

// The trash keeps the depot's version of a file that somebody deleted: before its object
// goes, it is copied inside the store to <prefix>.depotfs/trash/<time>/<zone>/<path>, its
// metadata with it. The key is chosen in the transaction that deletes the name and is in
// the removal, so that the copy may be made twice and is the same one. Objects that go for
// another reason (their key moved, an attempt was given up) are only deleted, and so are
// the markers of directories.

// DefaultTrashRetention is for how long deleted versions are kept where nothing is said.
const DefaultTrashRetention = 7 * 24 * time.Hour

// keyTime is how times are written in the keys of trash and conflicts: so that they sort.
const keyTime = "20060102T150405.000000000Z"

// settingDeleted begins the names of settings that say when and under which path a file
// was deleted that is still open and read from its object.
const settingDeleted = "deleted/"

// deletion is when, by the store's clock, and under which path somebody deleted a file.
type deletion struct {
	at   int64 // ns
	path string
}

// deleted is a deletion of now.
func (c *Cache) deleted(path string) *deletion { return &deletion{c.eventNanos(), path} }

// trashRoot begins all keys of the trash.
func (c *Cache) trashRoot() string { return c.cfg.Prefix + share.Private + "/trash/" }

// trashKey is where a version is kept that this zone deleted at a time (ns, by the
// store's clock) under a path; "" where nothing is kept. A path that makes no valid key
// there has its hash below the zone.
func (c *Cache) trashKey(at int64, path string) string {
	if c.TrashRetention() == 0 {
		return ""
	}
	key, _ := layout.Key(c.trashRoot()+time.Unix(0, at).UTC().Format(keyTime)+"/"+c.zoneName()+"/", path, false)
	return key
}

// keptAs is the trash key of the version that goes with the last name of a file; "" = none.
func (c *Cache) keptAs(rec *catalog.Inode, del *deletion) string {
	if isDir(rec) || len(rec.Links) != 1 || len(rec.Objects) == 0 {
		return ""
	}
	return c.trashKey(del.at, del.path)
}

// trashObject has the trash keep object i of a deleted file, unless another one is the
// file's version. Those that hold the same version share a key.
func (c *Cache) trashObject(rm *catalog.Removal, rec *catalog.Inode, i int, del *deletion) {
	if del == nil || isDir(rec) {
		return
	}
	_, known := currentObject(rec)
	switch {
	case isSymlink(rec), known && rec.Objects[i].Gen == rec.Base.Gen:
		rm.Trash = c.trashKey(del.at, del.path)
	case known: // of a version before, under a key that it had
		return
	default:
		rm.Trash = c.trashKey(del.at+int64(i), del.path)
	}
	if rm.Trash == "" {
		return
	}
	rm.Path, rm.Size = del.path, rec.Base.Size
	switch {
	case isSymlink(rec):
		rm.Size = int64(len(rec.Target))
	case !known:
		rm.Size = -1
	}
	if rec.Flags&catalog.FlagAttrDirty != 0 {
		rm.Mode, rm.UID, rm.GID, rm.Mtime = rec.Mode, rec.UID, rec.GID, rec.Mtime
	}
}

// trashAttempt has the trash keep what an upload of a deleted file may have made, its
// answer not heard yet: a version that the depot has. A copy of the one that it has under
// another key is none.
func (c *Cache) trashAttempt(rm *catalog.Removal, rec *catalog.Inode, up *catalog.Upload, del *deletion) {
	_, known := currentObject(rec)
	if del == nil || isDir(rec) || known && up.Gen == rec.Base.Gen {
		return
	}
	if rm.Trash = c.trashKey(del.at+int64(len(rec.Objects)), del.path); rm.Trash != "" {
		rm.Path, rm.Size = del.path, up.Size
	}
}

func deletedName(ino Ino) string { return settingDeleted + strconv.FormatUint(uint64(ino), 10) }

// putDeletion notes the deletion of a file whose objects are needed until it is closed.
func putDeletion(tx *catalog.Tx, ino Ino, del *deletion) error {
	if del == nil {
		return tx.DeleteSetting(deletedName(ino))
	}
	return tx.PutSetting(deletedName(ino), fmt.Appendf(nil, "%d %s", del.at, del.path))
}

// disownOrphan is disown for a file without a name that nobody has open any more.
func (c *Cache) disownOrphan(tx *catalog.Tx, rec *catalog.Inode) error {
	text, err := tx.Setting(deletedName(rec.Ino))
	if errors.Is(err, catalog.ErrNotFound) {
		return c.disown(tx, rec, "", nil)
	}
	if err != nil {
		return err
	}
	at, path, _ := strings.Cut(string(text), " ")
	del := &deletion{path: path}
	if del.at, err = strconv.ParseInt(at, 10, 64); err != nil {
		return fmt.Errorf("setting %s: %w: %w", deletedName(rec.Ino), catalog.ErrDamaged, err)
	}
	if err := tx.DeleteSetting(deletedName(rec.Ino)); err != nil {
		return err
	}
	return c.disown(tx, rec, path, del)
}

// keepFirst makes the copy for the trash before the object of a removal is written over.
func (c *Cache) keepFirst(ctx context.Context, d *depot, rm *catalog.Removal) error {
	if rm.Trash == "" {
		return nil
	}
	etag, size, ours, err := c.ours(ctx, d, rm)
	if err != nil {
		return err
	}
	if ours {
		if err := c.keepDeleted(ctx, d, rm, etag, size); err != nil {
			return err
		}
	}
	return c.cat.Update(func(tx *catalog.Tx) error {
		now, err := tx.Removal(rm.Key)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && (now.Trash != rm.Trash || now.ETag != rm.ETag) {
			return nil
		}
		if err != nil {
			return err
		}
		now.Trash = ""
		return tx.PutRemoval(now)
	})
}

// keepDeleted copies the object of a removal, if it still is the given version, to where
// the trash keeps it. One that is gone, or another zone's by now, is nothing to keep.
func (c *Cache) keepDeleted(ctx context.Context, d *depot, rm *catalog.Removal, etag string, size int64) error {
	if rm.Trash == "" {
		return nil
	}
	err := c.copyToTrash(ctx, d, rm, etag, size)
	if errors.Is(err, ErrChanged) {
		// An attempt of ours replaced it, perhaps, whose record a later one took the place of.
		info, herr := d.store.Head(ctx, rm.Key)
		d.report(herr)
		switch {
		case errors.Is(herr, ErrNotFound):
			err = nil
		case herr != nil:
			err = herr
		case info.ETag != etag && !c.leftover(info):
			err = nil
		default:
			err = c.copyToTrash(ctx, d, rm, info.ETag, info.Size)
		}
	}
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep %s in the trash: %w", rm.Key, err)
	}
	return nil
}

// copyToTrash makes the copy. What its metadata must say besides those of the object is
// added: attributes that the object was to get, and a path that the key does not show.
func (c *Cache) copyToTrash(ctx context.Context, d *depot, rm *catalog.Removal, etag string, size int64) error {
	key := rm.Trash
	hashed := c.isHashed(key)
	var opts PutOptions
	for {
		if adds := hashed || rm.Mode != 0; adds && opts.Metadata == nil || etag == "" || size < 0 {
			info, err := d.store.Head(ctx, rm.Key)
			d.report(err)
			if err != nil {
				return err
			}
			etag, size = cmp.Or(etag, info.ETag), info.Size
			if adds {
				opts.Metadata = keptMeta(info.Metadata, rm)
			}
		}
		if hashed {
			addMeta(opts.Metadata, layout.Encode(layout.Attrs{Path: rm.Path}))
			if !layout.PathFits(rm.Path) {
				if err := c.putCompanion(ctx, d, key, rm.Path); err != nil {
					return err
				}
			}
		}
		info, err := d.store.Copy(ctx, rm.Key, etag, key, size, opts)
		d.report(err)
		if errors.Is(err, ErrRejected) && !hashed { // a key that this store does not take
			key, hashed = layout.NameKey(c.entryPrefix(key), rm.Path, false), true
			continue
		}
		if err == nil {
			c.trash.held(1, info.Size)
			c.log.Debug("a deleted version is kept", "path", rm.Path, "key", key, "size", size)
			return c.tellKept(rm, key, etag)
		}
		return err
	}
}

// keptMeta is the metadata of an object with the attributes that a removal knows better.
func keptMeta(meta map[string]string, rm *catalog.Removal) map[string]string {
	out := map[string]string{}
	addMeta(out, meta)
	if rm.Mode != 0 {
		addMeta(out, layout.Encode(layout.Attrs{Mode: rm.Mode, HasOwner: true, UID: rm.UID, GID: rm.GID, HasMtime: true, Mtime: rm.Mtime}))
	}
	return out
}

// addMeta adds metadata to others. The zero map goes where they become too long for S3.
func addMeta(meta, more map[string]string) {
	total := 0
	for k, v := range more {
		meta[k] = v
	}
	for k, v := range meta {
		total += len(k) + len(v)
	}
	if total > maxMetadata {
		delete(meta, metaZeros)
	}
}

// entryPrefix is the part of a key of the trash, or of the conflicts, before the path:
// its root and two components; "" for other keys.
func (c *Cache) entryPrefix(key string) string {
	for _, root := range []string{c.trashRoot(), c.conflictRoot()} {
		rest, ok := strings.CutPrefix(key, root)
		if !ok {
			continue
		}
		if _, rest, ok = strings.Cut(rest, "/"); ok {
			_, rest, ok = strings.Cut(rest, "/")
		}
		if ok {
			return strings.TrimSuffix(key, rest)
		}
	}
	return ""
}

// isHashed says whether a key of the trash, or of the conflicts, has the hash of a path.
func (c *Cache) isHashed(key string) bool {
	prefix := c.entryPrefix(key)
	_, ok := layout.IsNameKey(prefix, key)
	return ok && prefix != ""
}
