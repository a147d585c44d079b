package cache

import (
	"context"
	"errors"
	"fmt"
	"io"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
)

// manyZerosShare: where a quarter of a file is zeros, what else is in it is read
// before the upload begins, to have the checksum that a zero map is bound to.
const manyZerosShare = 4

// lookForZeros finds the holes of a file and which of its grains are to be read before
// its upload begins: those that seem to be zeros, and all where there are many zeros.
// The sums of grains that are holes are known then.
func (c *Cache) lookForZeros(s *sending) (look []bool, err error) {
	if s.zeros, err = holesOf(s.file, s.stamp.Size); err != nil {
		return nil, fmt.Errorf("look for holes in %q: %w", s.path, err)
	}
	look = make([]bool, len(s.sums.crc))
	zeros, sum := s.zeros.Len(), zeroCRC(s.sums.grain)
	for i := range look {
		off, size := int64(i)*s.sums.grain, grainSize(s.stamp.Size, s.sums.grain, i)
		if s.zeros.Contains(off, off+size) {
			if size != s.sums.grain {
				sum = zeroCRC(size)
			}
			s.sums.set(i, sum)
			continue
		}
		if look[i], err = seemsZero(s.file, off, size); err != nil {
			return nil, fmt.Errorf("look at %q: %w", s.path, err)
		}
		if look[i] {
			for _, m := range s.zeros.Missing(off, off+size) {
				zeros += m.End - m.Off
			}
		}
	}
	up, _, err := c.begun(s)
	if err != nil || up != nil || zeros < s.stamp.Size/manyZerosShare {
		return look, err // what began already has its metadata
	}
	for i := range look {
		look[i] = true
	}
	return look, nil
}

// seemsZero says whether a stretch of a file may be zeros, by a few of its blocks.
func seemsZero(f io.ReaderAt, off, size int64) (bool, error) {
	var b [diskBlock]byte
	for _, at := range []int64{off, off + size/2, off + max(size-diskBlock, 0)} {
		n, err := f.ReadAt(b[:min(diskBlock, off+size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if !allZero(b[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// scan reads a part of the file: its checksum, and where it is zeros.
func (s *sending) scan(off, size int64) (crc uint64, zeros extent.Set, err error) {
	crc, zeros, err = scanRange(s.file, off, off+size)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, zeros, errMoving
	}
	if err != nil {
		return 0, zeros, fmt.Errorf("read %q at %d: %w", s.path, off, err)
	}
	return crc, zeros, nil
}

// addZeros adds zeros that were found.
func (s *sending) addZeros(found []extent.Set) {
	for i := range found {
		for _, r := range found[i].Ranges() {
			if s.zeros.Count() < maxZeroRanges {
				s.zeros.Add(r.Off, r.End)
			}
		}
	}
}

// baseZeros is where a file that lacks bytes is zeros because the version before is.
func (s *sending) baseZeros() extent.Set {
	zeros := zerosOf(s.rec)
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for _, w := range s.p.written.Ranges() {
		zeros.Remove(w.Off, w.End)
	}
	zeros.Truncate(s.p.limit)
	return zeros
}

// copyZeroGrains has the grains that are zeros, and that the version before does not
// have, copied from an object of zeros.
func (c *Cache) copyZeroGrains(ctx context.Context, d *depot, s *sending, from []source) error {
	var zero []int
	var run, longest int64
	last := -1
	for i := range from {
		off, size := int64(i)*s.sums.grain, grainSize(s.stamp.Size, s.sums.grain, i)
		if from[i] != fromDisk || !s.zeros.Contains(off, off+size) {
			continue
		}
		if i != last+1 {
			run = 0
		}
		run, last = run+size, i
		longest = max(longest, run)
		zero = append(zero, i)
	}
	if len(zero) == 0 {
		return nil
	}
	o, ok, err := c.zeroSource(ctx, d, s.sums.grain, longest)
	if err != nil || !ok {
		return err
	}
	s.zero = o
	for _, i := range zero {
		from[i] = fromZero
	}
	return nil
}

// mergeZeros makes one part of neighbours that are zeros, of at most limit bytes.
func mergeZeros(parts []plannedPart, limit int64) []plannedPart {
	out := parts[:0]
	for _, p := range parts {
		if last := len(out) - 1; p.from == fromZero && last >= 0 && out[last].from == fromZero && out[last].size+p.size <= limit {
			out[last].size += p.size
			continue
		}
		out = append(out, p)
	}
	return out
}

// copyZeros makes a part of zeros inside the store; errNotCopied says that the object
// of zeros is not there any more, or is another one.
func (c *Cache) copyZeros(ctx context.Context, d *depot, s *sending, up *catalog.Upload, n int, pl plannedPart) (Part, error) {
	p, err := d.store.CopyPart(ctx, s.key, up.UploadID, n, s.zero.key, s.zero.etag, 0, pl.size)
	d.report(err)
	if errors.Is(err, ErrNotFound) { // the object, or the upload
		info, herr := d.store.Head(ctx, s.zero.key)
		if herr == nil && info.ETag == s.zero.etag {
			return Part{}, err
		}
		if herr != nil && !errors.Is(herr, ErrNotFound) {
			return Part{}, herr
		}
	}
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrChanged), errors.Is(err, ErrRejected):
		d.zeros.forget(s.zero.size)
		return Part{}, fmt.Errorf("%w (%v)", errNotCopied, err)
	case err != nil:
		return Part{}, err
	case p.HasCRC64 && p.CRC64 != pl.crc:
		d.zeros.forget(s.zero.size)
		return Part{}, fmt.Errorf("%w: zeros copied from %s have checksum %016x", errNotCopied, s.zero.key, p.CRC64)
	}
	p.Number, p.Size, p.CRC64, p.HasCRC64 = n, pl.size, pl.crc, true
	return p, c.notePart(s, pl, p)
}
