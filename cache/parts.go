package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"depotfs/cache/catalog"
)

// putParts uploads in parts, several at once, and goes on where an earlier
// attempt at the same version stopped.
func (c *Cache) putParts(ctx context.Context, d *depot, s *sending) (ObjectInfo, error) {
	if s.plan == nil {
		if err := c.planWhole(ctx, d, s); err != nil {
			return ObjectInfo{}, err
		}
	}
	if crc, ok := s.sums.of(0, s.stamp.Size); ok {
		withZeros(s.opts.Metadata, s.zeros, s.stamp.Size, crc)
	}
	up, have, err := c.openUpload(ctx, d, s)
	if err != nil {
		return ObjectInfo{}, err
	}
	parts, err := c.putPlan(ctx, d, s, up, have)
	if errors.Is(err, ErrNotFound) { // the store forgot the upload: start again
		return ObjectInfo{}, errors.Join(fmt.Errorf("upload %s: %w (%v)", s.key, ErrUnavailable, err), c.forgetUpload(s.rec.Ino))
	}
	if err != nil {
		return ObjectInfo{}, err
	}
	if s.crc, err = c.wholeSum(ctx, d, s, parts); err != nil {
		return ObjectInfo{}, err
	}
	s.opts.CRC64, s.opts.HasCRC64 = s.crc, true
	if err := c.myTurn(ctx, s); err != nil {
		if errors.Is(err, errMoving) {
			c.abort(ctx, d, up)
		}
		return ObjectInfo{}, err
	}
	if err := c.noteCompletion(ctx, d, s, up); err != nil {
		return ObjectInfo{}, err
	}
	info, err := d.store.CompleteMultipart(ctx, s.key, up.UploadID, parts, s.stamp.Size, s.opts)
	switch {
	case errors.Is(err, ErrNotFound):
		// Completed earlier, with the answer lost, or forgotten: the object tells.
		there, herr := d.store.Head(ctx, s.key)
		if herr == nil && sameBytes(there, s.stamp.Size, s.crc, true) {
			return there, nil
		}
		if s.p != nil { // the record tells what became of the object (takeUp)
			return info, fmt.Errorf("complete %s: %w (%v)", s.key, ErrUnavailable, err)
		}
		return info, errors.Join(fmt.Errorf("complete %s: %w (%v)", s.key, ErrUnavailable, err), c.forgetUpload(s.rec.Ino))
	case errors.Is(err, ErrChecksum), errors.Is(err, ErrRejected) && c.startsAgain(s.rec.Ino):
		c.abort(ctx, d, up)
	}
	return info, err
}

// startsAgain says whether an upload whose completion the store has rejected is to be made anew:
// a store may have lost what it needs of an upload that it still lists, and that will never
// be completed (versitygw was seen to). What is
// rejected for another reason will be again, so all parts are sent again ever more seldom.
func (c *Cache) startsAgain(ino Ino) bool {
	var n uint32
	err := c.cat.View(func(tx *catalog.Tx) error {
		it, err := tx.QueueItem(ino)
		if err == nil {
			n = it.Attempts
		}
		return err
	})
	return err == nil && bits.OnesCount32(n) == 1 // attempts 2, 3, 5, 9, 17 ...
}

