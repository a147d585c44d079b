package cache

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// An attempt is a request that may make an object of ours whose answer we may
// never hear: the daemon is killed, a writer stops the upload, the line is cut.
// Its record (catalog.Upload) names the key and the version mark before the
// request is made. A mark alone does not prove which bytes an object has: a file
// that stays dirty keeps its generation from one attempt to the next.

// noteAttempt records that an object of ours may come to be under a key. It takes
// the place of the record of an earlier attempt, which settleAttempt has settled.
func (c *Cache) noteAttempt(up *catalog.Upload) error {
	return c.cat.Update(func(tx *catalog.Tx) error {
		r, err := inode(tx, up.Ino)
		if err != nil {
			return err
		}
		if len(r.Links) == 0 {
			return errRemoved
		}
		old, err := tx.Upload(up.Ino)
		switch {
		case errors.Is(err, catalog.ErrNotFound):
		case err != nil:
			return err
		case old.Key == up.Key:
			up.Replaced = max(up.Replaced, old.Replaced)
		}
		if err := tx.DeleteUpload(up.Ino); err != nil { // with the parts of a former one
			return err
		}
		return tx.PutUpload(up)
	})
}

// noteReplaced notes that the attempt of an inode takes the place of another zone's version,
// which was set aside. Nobody is told of that before the attempt has succeeded; where the
// file is removed, or renamed, instead, the others are told that the version is gone.
func (c *Cache) noteReplaced(ino Ino, key string) error {
	return c.cat.Update(func(tx *catalog.Tx) error {
		up, err := tx.Upload(ino)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && up.Key != key {
			return nil
		}
		if err != nil {
			return err
		}
		up.Replaced = c.eventNanos()
		return tx.PutUpload(up)
	})
}

// tellReplaced tells the others that the version is gone that a removal's had replaced.
func (c *Cache) tellReplaced(rm *catalog.Removal) error {
	path := c.keyPath(rm.Key)
	if rm.Replaced == 0 || !c.shared(path) {
		return nil
	}
	return c.cat.Update(func(tx *catalog.Tx) error {
		n := journal.Record{Op: journal.Delete, Path: path, Time: rm.Replaced, Zone: c.zoneName()}
		return errors.Join(bury(tx, graveOf(n)), c.announce(tx, n))
	})
}

