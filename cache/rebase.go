package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
	"depotfs/cache/share"
)

// The upload of a file that lacks bytes replaces the very object that has them. What
// is missing here has to be read from the new object from then on, whether we heard
// the answer or not: so the record of the upload tells, durably and before the object
// is made, what it will be, and who finds another object than the base under the key
// looks there before he takes the bytes for lost.

// rebased is a version that the depot has got of a file that lacks bytes.
type rebased struct {
	v     catalog.Version
	obj   catalog.Object
	zeros string // its zero map
	same  bool   // nothing was written since it was read
	sums  func(tx *catalog.Tx, old catalog.Version) error
	sent  *catalog.Inode // with the attributes that the object has; nil: other ones, perhaps
}

// rebase makes a version the one that the file derives from. Where nothing was
// written since, what is here is the depot's: nothing is dirty any more. n.mu is held.
func (c *Cache) rebase(n *node, b rebased) (*catalog.Inode, error) {
	p := n.p
	partial := p != nil && !n.whole.Load()
	var durable arrivals // what came since is for the next time that extents are saved
	saved := false
	if partial {
		durable = p.takeArrivals()
		defer func() {
			if !saved {
				p.giveBack(durable)
			}
		}()
		if err := p.syncFile(); err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.discards != durable.discards {
			durable.here = extent.Set{}
		}
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return nil, err
	}
	var clean bool
	rec, err := c.change(n.ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if len(r.Links) == 0 {
			return errRemoved
		}
		old := r.Base
		r.Base, r.Zeros = b.v, b.zeros
		if err := c.claim(tx, r, b.obj); err != nil {
			return err
		}
		finished := r.FinishedAt
		if b.sent != nil {
			finished = b.sent.FinishedAt
		}
		if err := errors.Join(c.made(tx, r, finished), c.announceObject(tx, r, b.obj), b.sums(tx, old), tx.DeleteUpload(r.Ino)); err != nil {
			return err
		}
		clean = b.same && partial && r.State == PartialDirty && r.Gen == b.sent.Gen
		switch {
		case clean:
			if err := step(r, evUploaded); err != nil {
				return err
			}
			r.Gen, r.BaseLimit, r.DirtySince = b.v.Gen, b.v.Size, 0
			if sameAttrs(r, b.sent) && b.v.Gen == b.sent.Gen {
				r.Flags &^= catalog.FlagAttrDirty
			} else {
				r.Flags |= catalog.FlagAttrDirty
			}
			return tx.PutExtents(r.Ino, catalog.Extents{Here: durable.here.Ranges()})
		case !partial:
			r.BaseLimit = b.v.Size
		default:
			r.BaseLimit = p.limit
		}
		if r.Gen == b.v.Gen { // the next version needs a generation of its own
			r.Gen = gen
		}
		return nil
	})
	if errors.Is(err, ErrStale) {
		return nil, errRemoved
	}
	if err != nil || !partial {
		return rec, err
	}
	saved = clean
	// The log says what only we have until the catalog durably says that nothing is.
	if err := c.cat.Sync(context.Background()); err != nil {
		return nil, err
	}
	return rec, c.relog(n, rec, clean)
}

// relog brings the sidecar of a file in line with its new base; n.mu and p.mu are held.
func (c *Cache) relog(n *node, rec *catalog.Inode, clean bool) error {
	p := n.p
	if clean {
		p.written, p.limit = extent.Set{}, rec.Base.Size
		if p.sidecar != nil {
			if err := p.sidecar.Remove(); err != nil { // the next write, or start, does it
				c.log.Warn("remove sidecar", "ino", n.ino, "err", err)
			}
			p.sidecar = nil
		}
		return nil
	}
	if p.sidecar == nil {
		return nil
	}
	obj, _ := currentObject(rec)
	h := share.Header{Path: c.pathText(rec), Key: obj.Key, ETag: obj.ETag, Base: rec.Base, Size: p.size, BootID: c.bootID}
	fresh, err := share.ReplaceSidecar(c.share, uint64(n.ino), h, p.written.Ranges(), p.limit, p.size)
	if err != nil {
		return fmt.Errorf("note the new base of %q: %w", h.Path, err)
	}
	p.sidecar.Close()
	p.sidecar = fresh
	return nil
}

