package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

// compareAdopted decides about a file that was found in the share with no proof
// of which version it is: the same bytes as the depot's make it clean, others make
// it a conflict that the depot's version wins (DESIGN 4). done is false when the
// depot has nothing there and the file is to be uploaded. rec is not nil where the
// file is clean now.
func (c *Cache) compareAdopted(ctx context.Context, d *depot, s *sending) (rec *catalog.Inode, done bool, err error) {
	if rec, err := c.sameAsBase(s); rec != nil || err != nil {
		return rec, rec != nil, err
	}
	unseen := s.rec.Flags&catalog.FlagUnseen != 0
	if unseen {
		if o, _, ok, err := c.unseen(s.rec); err != nil {
			return nil, false, err
		} else if !ok || o.Key != s.key { // nothing to compare with
			if s.rec, err = c.keepUnseen(ctx, d, s.rec); err != nil {
				return nil, false, err
			}
			unseen = false
		}
	}
	if !unseen {
		if rival, err := c.rival(s.rec, s.key); !rival || err != nil {
			return nil, false, err
		}
	}
	info, err := d.store.Head(ctx, s.key)
	d.report(err)
	if errors.Is(err, ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if !ownsKey(s.rec, s.key) && c.leftover(info) && !unseen {
		return nil, false, nil // of a file that this one has replaced here, under our eyes
	}
	if ownsKey(s.rec, s.key) {
		// Ours, and changed in the share since: the change is newer, unless it changed nothing.
		for _, o := range s.rec.Objects {
			if o.Key == s.key && o.ETag != info.ETag {
				return nil, false, nil // replaced there as well: resolveClash
			}
		}
	}
	if p, ok := c.proof(s.path); ok && p.Stamp == s.stamp && p.ETag == info.ETag && p.Key == s.key && p.Version.HasCRC {
		s.crc = p.Version.CRC64
		rec, err := c.sameAsDepot(s, info)
		return rec, true, err
	}
	if info.Size == s.stamp.Size { // others need not be read
		same, err := c.sameAsAdopted(ctx, d, s, info)
		if err != nil {
			return nil, false, err
		}
		if same {
			if err := c.unmoved(s); err != nil {
				return nil, false, err
			}
			rec, err := c.sameAsDepot(s, info)
			return rec, true, err
		}
	}
	if unseen {
		s.rec, err = c.keepUnseen(ctx, d, s.rec)
		return nil, false, err
	}
	if ownsKey(s.rec, s.key) {
		return nil, false, nil
	}
	c.log.Warn("a file in the share differs from the depot's; the depot keeps the name", "path", s.path)
	return nil, true, c.loseTo(ctx, d, s, info)
}

// rival says whether what the depot has under a key may be a version of the file: it
// is not while it is another file's, which moves first, or about to be removed.
func (c *Cache) rival(rec *catalog.Inode, key string) (bool, error) {
	rival := true
	err := c.cat.View(func(tx *catalog.Tx) error {
		owner, err := tx.KeyOwner(key)
		if err == nil {
			if rival = owner == rec.Ino; !rival {
				return takenError{owner, key}
			}
			return nil
		}
		if !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		if h, err := tx.HeldKey(key); err == nil && h.Kind != catalog.DeleteTold {
			rival = false
			return nil
		}
		rm, err := tx.Removal(key)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		rival = rm.ETag == "" // an object of ours that is to go is known by its mark
		return err
	})
	return rival, err
}

// sameAsAdopted says whether the file has the bytes of an object of its size, and
// leaves their checksum in s. A large file is read by the comparer: errComparing.
func (c *Cache) sameAsAdopted(ctx context.Context, d *depot, s *sending, info ObjectInfo) (bool, error) {
	if r, ok := c.compares.take(s.rec.Ino); ok && r.stamp == s.stamp && r.etag == info.ETag {
		s.crc = r.crc
		return r.same, nil
	}
	info.Key = s.key
	if s.stamp.Size > compareInline {
		_, urgent := c.urgent.Load(s.rec.Ino)
		c.compares.add(toCompare{s.rec.Ino, info}, urgent)
		return false, errComparing
	}
	var err error
	if s.crc, err = sumCRC(s.file, 0, s.stamp.Size); err != nil {
		return false, fmt.Errorf("read %q: %w", s.path, err)
	}
	c.adoption.count(func(r *adoptionRecord) { r.Read += s.stamp.Size })
	return c.sameAsObject(ctx, d, info, s.crc)
}

// sameAsBase finds out whether a file that others touched, renamed or copied onto
// itself still has the bytes of the version that it had. Then it is clean: rec is its
// record, and the objects have to follow its name at most.
func (c *Cache) sameAsBase(s *sending) (*catalog.Inode, error) {
	base := s.rec.Base
	if _, ok := currentObject(s.rec); !ok || base.Gen == 0 || !base.HasCRC || base.Size != s.stamp.Size {
		return nil, nil
	}
	crc, err := sumCRC(s.file, 0, base.Size)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errMoving
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", s.path, err)
	}
	if crc != base.CRC64 {
		return nil, nil
	}
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.n.writers > 0 {
		return nil, errWriter
	}
	if err := c.unmoved(s); err != nil {
		return nil, err
	}
	rec, err := c.change(s.rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if r.Gen != s.rec.Gen || r.Base != base {
			return errMoving
		}
		if err := step(r, evUploaded); err != nil {
			return err
		}
		r.Gen, r.Stamp, r.DirtySince = base.Gen, s.stamp, 0
		r.Flags &^= catalog.FlagAdopted | catalog.FlagUnseen
		return nil
	})
	if errors.Is(err, ErrStale) {
		return nil, errRemoved
	}
	if err != nil {
		return nil, err
	}
	c.log.Info("the bytes are those of the depot's version", "path", s.path, "size", base.Size)
	c.noteClean(rec, s.path)
	return rec, nil
}

