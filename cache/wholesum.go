package cache

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/minio/crc64nvme"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
)

// errFetchWhole: the depot cannot be told the checksum of a file that lacks bytes, or
// its version before is not to be copied from, so that the file has to be whole first.
var errFetchWhole = errors.New("all bytes are needed")

// wholeSum is the checksum of the version from those of its parts, and notes in
// s.sums what is known of its grains.
func (c *Cache) wholeSum(ctx context.Context, d *depot, s *sending, parts []Part) (uint64, error) {
	var crc uint64
	known := true
	for i, p := range parts {
		pl := s.plan[i]
		if pl.from == fromBase {
			s.sums.inherit(s.base, pl.off, pl.size)
		}
		if !p.HasCRC64 {
			known = false
			continue
		}
		s.sums.take(pl.off, pl.size, p.CRC64)
		crc = combineCRC(crc, p.CRC64, p.Size)
	}
	if known {
		return crc, nil
	}
	return c.solveSum(ctx, d, s, parts)
}

// inherit takes over what is known of bytes that are those of another version.
func (s *grainSums) inherit(from *grainSums, off, size int64) {
	for i := int(off / s.grain); int64(i)*s.grain < off+size; i++ {
		if from.has(i, grainSize(s.size, s.grain, i)) {
			s.set(i, from.crc[i])
		}
	}
}

// solveSum is wholeSum for a store that does not say the checksums of parts that it
// has copied, of a version before whose grains are not known: what was copied
// follows from the checksum of the version before, as a whole, and of what was
// replaced in it. That is asked of the depot as far as it is not here.
func (c *Cache) solveSum(ctx context.Context, d *depot, s *sending, parts []Part) (uint64, error) {
	base, err := c.baseVersion(ctx, d, s)
	if err != nil {
		return 0, err
	}
	var end int64 // of what was copied; both versions are compared up to there
	for i, p := range parts {
		if !p.HasCRC64 {
			end = s.plan[i].off + s.plan[i].size
		}
	}
	ask := []catalog.Range{{Off: end, End: base.Size}}
	for _, pl := range s.plan {
		if pl.from != fromBase && pl.off < end {
			ask = append(ask, catalog.Range{Off: pl.off, End: pl.off + pl.size})
		}
	}
	own := s.ownBase()
	var cost int64
	for _, r := range ask {
		if _, ok := s.base.of(r.Off, r.End-r.Off); !ok {
			for _, m := range own.Missing(r.Off, r.End) {
				cost += m.End - m.Off
			}
		}
	}
	if missing := s.missing(); cost > missing {
		return 0, fmt.Errorf("%w: %d bytes of the version before would have to be read, and %d are missing", errFetchWhole, cost, missing)
	}
	sums := make([]uint64, len(ask))
	for i, r := range ask {
		if sums[i], err = c.baseSum(ctx, d, s, base, own, r); err != nil {
			return 0, err
		}
	}
	crc := unshiftCRC(base.CRC64^sums[0], base.Size-end) // of the version before up to end
	next := 1
	for i, pl := range s.plan {
		switch {
		case pl.off >= end:
			crc = combineCRC(crc, parts[i].CRC64, pl.size)
		case pl.from != fromBase:
			crc ^= shiftCRC(sums[next]^parts[i].CRC64, end-pl.off-pl.size)
			next++
		}
	}
	return crc, nil
}

// baseVersion is the version before with its checksum.
func (c *Cache) baseVersion(ctx context.Context, d *depot, s *sending) (catalog.Version, error) {
	base := s.rec.Base
	if base.HasCRC {
		return base, nil
	}
	info, err := d.store.Head(ctx, s.from.Key)
	d.report(err)
	if err != nil {
		return base, err
	}
	if info.ETag != s.from.ETag || info.Size != base.Size || !info.HasCRC64 {
		return base, fmt.Errorf("%w: the store knows no checksum of what it copied", errFetchWhole)
	}
	base.CRC64, base.HasCRC = info.CRC64, true
	return base, nil
}

// ownBase are the bytes of the version before that are here.
func (s *sending) ownBase() extent.Set {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	own := s.p.here.Clone()
	for _, w := range s.p.written.Ranges() {
		own.Remove(w.Off, w.End)
	}
	own.Truncate(s.p.limit)
	return own
}

// missing is how many bytes of the file are not here.
func (s *sending) missing() (n int64) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for _, m := range s.p.here.Missing(0, s.p.size) {
		n += m.End - m.Off
	}
	return n
}

// baseSum is the checksum of a stretch of the version before, of which own is here.
func (c *Cache) baseSum(ctx context.Context, d *depot, s *sending, base catalog.Version, own extent.Set, r catalog.Range) (uint64, error) {
	if crc, ok := s.base.of(r.Off, r.End-r.Off); ok || r.Off == r.End {
		return crc, nil
	}
	h := crc64nvme.New()
	for at := r.Off; at < r.End; {
		if have, ok := own.Next(at); ok && have.Off <= at {
			end := min(have.End, r.End)
			if _, err := io.Copy(h, io.NewSectionReader(s.file, at, end-at)); err != nil {
				return 0, fmt.Errorf("read %q at %d: %w", s.path, at, err)
			}
			at = end
			continue
		}
		missing := own.Missing(at, r.End)[0]
		if err := c.sumObject(ctx, d, s.from, base.Size, missing, h); err != nil {
			return 0, err
		}
		at = missing.End
	}
	return h.Sum64(), nil
}

// sumObject reads a range of an object of that size into a checksum.
func (c *Cache) sumObject(ctx context.Context, d *depot, o catalog.Object, size int64, r catalog.Range, h io.Writer) error {
	body, info, err := d.store.Get(ctx, o.Key, r.Off, r.End-r.Off, o.ETag)
	d.report(err)
	if err != nil {
		return err
	}
	defer body.Close()
	if info.Size != size {
		return fmt.Errorf("object %q has %d bytes instead of %d: %w", o.Key, info.Size, size, ErrChanged)
	}
	n, err := io.Copy(h, body)
	if err == nil && n != r.End-r.Off {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read object %q at %d: %w", o.Key, r.Off, err)
	}
	return nil
}