// committedPartial is committed for a file that lacks bytes.
func (c *Cache) committedPartial(s *sending, info ObjectInfo) (*catalog.Inode, error) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.p.mu.Lock()
	same := s.p.writes == s.writes
	s.p.mu.Unlock() // nobody writes while n.mu is held
	return c.rebase(s.n, rebased{
		v:     catalog.Version{Gen: s.rec.Gen, Size: s.stamp.Size, CRC64: s.crc, HasCRC: true},
		obj:   catalog.Object{Key: s.key, ETag: info.ETag, VersionID: info.VersionID, Gen: s.rec.Gen},
		zeros: extent.EncodeZeros(s.zeros, s.stamp.Size, s.crc, maxZeroMap),
		same:  same, sent: s.rec,
		sums: func(tx *catalog.Tx, _ catalog.Version) error { return putSums(tx, s.rec.Ino, s.rec.Gen, s.sums) },
	})
}

// unwritten records that what was written into a file is what the depot has already.
func (c *Cache) unwritten(ctx context.Context, d *depot, s *sending) (*catalog.Inode, error) {
	c.dropParts(ctx, d, s.rec.Ino)
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.p.mu.Lock()
	same := s.p.writes == s.writes
	s.p.mu.Unlock()
	if !same {
		return nil, errMoving
	}
	s.key = s.from.Key
	return c.rebase(s.n, rebased{v: s.rec.Base, obj: s.from, zeros: s.rec.Zeros, same: true, sent: s.rec,
		sums: func(*catalog.Tx, catalog.Version) error { return nil }})
}

// noteCompletion records what the object will be that an upload is about to make.
func (c *Cache) noteCompletion(ctx context.Context, d *depot, s *sending, up *catalog.Upload) error {
	if s.p == nil {
		return nil
	}
	if up.HasCRC && up.CRC64 != s.crc { // the mark of an earlier attempt is not to stand for these bytes
		c.abort(ctx, d, up)
		gen, err := c.cat.NextGen()
		if err != nil {
			return err
		}
		if _, err := c.change(s.rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
			r.Gen = gen
			return nil
		}); err != nil {
			return err
		}
		return errMoving
	}
	up.CRC64, up.HasCRC = s.crc, true
	if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.PutUpload(up) }); err != nil {
		return err
	}
	return c.cat.Sync(ctx)
}

// madeBy says whether an object is the version that an upload was about to make.
func (c *Cache) madeBy(up *catalog.Upload, info ObjectInfo) bool {
	return up.HasCRC && info.Metadata[metaVersion] == c.versionMark(up.Gen) && info.Size == up.Size &&
		(!info.HasCRC64 || info.CRC64 == up.CRC64)
}

// takeUp finds out whether an earlier upload of a file that lacks bytes has made its
// object, and makes that the base.
func (c *Cache) takeUp(ctx context.Context, d *depot, n *node) error {
	up, err := c.completing(n.ino)
	if up == nil {
		return err
	}
	info, err := d.store.Head(ctx, up.Key)
	d.report(err)
	if errors.Is(err, ErrNotFound) || err == nil && !c.madeBy(up, info) {
		return nil
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return c.rebaseOn(n, up, info)
}

// completing is the record of an upload that was about to make its object, or nil.
func (c *Cache) completing(ino Ino) (up *catalog.Upload, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		up, err = tx.Upload(ino)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) || err == nil && !up.HasCRC {
		return nil, nil
	}
	return up, err
}