// sameAsDepot records that the local bytes are the depot's version.
func (c *Cache) sameAsDepot(s *sending, info ObjectInfo) (*catalog.Inode, error) {
	rec, err := c.committed(s, info, byOthers)
	if err != nil {
		return nil, err
	}
	if rec.State != Clean {
		return nil, errMoving
	}
	c.adoption.count(func(r *adoptionRecord) { r.Same++ })
	c.log.Info("the depot has this file already", "path", s.path, "size", s.stamp.Size)
	c.noteClean(rec, s.path)
	if metaSays(info, rec) {
		return rec, nil
	}
	return c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error { // the object follows, by a copy onto itself
		r.Flags |= catalog.FlagAttrDirty
		return c.putQueue(tx, r, 0, false)
	})
}

// metaSays says whether an object's metadata describe the attributes of r.
func metaSays(info ObjectInfo, r *catalog.Inode) bool {
	a, _ := layout.Decode(info.Metadata) // what is not understood differs
	bits := uint32(0o7777)
	if isRegular(r) {
		bits = 0o1777 // set-id bits of files are not read from a bucket
	}
	return a.Mode != 0 && a.Mode&bits == r.Mode&bits && a.HasOwner && a.UID == r.UID && a.GID == r.GID &&
		(isDir(r) || a.HasMtime && a.Mtime == r.Mtime)
}

