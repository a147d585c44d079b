package cache

import (
	"context"
	"errors"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

// An upload in parts survives a rename. It goes on to the key that it was begun with,
// as long as no other file has that key, and the object follows the name by a copy
// inside the store.

// chooseKey sets the key that a version is sent to, and says whether it is of a path
// that cannot be a key.
func (c *Cache) chooseKey(s *sending) (encoded bool, err error) {
	s.key, encoded = layout.Key(c.cfg.Prefix, s.path, false)
	if s.rec.Flags&catalog.FlagAdopted != 0 {
		return encoded, nil
	}
	var up *catalog.Upload
	var owner Ino
	err = c.cat.View(func(tx *catalog.Tx) error {
		if up, err = tx.Upload(s.rec.Ino); err != nil {
			return err
		}
		owner, err = tx.KeyOwner(up.Key)
		if errors.Is(err, catalog.ErrNotFound) {
			owner, err = s.rec.Ino, nil
		}
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return encoded, nil
	}
	if err != nil {
		return false, err
	}
	begun := *s
	begun.key = up.Key
	if _, hashed := layout.IsNameKey(c.cfg.Prefix, up.Key); up.Key == s.key || hashed || c.isKept(up.Key) || owner != s.rec.Ino || !begun.goesOn(up) {
		return encoded, nil
	}
	s.key, s.formerKey = up.Key, true
	return false, nil
}

// leaveFormerKey is asked when something is in the way under the key of a former name.
// What an attempt of ours has left there, its answer lost, is resolved as anywhere;
// for another's object the upload begins again, under the file's own key.
func (c *Cache) leaveFormerKey(ctx context.Context, d *depot, s *sending) error {
	info, err := d.store.Head(ctx, s.key)
	d.report(err)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err != nil || c.leftover(info) || s.opts.HasCRC64 && sameBytes(info, s.stamp.Size, s.crc, true) {
		return nil
	}
	c.dropParts(ctx, d, s.rec.Ino)
	return laterError{c.now(), "the key of its former name has become another's"}
}

// renamedUpload has the record of an upload follow the stamp of its file, whose ctime
// our rename moved from before to after.
func renamedUpload(tx *catalog.Tx, ino Ino, before, after catalog.Stamp) error {
	up, err := tx.Upload(ino)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if up.UploadID == "" || up.Stamp != before || !sameContent(before, after) {
		return nil
	}
	up.Stamp = after
	return tx.PutUpload(up)
}

// renamedByUs says whether a file that is being uploaded has its new stamp from a
// rename of ours alone (renamedUpload).
func (c *Cache) renamedByUs(s *sending, now catalog.Stamp) bool {
	if !sameContent(now, s.stamp) {
		return false
	}
	var up *catalog.Upload
	err := c.cat.View(func(tx *catalog.Tx) (err error) {
		up, err = tx.Upload(s.rec.Ino)
		return err
	})
	return err == nil && up.UploadID != "" && up.Gen == s.rec.Gen && up.Stamp == now
}

// unmoved compares the stamp again before something becomes visible.
func (c *Cache) unmoved(s *sending) error {
	if s.p != nil {
		s.p.mu.Lock()
		defer s.p.mu.Unlock()
		if s.p.writes != s.writes {
			return errMoving
		}
		return nil
	}
	_, err := c.stampNow(s)
	return err
}

// stampNow is the stamp of a file that has not changed: the one of s, but for a
// rename of ours.
func (c *Cache) stampNow(s *sending) (catalog.Stamp, error) {
	st, err := c.share.StatFile(s.file, true)
	if err != nil {
		return catalog.Stamp{}, err
	}
	if now := st.Stamp(); now == s.stamp || c.renamedByUs(s, now) {
		return now, nil
	}
	return catalog.Stamp{}, errMoving
}