// putPlan makes the parts that the store does not have yet.
func (c *Cache) putPlan(ctx context.Context, d *depot, s *sending, up *catalog.Upload, have map[int]Part) ([]Part, error) {
	parts := make([]Part, len(s.plan))
	g, gctx := errgroup.WithContext(ctx)
	for i, pl := range s.plan {
		if p, ok := have[i+1]; ok {
			parts[i] = p
			s.bar.grow(pl.size)
			continue
		}
		if c.partSlots.Take(gctx, s.job.turn) != nil {
			break
		}
		g.Go(func() error {
			defer c.partSlots.Put()
			p, err := c.putPart(gctx, d, s, up, i+1, pl)
			if err == nil {
				parts[i] = p
				s.bar.grow(pl.size)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return parts, ctx.Err()
}

// putPart makes one part and records the store's confirmation.
func (c *Cache) putPart(ctx context.Context, d *depot, s *sending, up *catalog.Upload, n int, pl plannedPart) (Part, error) {
	if s.seen > 0 || s.p != nil { // writers do not cancel it: stop when they go on
		if err := c.unmoved(s); err != nil {
			return Part{}, err
		}
	}
	if pl.from == fromBase {
		p, err := c.copyPart(ctx, d, s, up, n, pl)
		if !errors.Is(err, errNotCopied) || s.p != nil {
			return p, err
		}
		c.log.Info("a part is sent after all", "path", s.path, "part", n, "size", pl.size, "err", err)
	}
	if pl.from == fromZero {
		p, err := c.copyZeros(ctx, d, s, up, n, pl)
		if !errors.Is(err, errNotCopied) {
			return p, err
		}
		c.log.Warn("zeros are sent", "path", s.path, "part", n, "size", pl.size, "err", err)
	}
	if !pl.hasCRC {
		var err error
		if pl.crc, err = s.sum(pl.off, pl.size); err != nil {
			return Part{}, err
		}
	}
	p, err := d.store.PutPart(ctx, s.key, up.UploadID, n, io.NewSectionReader(s.file, pl.off, pl.size), pl.size, pl.crc)
	d.report(err)
	if errors.Is(err, ErrChecksum) && c.unmoved(s) != nil {
		return Part{}, errMoving
	}
	if err != nil {
		return Part{}, err
	}
	p.Number, p.Size, p.CRC64, p.HasCRC64 = n, pl.size, pl.crc, true
	return p, c.notePart(s, pl, p)
}

// notePart records a part that the store has confirmed.
func (c *Cache) notePart(s *sending, pl plannedPart, p Part) error {
	return c.cat.Update(func(tx *catalog.Tx) error {
		return tx.PutPart(s.rec.Ino, catalog.UploadPart{Number: p.Number, Off: pl.off, Size: pl.size, CRC64: p.CRC64, ETag: p.ETag})
	})
}

// sum reads a part of the file and returns its checksum.
func (s *sending) sum(off, size int64) (uint64, error) {
	crc, err := sumCRC(s.file, off, size)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, errMoving
	}
	if err != nil {
		return 0, fmt.Errorf("read %q at %d: %w", s.path, off, err)
	}
	return crc, nil
}

// openUpload finds the multipart upload of this version that was begun earlier,
// with the parts that the store confirms, or begins one.
func (c *Cache) openUpload(ctx context.Context, d *depot, s *sending) (*catalog.Upload, map[int]Part, error) {
	up, known, err := c.begun(s)
	if err != nil {
		return nil, nil, err
	}
	if up != nil {
		have, err := c.confirmed(ctx, d, s, up, known)
		if err == nil {
			c.log.Info("upload goes on", "path", s.path, "parts", len(have))
			return up, have, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return nil, nil, err
		}
	}
	up = &catalog.Upload{Ino: s.rec.Ino, Key: s.key, PartSize: s.sums.grain,
		Size: s.stamp.Size, Gen: s.rec.Gen, Stamp: s.stamp, Created: c.nanos()}
	if err := c.noteAttempt(up); err != nil { // see abortLost
		return nil, nil, err
	}
	s.opts.Copies = slices.ContainsFunc(s.plan, func(pl plannedPart) bool { return pl.from != fromDisk })
	up.UploadID, err = d.store.CreateMultipart(ctx, s.key, s.opts)
	if d.report(err); err != nil {
		return nil, nil, err
	}
	if err := c.noteAttempt(up); err != nil {
		c.abort(ctx, d, up)
		return nil, nil, err
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	// Without the record the parts would be orphans after a power cut.
	return up, nil, c.cat.Sync(ctx)
}

// goesOn says whether a multipart upload that was begun earlier is of this version.
func (s *sending) goesOn(up *catalog.Upload) bool {
	return up.UploadID != "" && up.Key == s.key && up.Stamp == s.stamp && up.Gen == s.rec.Gen && up.Size == s.stamp.Size
}

// begun is the multipart upload of this version that was begun earlier, nil if none
// was, with the parts that were confirmed then.
func (c *Cache) begun(s *sending) (up *catalog.Upload, known []catalog.UploadPart, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		if up, err = tx.Upload(s.rec.Ino); err != nil {
			return err
		}
		known, err = tx.Parts(s.rec.Ino)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) || err == nil && !s.goesOn(up) {
		return nil, nil, nil
	}
	return up, known, err
}

// confirmed are the parts of the plan that the store has as we made them. A part of
// an earlier plan counts if it is of the same bytes.
func (c *Cache) confirmed(ctx context.Context, d *depot, s *sending, up *catalog.Upload, known []catalog.UploadPart) (map[int]Part, error) {
	listed, err := d.store.ListParts(ctx, up.Key, up.UploadID)
	d.report(err)
	if err != nil {
		return nil, err
	}
	ours := make(map[int]catalog.UploadPart, len(known))
	for _, p := range known {
		ours[p.Number] = p
	}
	have := make(map[int]Part, len(listed))
	for _, p := range listed {
		k, ok := ours[p.Number]
		if !ok || p.Number > len(s.plan) {
			continue
		}
		pl := s.plan[p.Number-1]
		if k.Off != pl.off || k.Size != pl.size || pl.hasCRC && k.CRC64 != pl.crc || s.p != nil && !pl.hasCRC {
			continue
		}
		if k.Size != p.Size || k.ETag != p.ETag || p.HasCRC64 && p.CRC64 != k.CRC64 {
			continue
		}
		p.CRC64, p.HasCRC64 = k.CRC64, true
		have[p.Number] = p
	}
	return have, nil
}

// shortRequest bounds requests that are finished although nobody waits any more.
const shortRequest = 10 * time.Second

// unhurried is a context for a short request that shall end by itself, whoever
// cancels ctx.
func unhurried(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), shortRequest)
}

// abort forgets an upload in the store and here; what fails is tried again before
// the next attempt.
func (c *Cache) abort(ctx context.Context, d *depot, up *catalog.Upload) {
	ctx, stop := unhurried(ctx)
	defer stop()
	if err := d.store.AbortMultipart(ctx, up.Key, up.UploadID); err != nil {
		c.log.Warn("abort an upload", "key", up.Key, "err", err)
		return
	}
	// An earlier attempt may have made the object, its answer lost: the key is not
	// forgotten before that is settled (settleAttempt).
	left := *up
	left.UploadID, left.PartSize, left.HasCRC, left.CRC64 = "", 0, false, 0
	if err := c.noteAttempt(&left); err != nil && !errors.Is(err, errRemoved) && !errors.Is(err, ErrStale) {
		c.log.Warn("forget an upload", "key", up.Key, "err", err)
	}
}

// dropParts aborts the multipart upload of an inode that is not to be completed.
func (c *Cache) dropParts(ctx context.Context, d *depot, ino Ino) {
	var up *catalog.Upload
	err := c.cat.View(func(tx *catalog.Tx) error {
		var err error
		up, err = tx.Upload(ino)
		return err
	})
	if err == nil && up.UploadID != "" {
		c.abort(ctx, d, up)
	}
}

func (c *Cache) forgetUpload(ino Ino) error {
	return c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteUpload(ino) })
}

