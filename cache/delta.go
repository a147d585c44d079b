package cache

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"depotfs/cache/catalog"
)

// An upload sends what the depot does not have: grains of the file that differ from
// the version before. The others are copied inside the store, under the condition
// that the object still is that version. What tells them apart are checksums, which
// are kept of every version that was uploaded in parts.

// compareStreams is how many grains of one file are read at once to be compared: a
// share on the network answers several reads in the time of one.
const compareStreams = 4

// copiesParts says whether the store copies parts of objects.
func (d *depot) copiesParts() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.caps.CopyPart
}

// planWhole plans the upload of a file that is all here.
func (c *Cache) planWhole(ctx context.Context, d *depot, s *sending) error {
	if err := c.chooseGrain(d, s); err != nil {
		return err
	}
	from := make([]source, len(s.sums.crc))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(compareStreams)
	for i := range from {
		off, size := int64(i)*s.sums.grain, grainSize(s.stamp.Size, s.sums.grain, i)
		if !s.base.has(i, size) || gctx.Err() != nil {
			continue
		}
		g.Go(func() error {
			if s.seen > 0 { // reading a large file takes a while
				if err := c.unmoved(s); err != nil {
					return err
				}
			}
			crc, err := s.sum(off, size)
			if err != nil {
				return err
			}
			s.sums.set(i, crc)
			if crc == s.base.crc[i] {
				from[i] = fromBase
			}
			return gctx.Err()
		})
	}
	if err := errors.Join(g.Wait(), ctx.Err()); err != nil {
		return err
	}
	s.setPlan(from)
	return nil
}

// setPlan makes the parts from the sources of the grains.
func (s *sending) setPlan(from []source) {
	s.plan = planParts(s.stamp.Size, s.sums.grain, func(i int) source { return from[i] })
	for i := range s.plan {
		pl := &s.plan[i]
		pl.crc, pl.hasCRC = s.sums.of(pl.off, pl.size)
	}
}

// chooseGrain finds out what is known of the version that the depot has, and in
// which grains the new one is looked at: those of an upload that goes on, those of
// the version before, so that both can be compared, or else of the usual size.
func (c *Cache) chooseGrain(d *depot, s *sending) error {
	grain := c.cfg.Limits.partSize(s.stamp.Size)
	up, _, err := c.begun(s)
	if err != nil {
		return err
	}
	obj, ok := currentObject(s.rec)
	if ok = ok && s.rec.Base.Gen != 0 && d.copiesParts(); ok {
		s.from = obj
		if s.base, err = c.baseSums(s.rec); err != nil {
			return err
		}
	}
	switch {
	case up != nil:
		grain = up.PartSize
	case s.base != nil && s.base.grain >= c.cfg.Limits.SmallestPart && grains(s.stamp.Size, s.base.grain) <= maxParts:
		grain = s.base.grain
	}
	s.base = s.base.coarser(grain)
	s.sums = newGrainSums(s.stamp.Size, grain)
	return nil
}

// baseSums is what is known of the version that the depot has; nil where nothing is.
func (c *Cache) baseSums(rec *catalog.Inode) (*grainSums, error) {
	var sums *catalog.Sums
	err := c.cat.View(func(tx *catalog.Tx) (err error) {
		sums, err = tx.Sums(rec.Ino)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return knownSums(sums, rec.Base), nil
}

// knownSums are the sums of a version from the catalog, nil if they are another's.
func knownSums(sums *catalog.Sums, v catalog.Version) *grainSums {
	if sums == nil || sums.Gen != v.Gen || sums.Size != v.Size || sums.Grain <= 0 || len(sums.CRC64) != grains(sums.Size, sums.Grain) {
		return nil
	}
	return &grainSums{size: sums.Size, grain: sums.Grain, crc: sums.CRC64, known: sums.Known}
}

// putSums keeps what is known of a version that the depot has now.
func putSums(tx *catalog.Tx, ino Ino, gen uint64, s *grainSums) error {
	return tx.PutSums(ino, &catalog.Sums{Gen: gen, Size: s.size, Grain: s.grain, CRC64: s.crc, Known: s.known})
}

// sumFetched is the checksum of a file whose last byte has come. What it finds of the
// grains spares sending them when the file is changed; p.promoting is held.
func (c *Cache) sumFetched(p *partial, rec *catalog.Inode) (crc uint64, err error) {
	sums := newGrainSums(rec.Size, c.cfg.Limits.partSize(rec.Size))
	for i := range sums.crc {
		n := grainSize(sums.size, sums.grain, i)
		sum, err := sumCRC(p.file, int64(i)*sums.grain, n)
		if err != nil {
			return 0, fmt.Errorf("read back what was fetched: %w", err)
		}
		sums.set(i, sum)
		crc = combineCRC(crc, sum, n)
	}
	p.sums = nil
	if rec.Size >= c.cfg.Limits.PartSize {
		p.sums = sums
	}
	return crc, nil
}

// keepSums records in a transaction what is known of the version that s has brought
// to the depot. Where it was there before, as another generation, old is what was.
func (s *sending) keepSums(tx *catalog.Tx, old, now catalog.Version) error {
	if s.sums != nil {
		return putSums(tx, s.rec.Ino, now.Gen, s.sums)
	}
	if old.Gen == now.Gen || !old.HasCRC || old.Size != now.Size || old.CRC64 != now.CRC64 {
		return nil // what may be on record is of another generation, and not used
	}
	sums, err := tx.Sums(s.rec.Ino)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && sums.Gen != old.Gen {
		return nil
	}
	if err != nil {
		return err
	}
	sums.Gen = now.Gen
	return tx.PutSums(s.rec.Ino, sums)
}

// errNotCopied: the store did not copy a part from the version before.
var errNotCopied = errors.New("not copied")

// copyPart makes a part inside the store. errNotCopied says that the version before
// is not there any more, or is not what we know it to be.
func (c *Cache) copyPart(ctx context.Context, d *depot, s *sending, up *catalog.Upload, n int, pl plannedPart) (Part, error) {
	p, err := d.store.CopyPart(ctx, s.key, up.UploadID, n, s.from.Key, s.from.ETag, pl.off, pl.size)
	d.report(err)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound): // the object, or the upload
		info, herr := d.store.Head(ctx, s.from.Key)
		switch {
		case herr == nil && info.ETag == s.from.ETag:
			return Part{}, err
		case herr != nil && !errors.Is(herr, ErrNotFound):
			return Part{}, herr
		}
		return Part{}, fmt.Errorf("%w (%v)", errNotCopied, err)
	case errors.Is(err, ErrChanged), errors.Is(err, ErrRejected):
		return Part{}, fmt.Errorf("%w (%v)", errNotCopied, err)
	default:
		return Part{}, err
	}
	if pl.hasCRC && p.HasCRC64 && p.CRC64 != pl.crc {
		return Part{}, fmt.Errorf("%w: %s has checksum %016x at %d instead of %016x", errNotCopied, s.from.Key, p.CRC64, pl.off, pl.crc)
	}
	if pl.hasCRC {
		p.CRC64, p.HasCRC64 = pl.crc, true
	}
	p.Number, p.Size = n, pl.size
	if !p.HasCRC64 {
		return p, nil // copied again by the next attempt, if there is one
	}
	return p, c.notePart(s, pl, p)
}