// settleAttempt clears away what an earlier attempt of the inode may have left, now
// that the next one goes to key: parts, and an object under a key that it no longer
// has. It returns the mark that an object of that attempt under key has, "" for
// none. An upload in parts that can go on stays as it is. No key may be locked.
func (c *Cache) settleAttempt(ctx context.Context, d *depot, ino Ino, key string, goesOn func(*catalog.Upload) bool) (mark string, err error) {
	var up *catalog.Upload
	err = c.cat.View(func(tx *catalog.Tx) error {
		up, err = tx.Upload(ino)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	mark = c.versionMark(up.Gen)
	switch {
	case up.UploadID != "" && goesOn(up):
		return mark, nil
	case up.UploadID != "":
		err = d.store.AbortMultipart(ctx, up.Key, up.UploadID)
		d.report(err)
	case up.PartSize > 0, up.Created < c.since.UnixNano():
		err = c.abortLost(ctx, d, up.Key, up.Created)
		d.report(err)
	}
	if err != nil {
		return "", err
	}
	if up.Key == key {
		return mark, nil
	}
	return "", c.abandonAttempt(ctx, d, up, mark)
}

// abortLost aborts multipart uploads of a key that began since an attempt and whose
// id nobody knows: the daemon died while one was created, or while the store's door
// copied an object in parts. Another zone that uploads to the same key at the same
// time starts again.
func (c *Cache) abortLost(ctx context.Context, d *depot, key string, since int64) error {
	infos, err := d.store.ListMultiparts(ctx, key)
	if err != nil {
		return err
	}
	earliest := time.Unix(0, since).Add(d.skew() - time.Minute)
	for _, m := range infos {
		if m.Key != key || m.Initiated.Before(earliest) {
			continue
		}
		if err := d.store.AbortMultipart(ctx, m.Key, m.UploadID); err != nil {
			return err
		}
	}
	return nil
}

// leaveAttempt has the object removed that the attempt of an inode may have made, whose
// bytes go elsewhere: its key may be locked.
func (c *Cache) leaveAttempt(ino Ino) error {
	var up *catalog.Upload
	err := c.cat.Update(func(tx *catalog.Tx) (err error) {
		if up, err = tx.Upload(ino); err != nil {
			return err
		}
		now := c.nanos()
		return errors.Join(tx.DeleteUpload(ino), putRemoval(tx, &catalog.Removal{Key: up.Key, Version: c.versionMark(up.Gen), Replaced: up.Replaced,
			UploadID: up.UploadID, Path: c.keyPath(up.Key), Since: now, NotBefore: now}))
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err == nil {
		c.removals.Add(up.Key, c.now())
	}
	return err
}

// settleLast clears away what an attempt may have left under a key that no name
// wants any more, now that all wanted keys are right.
func (c *Cache) settleLast(ctx context.Context, d *depot, ino Ino) error {
	_, err := c.settleAttempt(ctx, d, ino, "", func(*catalog.Upload) bool { return false })
	return err
}

// attemptGen is the generation of what is to be sent: a new one where an earlier
// attempt sent other bytes under the present one, so that a generation, and the
// mark that is made of it, stands for one stamp.
func (c *Cache) attemptGen(s *sending) (uint64, error) {
	var up *catalog.Upload
	err := c.cat.View(func(tx *catalog.Tx) error {
		var err error
		up, err = tx.Upload(s.rec.Ino)
		return err
	})
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return 0, err
	}
	if err == nil && up.Gen == s.rec.Gen && up.Stamp != s.stamp {
		return c.cat.NextGen()
	}
	return s.rec.Gen, nil
}

// abandonAttempt sees to the object that an attempt may have made under a key that
// its inode does not want any more.
func (c *Cache) abandonAttempt(ctx context.Context, d *depot, up *catalog.Upload, mark string) error {
	unlock, err := d.keys.lock(ctx, up.Key)
	if err != nil {
		return err
	}
	defer unlock()
	info, err := d.store.Head(ctx, up.Key)
	d.report(err)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	made := err == nil && info.Metadata[metaVersion] == mark
	err = c.cat.Update(func(tx *catalog.Tx) error {
		if err := tx.DeleteUpload(up.Ino); err != nil {
			return err
		}
		owner, err := tx.KeyOwner(up.Key)
		switch {
		case errors.Is(err, catalog.ErrNotFound):
		case err != nil:
			return err
		case owner != up.Ino:
			return nil // whoever has the key now has replaced the object, or will
		case !made:
			return nil
		default: // the object that is to be moved or removed is this one now
			r, err := inode(tx, up.Ino)
			if err != nil {
				return err
			}
			for i := range r.Objects {
				if r.Objects[i].Key == up.Key {
					r.Objects[i].ETag = info.ETag
					if up.Gen != r.Base.Gen {
						r.Objects[i].Gen = 0 // bytes that no version is known by
					}
				}
			}
			return tx.PutInode(r)
		}
		now := c.nanos()
		return putRemoval(tx, &catalog.Removal{Key: up.Key, Version: mark, Replaced: up.Replaced, Path: c.keyPath(up.Key), Since: now, NotBefore: now})
	})
	c.removals.Add(up.Key, c.now())
	return err
}

// maxFormer is how many versions that may be under one key are remembered to be removed.
const maxFormer = 4

// putRemoval notes that an object is to go. One that waits already for the same key
// may mean another version of it, made or not: what it knows stays known. Where each is of a
// version with a tag, one of them has replaced the other one, and who told of it last need not be
// the later one.
func putRemoval(tx *catalog.Tx, rm *catalog.Removal) error {
	old, err := tx.Removal(rm.Key)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
	case err != nil:
		return err
	default:
		rm.Former = old.Former
		other := rm.ETag != "" && old.ETag != "" && rm.ETag != old.ETag
		if other {
			rm.Former = append(slices.Clone(old.Former), catalog.Removed{ETag: old.ETag, Trash: old.Trash, Path: old.Path, Size: old.Size, Untold: old.Untold})
			rm.Former = rm.Former[max(0, len(rm.Former)-maxFormer):]
		}
		rm.ETag = cmp.Or(rm.ETag, old.ETag)
		rm.Version = cmp.Or(rm.Version, old.Version)
		rm.Replaced = max(rm.Replaced, old.Replaced)
		rm.UploadID = cmp.Or(rm.UploadID, old.UploadID)
		if old.Trash != "" && !other { // which other zones may have been told
			rm.Trash, rm.Path, rm.Size, rm.Untold = old.Trash, old.Path, old.Size, old.Untold
			rm.Mode, rm.UID, rm.GID, rm.Mtime = old.Mode, old.UID, old.GID, old.Mtime
		}
	}
	return tx.PutRemoval(rm)
}

// sameBytes says whether an object certainly has the bytes of that size and sum.
func sameBytes(info ObjectInfo, size int64, crc uint64, hasCRC bool) bool {
	return info.Size == size && hasCRC && info.HasCRC64 && info.CRC64 == crc
}

// isOneOf says whether an object has one of our version marks.
func isOneOf(info ObjectInfo, marks ...string) bool {
	for _, mark := range marks {
		if mark != "" && info.Metadata[metaVersion] == mark {
			return true
		}
	}
	return false
}

// leftover says whether an object under a key that no inode owns, or that holds
// another tag than the one on record, is what an attempt of ours left whose answer
// was lost: then this catalog made it, and it is no version of anything.
func (c *Cache) leftover(info ObjectInfo) bool {
	return strings.HasPrefix(info.Metadata[metaVersion], c.epochMark())
}
