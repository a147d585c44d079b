package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
	"depotfs/cache/layout"
	"depotfs/cache/share"
)

// yieldsTo is the record of another zone for which a file is to lose its name: a deletion
// that is later than what we have, or a directory of that name. nil: it keeps it.
func (c *Cache) yieldsTo(rec *catalog.Inode, path string) (*journal.Record, error) {
	r, err := c.heldAt(path)
	if err != nil || r == nil {
		return nil, err
	}
	switch r.Op {
	case journal.Mkdir:
		if r.Mode == 0 { // for what is in it
			return r, nil
		}
		g, err := c.buried(path)
		if err != nil || g != nil && g.RmdirAt != 0 && !momentOf(r).after(rmdirOf(g)) {
			return nil, err // it is gone by now
		}
		return r, nil
	case journal.Delete:
		ours, err := c.changedAt(rec)
		if err != nil || ours.after(momentOf(r)) {
			return nil, err
		}
		return r, nil
	}
	return nil, nil
}

// yieldName keeps our bytes of a file that another zone has deleted, or has a directory in
// the place of, as a conflict in the depot; then the name is theirs.
func (c *Cache) yieldName(ctx context.Context, d *depot, s *sending, r *journal.Record) error {
	if s.n.open() {
		return laterError{c.now().Add(heldLook), "another zone has removed it, and it is open"}
	}
	c.dropParts(ctx, d, s.rec.Ino)
	if err := c.leaveAttempt(s.rec.Ino); err != nil {
		return err
	}
	own := *s
	var err error
	if own.key, _, err = c.conflictPlaceFor(ctx, d, s.path); err != nil {
		return err
	}
	own.aside = true
	why := "zone " + r.Zone + " has removed the name"
	own.opts = PutOptions{IfNoneMatch: true, Metadata: c.metadata(s.rec, s.path, true, s.rec.Gen)}
	own.opts.Metadata[metaConflict] = plainASCII(why)
	info, err := c.put(ctx, d, &own)
	if err != nil {
		return fmt.Errorf("keep our version of %q: %w", s.path, err)
	}
	if err := c.demote(&own, info, moment{s.rec.MadeAt, s.rec.Origin}); err != nil {
		return err
	}
	c.noteConflict(s.path, own.key, why+", our version is kept", s.stamp.Size)
	if r.Op == journal.Mkdir {
		if err := c.gaveUp(s.rec.Ino, s.path); err != nil {
			return err
		}
	}
	if err := c.retryHeld(ctx); err != nil {
		return err
	}
	return laterError{c.now(), "another zone has removed the name"}
}

// gaveUp tells the other zones that a version of ours is gone that had the name of a
// directory: those who heard of the file first wait for that. Its object goes.
func (c *Cache) gaveUp(ino Ino, path string) error {
	var gone []catalog.Object
	_, err := c.change(ino, func(tx *catalog.Tx, now *catalog.Inode) error {
		gone = gone[:0]
		if now.MadeAt > 0 {
			r := journal.Record{Op: journal.Delete, Path: path, Time: now.MadeAt + 1, Zone: c.zoneName()}
			if err := bury(tx, graveOf(r)); err != nil {
				return err
			}
			if err := c.announce(tx, r); err != nil {
				return err
			}
		}
		now.Origin = "" // kept: nothing is left to be done for it
		if key, _ := layout.Key(c.cfg.Prefix, path, false); !ownsKey(now, key) {
			return nil
		}
		for _, o := range now.Objects {
			gone = append(gone, o)
			if err := c.removeObject(tx, ino, o, path); err != nil {
				return err
			}
		}
		now.Objects = nil
		return nil
	})
	for _, o := range gone {
		c.removals.Add(o.Key, c.now())
	}
	if err != nil {
		return err
	}
	rec, err := c.record(ino)
	if err != nil || len(rec.Links) != 1 {
		return err
	}
	err = c.dropFile(rec.Links[0].Parent, rec.Links[0].Name, ino)
	if errors.Is(err, errHeld) || errors.Is(err, errMoved) || errors.Is(err, errOutside) {
		return nil // the record that waits does it
	}
	return err
}

// yieldClean is yieldName for a file of ours whose bytes the depot has: they are copied
// there. It reports whether the file has lost its name.
func (c *Cache) yieldClean(ctx context.Context, d *depot, rec *catalog.Inode, path string) (bool, error) {
	if holdsOnlyCopy(rec.State) {
		return false, nil
	}
	r, err := c.yieldsTo(rec, path)
	if err != nil || r == nil {
		return false, err
	}
	if o, ok := currentObject(rec); ok && rec.Origin == c.zoneName() {
		err := c.keepTheirs(ctx, d, o.Key, path, ObjectInfo{ETag: o.ETag, Size: rec.Base.Size}, "zone "+r.Zone+" has a directory of that name")
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrChanged) {
			return false, err
		}
		if err := c.gaveUp(rec.Ino, path); err != nil {
			return false, err
		}
	}
	if err := c.retryHeld(ctx); err != nil {
		return false, err
	}
	now, err := c.record(rec.Ino)
	if errors.Is(err, ErrStale) || err == nil && len(now.Links) == 0 {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return true, laterError{c.now().Add(heldLook), "waits to lose its name to another zone"}
}