// resolveClash is called when the depot had something else under the key than we
// expected. Our own earlier attempt and identical bytes are no conflict. Otherwise
// the version that was finished last has the name and the other is kept.
func (c *Cache) resolveClash(ctx context.Context, d *depot, s *sending) (ObjectInfo, error) {
	info, err := d.store.Head(ctx, s.key)
	if errors.Is(err, ErrNotFound) {
		s.opts.IfMatch, s.opts.IfNoneMatch = "", true
		return c.put(ctx, d, s)
	}
	if err != nil {
		return info, err
	}
	if sameBytes(info, s.stamp.Size, s.crc, s.opts.HasCRC64) {
		c.dropParts(ctx, d, s.rec.Ino)
		return info, nil
	}
	if c.leftover(info) {
		s.opts.IfMatch, s.opts.IfNoneMatch = info.ETag, false
		return c.put(ctx, d, s)
	}
	theirs, err := c.finishOf(s.key, s.path, info)
	if err != nil {
		return info, err
	}
	// What was opened for writing, and not written, is no version of ours. One whose object
	// is under another key has been replaced by nobody: the file was renamed to this one.
	base := s.rec.Base
	same := holds(s.rec, s.key) && base.HasCRC && s.opts.HasCRC64 && base.Size == s.stamp.Size && base.CRC64 == s.crc
	if !same {
		if same, err = c.sameProperties(ctx, d, s, info); err != nil {
			return info, err
		}
	}
	if same {
		c.dropParts(ctx, d, s.rec.Ino)
		if err := c.demote(s, info, theirs); err != nil {
			return info, err
		}
		return info, laterError{c.now(), "nothing of ours is in it that the depot's version has not replaced"}
	}
	ours, err := c.ourMoment(s.rec)
	if err != nil {
		return info, err
	}
	if theirs.after(ours) {
		return info, c.loseTo(ctx, d, s, info)
	}
	if err := c.keepTheirs(ctx, d, s.key, s.path, info, lostEarlier); err != nil {
		return info, err
	}
	if err := c.noteReplaced(s.rec.Ino, s.key); err != nil {
		return info, err
	}
	s.opts.IfMatch, s.opts.IfNoneMatch = info.ETag, false
	return c.put(ctx, d, s)
}

// sameProperties says whether a properties file of ours and the depot's say the same: Java
// writes the date into a comment, and each zone's CloudStack writes the same file.
func (c *Cache) sameProperties(ctx context.Context, d *depot, s *sending, info ObjectInfo) (bool, error) {
	if !isProperties(s.path) || info.Size > maxCompared || s.stamp.Size > maxCompared || s.p != nil {
		return false, nil
	}
	body, _, err := d.store.Get(ctx, s.key, 0, -1, info.ETag)
	if err != nil {
		return false, err
	}
	defer body.Close()
	theirs, err := io.ReadAll(io.LimitReader(body, maxCompared+1))
	if err != nil {
		return false, fmt.Errorf("read %s: %w", s.key, err)
	}
	ours := make([]byte, s.stamp.Size)
	if n, err := s.file.ReadAt(ours, 0); n < len(ours) {
		return false, fmt.Errorf("read %q: %w", s.path, err)
	}
	return layout.EqualIgnoringComments(ours, theirs), nil
}

// maxCompared is more than a properties file has.
const maxCompared = 1 << 20

func (d *depot) skew() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.caps.ClockSkew
}

// loseTo keeps our bytes under .depotfs/conflicts in the depot and makes the file
// the depot's version.
func (c *Cache) loseTo(ctx context.Context, d *depot, s *sending, info ObjectInfo) error {
	if s.n.open() { // each attempt would keep another copy
		return laterError{c.now().Add(time.Second), "in conflict, and open"}
	}
	c.dropParts(ctx, d, s.rec.Ino)
	own := *s
	why := lostEarlier
	if s.rec.Flags&catalog.FlagAdopted != 0 {
		why = lostUnproven
	}
	var err error
	if own.key, _, err = c.conflictPlaceFor(ctx, d, s.path); err != nil {
		return err
	}
	own.aside = true
	own.opts = PutOptions{IfNoneMatch: true, Metadata: c.metadata(s.rec, s.path, true, s.rec.Gen)}
	own.opts.Metadata[metaConflict] = why
	if _, err := c.put(ctx, d, &own); err != nil {
		return fmt.Errorf("keep our version of %q: %w", s.path, err)
	}
	theirs, err := c.finishOf(s.key, s.path, info)
	if err != nil {
		return err
	}
	if err := c.demote(s, info, theirs); err != nil {
		return err
	}
	if s.rec.Flags&catalog.FlagAdopted != 0 {
		c.adoption.count(func(r *adoptionRecord) { r.Conflicts++ })
	}
	c.noteConflict(s.path, own.key, "the depot's version has the name, ours is kept", s.stamp.Size)
	return laterError{c.now(), "the depot's version has the name"}
}