// staleUpload is how old an unfinished upload must be before it is swept unless
// this zone knows it: another zone's upload of a large image over a slow line
// takes days, and the store charges for parts by the month.
const staleUpload = 7 * 24 * time.Hour

// sweepUploads aborts old multipart uploads under our prefix that this zone does
// not know: what a lost state directory or a lost answer left.
func (c *Cache) sweepUploads(ctx context.Context, d *depot) {
	ctx, done := d.use(ctx)
	defer done()
	infos, err := d.store.ListMultiparts(ctx, c.cfg.Prefix)
	if err != nil {
		c.log.Warn("list unfinished uploads", "err", err)
		return
	}
	var mine []string
	if err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachUpload(func(u *catalog.Upload) bool { mine = append(mine, u.UploadID); return true })
	}); err != nil {
		c.log.Warn("read uploads", "err", err)
		return
	}
	for _, m := range infos {
		known := func(id string) bool { return strings.HasSuffix(id, m.UploadID) }
		if slices.ContainsFunc(mine, known) || c.now().Sub(m.Initiated) < staleUpload {
			continue
		}
		if err := d.store.AbortMultipart(ctx, m.Key, m.UploadID); err != nil {
			c.log.Warn("sweep an unfinished upload", "key", m.Key, "err", err)
			continue
		}
		c.log.Info("swept an unfinished upload", "key", m.Key, "since", m.Initiated)
	}
}