// yieldMove takes a file from the name that another zone has renamed to that of a directory.
// Who finished its version keeps it as a conflict first, by the worker.
func (c *Cache) yieldMove(rec *catalog.Inode, path string, renamed journal.Record) error {
	r := journal.Record{Op: journal.Delete, Path: path, Time: renamed.Time, Zone: renamed.Zone}
	if _, ok := currentObject(rec); !ok || !isRegular(rec) || rec.Origin != c.zoneName() {
		return c.applyDelete(r)
	}
	if err := c.cat.Update(func(tx *catalog.Tx) error { return c.putQueue(tx, rec, 0, false) }); err != nil {
		return err
	}
	if err := c.hold(r); err != nil {
		return err
	}
	c.kick(rec.Ino)
	return nil
}

// baseReplaced is asked when the bytes that a file lacks cannot be had any more: nil, unless
// another zone has told of the version that replaced them.
func (c *Cache) baseReplaced(ctx context.Context, d *depot, n *node, path string) error {
	r, err := c.heldAt(path)
	if err != nil || r == nil || r.Op != journal.Put {
		return err
	}
	rec, err := c.record(n.ino)
	if err != nil {
		return err
	}
	info, err := d.store.Head(ctx, r.Key)
	d.report(err)
	if errors.Is(err, ErrNotFound) || err == nil && info.ETag != r.ETag {
		return nil // the next record says what became of it
	}
	if err != nil {
		return err
	}
	return c.loseParts(&sending{n: n, rec: rec, path: path, key: r.Key}, info)
}

// loseParts gives the name of a file that lacks bytes to another zone's version, which has
// replaced the one that the missing bytes were of: ours cannot be made whole any more. What
// was written here stays in the share, as a conflict.
func (c *Cache) loseParts(s *sending, info ObjectInfo) error {
	gen, err := c.cat.NextGen()
	if err != nil {
		return err
	}
	theirs, err := c.finishOf(s.key, s.path, info)
	if err != nil {
		return err
	}
	kept := share.ConflictPath(c.now(), s.path)
	err = c.withName(s.rec.Ino, true, func(rec *catalog.Inode, path string) error {
		s.n.mu.Lock()
		defer s.n.mu.Unlock()
		if s.n.handles > 0 {
			return laterError{c.now().Add(heldLook), "in conflict, and open"}
		}
		if s.n.p == nil || rec.State != PartialDirty || path != s.path {
			return errMoving
		}
		if err := c.share.MkdirAll(parentPath(kept), 0o700); err != nil {
			return err
		}
		from := share.PartialPath(uint64(rec.Ino))
		if err := c.share.Rename(from, kept, share.NoReplace); err != nil {
			return err
		}
		if _, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
			if err := step(r, evVanish); err != nil {
				return err
			}
			if err := c.becomeTheirs(tx, r, path, info, gen, theirs); err != nil {
				return err
			}
			for _, o := range r.Objects {
				if err := disownKey(tx, o.Key, r.Ino); err != nil {
					return err
				}
			}
			r.Objects = nil
			if err := c.claim(tx, r, catalog.Object{Key: s.key, ETag: info.ETag, VersionID: info.VersionID, Gen: gen}); err != nil {
				return err
			}
			return errors.Join(tx.DeleteUpload(r.Ino), tx.DeleteExtents(r.Ino), c.putQueue(tx, r, 0, false))
		}); err != nil {
			return errors.Join(err, c.share.Rename(kept, from, share.NoReplace))
		}
		s.n.p.close()
		s.n.file.Close()
		s.n.file, s.n.p = nil, nil
		if err := share.RemoveSidecar(c.share, uint64(rec.Ino)); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			c.log.Warn("remove sidecar", "ino", rec.Ino, "err", err)
		}
		c.inodeChanged(rec.Ino)
		return nil
	})
	if err != nil {
		return err
	}
	c.noteConflict(s.path, c.cfg.CacheDir+"/"+kept, "another zone replaced the version that missing bytes were of; what was written here is kept, without them", 0)
	return laterError{c.now(), "the depot's version has the name"}
}

// becomeTheirs makes r, which has a path, another zone's version, none of which is here.
// Attributes that were set here after it was made stay, and are the depot's too in a while;
// so do later ones that other zones have told of.
func (c *Cache) becomeTheirs(tx *catalog.Tx, r *catalog.Inode, path string, info ObjectInfo, gen uint64, made moment) error {
	r.Base = catalog.Version{Gen: gen, Size: info.Size, CRC64: info.CRC64, HasCRC: info.HasCRC64}
	r.Zeros = ""
	learnZeros(r, info.Metadata)
	toRemote(r)
	r.MadeAt, r.Origin = made.at, made.zone
	if r.AttrAt != 0 && journal.Later(r.AttrAt, r.AttrBy, made.at, made.zone) {
		r.Flags |= catalog.FlagAttrDirty
		return takeKept(tx, r, path)
	}
	r.AttrAt, r.AttrBy = 0, ""
	r.Flags &^= catalog.FlagAttrDirty
	a, err := layout.Decode(info.Metadata)
	if err != nil {
		c.log.Warn("metadata that is not understood", "key", info.Key, "err", err)
	}
	r.Mtime = info.Modified.UnixNano()
	if a.Mode != 0 {
		a.Mode &= syscall.S_IFMT | 0o1777
	}
	applyMeta(r, a)
	return takeKept(tx, r, path)
}
