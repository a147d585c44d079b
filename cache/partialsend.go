package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
	"depotfs/cache/layout"
)

// A file that lacks bytes is uploaded without them: what nobody wrote to is copied
// inside the store from the version that the depot has, and of the grains that
// somebody wrote to only what is missing is fetched. All writes into such a file go
// through us, so that counting them tells whether an upload still is of the file.

// errWhole stops the upload of a file that lacked bytes when the last of them has
// come: it goes on as that of a whole file.
var errWhole = errors.New("became whole")

// sendPartial uploads a file that lacks bytes as it is. It reports false where that
// cannot be done and the file has to be whole first, or is by now.
func (c *Cache) sendPartial(ctx context.Context, d *depot, j *job, n *node, cl layout.Class, path string, open bool) (bool, error) {
	if !d.copiesParts() {
		return false, nil
	}
	ctx, stop, err := c.beginUpload(ctx, n, open)
	if err != nil {
		return false, err
	}
	defer stop()
	err = c.sendAsIs(ctx, d, j, n, cl, path)
	switch cause := context.Cause(ctx); {
	case err == nil:
		return true, nil
	case errors.Is(cause, errWhole), errors.Is(err, errWhole):
		return false, nil
	case errors.Is(cause, errWriter), errors.Is(cause, errRemoved):
		return false, cause
	case errors.Is(err, errFetchWhole):
		c.log.Info("a file is fetched to be uploaded", "path", path, "err", err)
		return false, nil
	}
	return false, err
}

// sendAsIs is sendPartial within the context that ends when the upload has to stop.
func (c *Cache) sendAsIs(ctx context.Context, d *depot, j *job, n *node, cl layout.Class, path string) error {
	if err := c.takeUp(ctx, d, n); err != nil {
		return err
	}
	s, err := c.snapshot(n, path)
	if err != nil {
		return err
	}
	if err := c.quietPartial(s, cl); err != nil {
		return err
	}
	if err := c.planPartial(ctx, d, s); err != nil {
		return err
	}
	s.job = j
	j.setOut()
	s.bar = c.uploads.add(path, s.stamp.Size)
	defer c.uploads.remove(s.bar)
	return c.send(ctx, d, s)
}

// snapshot makes what was written durable and notes what is to be uploaded.
func (c *Cache) snapshot(n *node, path string) (*sending, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil || n.whole.Load() {
		return nil, errWhole
	}
	if err := c.saveExtents(n); err != nil {
		return nil, err
	}
	rec, err := c.record(n.ino)
	if err != nil {
		return nil, err
	}
	if rec.State != PartialDirty || rec.Flags&catalog.FlagAdopted != 0 {
		return nil, fmt.Errorf("%w: it is %s", errFetchWhole, stateName(rec.State))
	}
	n.p.mu.Lock()
	s := &sending{n: n, rec: rec, path: path, file: n.p.file, p: n.p, writes: n.p.writes,
		stamp: catalog.Stamp{Size: n.p.size, Mtime: n.p.mtime, Ctime: n.p.ctime}}
	moved := rec.Size != n.p.size || rec.Mtime != n.p.mtime
	n.p.mu.Unlock()
	if moved {
		return nil, errMoving
	}
	gen, err := c.attemptGen(s)
	if err != nil || gen == rec.Gen {
		return s, err
	}
	s.rec, err = c.change(n.ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		r.Gen = gen
		return nil
	})
	return s, err
}

// quietPartial has a file wait that was written to just now.
func (c *Cache) quietPartial(s *sending, cl layout.Class) error {
	s.p.mu.Lock()
	wrote := s.p.wrote
	s.p.mu.Unlock()
	due := time.Unix(0, wrote).Add(c.settleFor(s.rec, cl))
	if _, urgent := c.urgent.Load(s.rec.Ino); wrote <= s.rec.FinishedAt || urgent || !due.After(c.now()) {
		return nil
	}
	rec, err := c.change(s.rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		c.noteFinished(r, wrote)
		return nil
	})
	if err != nil {
		return err
	}
	c.reorder(rec)
	return laterError{due, "was just written"}
}

// planPartial finds out what is to be sent, and fetches what is missing of that.
func (c *Cache) planPartial(ctx context.Context, d *depot, s *sending) error {
	if s.stamp.Size < c.transfers.Load().PartSize || s.rec.Base.Size < c.cfg.Limits.SmallestPart {
		return fmt.Errorf("%w: it is small", errFetchWhole)
	}
	if err := c.chooseGrain(d, s); err != nil {
		return err
	}
	if s.from.Key == "" {
		return fmt.Errorf("%w: the depot has no version before", errFetchWhole)
	}
	from := s.sources()
	if !slices.Contains(from, fromBase) {
		return fmt.Errorf("%w: it was written to everywhere", errFetchWhole)
	}
	s.zeros = s.baseZeros()
	for i, src := range from {
		off, size := int64(i)*s.sums.grain, grainSize(s.stamp.Size, s.sums.grain, i)
		if src == fromBase {
			s.sums.inherit(s.base, off, size)
			continue
		}
		if err := c.ensure(ctx, s.n, nil, off, off+size); err != nil {
			return err
		}
		crc, zeros, err := s.scan(off, size)
		if err != nil {
			return err
		}
		s.sums.set(i, crc)
		s.addZeros([]extent.Set{zeros})
		if s.base.has(i, size) && s.base.crc[i] == crc {
			from[i] = fromBase // written, and not changed
		}
	}
	if err := errors.Join(ctx.Err(), c.unmoved(s)); err != nil {
		return err
	}
	if err := c.copyZeroGrains(ctx, d, s, from); err != nil {
		return err
	}
	s.setPlan(from)
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	return c.saveExtents(s.n) // what was fetched is not fetched again after a kill
}

// sources says of each grain whether it is the base's or has to be looked at.
func (s *sending) sources() []source {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	from := make([]source, len(s.sums.crc))
	for i := range from {
		off := int64(i) * s.sums.grain
		end := off + grainSize(s.stamp.Size, s.sums.grain, i)
		if end <= s.p.limit && len(s.p.written.Overlap(off, end)) == 0 {
			from[i] = fromBase
		}
	}
	return from
}

// isSame says whether everything that was written is what the depot has already.
func (s *sending) isSame() bool {
	return s.p != nil && s.stamp.Size == s.rec.Base.Size && len(s.plan) > 0 &&
		!slices.ContainsFunc(s.plan, func(pl plannedPart) bool { return pl.from != fromBase })
}