// rebaseOn makes the object of an upload the base. Whether something was written
// since is not known: the next upload compares. n.mu is held.
func (c *Cache) rebaseOn(n *node, up *catalog.Upload, info ObjectInfo) error {
	rec, err := c.record(n.ino)
	if err != nil || rec.Base.Gen == up.Gen {
		return err
	}
	_, err = c.rebase(n, rebased{
		v:     catalog.Version{Gen: up.Gen, Size: up.Size, CRC64: up.CRC64, HasCRC: true},
		obj:   catalog.Object{Key: up.Key, ETag: info.ETag, VersionID: info.VersionID, Gen: up.Gen},
		zeros: info.Metadata[metaZeros],
		sums:  func(tx *catalog.Tx, old catalog.Version) error { return sumsOfParts(tx, up, old) },
	})
	if err == nil {
		c.log.Info("an upload had arrived without its answer", "path", c.pathText(rec), "key", up.Key, "gen", up.Gen)
	}
	return err
}

// sumsOfParts keeps what the parts of an upload tell of its version, together with
// what was known of the version before.
func sumsOfParts(tx *catalog.Tx, up *catalog.Upload, old catalog.Version) error {
	parts, err := tx.Parts(up.Ino)
	if err != nil {
		return err
	}
	before, err := tx.Sums(up.Ino)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	base, sums := knownSums(before, old).coarser(up.PartSize), newGrainSums(up.Size, up.PartSize)
	for _, p := range parts {
		if crc, ok := base.of(p.Off, p.Size); ok && crc == p.CRC64 {
			sums.inherit(base, p.Off, p.Size)
		}
		sums.take(p.Off, p.Size, p.CRC64)
	}
	if !slices.Contains(sums.known, true) {
		return nil
	}
	return putSums(tx, up.Ino, up.Gen, sums)
}

// ownVersion is asked when the object under the key is not the base of a file that
// lacks bytes: it may be what our own upload made of it. While that upload runs, its
// end is waited for; it is near.
func (c *Cache) ownVersion(ctx context.Context, n *node, obj catalog.Object, info ObjectInfo) (bool, error) {
	for {
		up, err := c.completing(n.ino)
		if err != nil {
			return false, err
		}
		rec, err := c.record(n.ino)
		if err != nil {
			return false, err
		}
		if cur, ok := currentObject(rec); ok && cur != obj {
			return true, nil
		}
		if up == nil || up.Key != obj.Key || !c.madeBy(up, info) {
			return false, nil
		}
		n.mu.Lock()
		idle := n.upload == nil
		if idle {
			err = c.rebaseOn(n, up, info)
		}
		n.mu.Unlock()
		if idle {
			return err == nil, err
		}
		select {
		case <-time.After(endOfUpload):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// endOfUpload is how often a reader looks whether an upload has ended whose object
// is there: within the time that people notice, and longer than the commit takes.
const endOfUpload = 20 * time.Millisecond

// resolvePartialClash is resolveClash for a file that lacks bytes: everything that
// needs them has them fetched first.
func (c *Cache) resolvePartialClash(ctx context.Context, d *depot, s *sending, cause error) (ObjectInfo, error) {
	info, err := d.store.Head(ctx, s.key)
	elsewhere := s.from.Key != s.key // else the base is gone
	switch {
	case errors.Is(err, ErrNotFound) && elsewhere:
		s.opts.IfMatch, s.opts.IfNoneMatch = "", true
		return c.put(ctx, d, s)
	case err != nil && !errors.Is(err, ErrNotFound):
		return info, err
	case err == nil && s.opts.HasCRC64 && (sameBytes(info, s.stamp.Size, s.crc, true) || !info.HasCRC64 && isOneOf(info, c.versionMark(s.rec.Gen))):
		c.dropParts(ctx, d, s.rec.Ino)
		return info, nil
	case err == nil && c.leftover(info) && elsewhere:
		s.opts.IfMatch, s.opts.IfNoneMatch = info.ETag, false
		return c.put(ctx, d, s)
	}
	return info, fmt.Errorf("%w: %v", errFetchWhole, cause)
}
