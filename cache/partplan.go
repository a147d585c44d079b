package cache

// source is where the bytes of a part come from.
type source uint8

const (
	fromDisk source = iota // sent from the local file
	fromBase               // copied inside the store from the version that the depot has
	fromZero               // copied inside the store from an object of zeros
)

// plannedPart is one part of a multipart upload: bytes [off, off+size) of the version.
type plannedPart struct {
	off, size int64
	from      source
	crc       uint64 // CRC-64/NVME of these bytes, where hasCRC
	hasCRC    bool
}

// maxCopied is the largest part that is copied inside the store: far below S3's
// 5 GiB, so that a store which really copies answers before proxies lose patience,
// and that several are copied at once.
const maxCopied = 1 << 30

// grains is into how many grains a version of size bytes falls.
func grains(size, grain int64) int { return int((size + grain - 1) / grain) }

// grainSize is the length of grain i, of which the last may be short.
func grainSize(size, grain int64, i int) int64 { return min(grain, size-int64(i)*grain) }

// planParts divides a version into parts. The grain is the size of a part that is
// sent; what of says for each of them is where its bytes come from. Neighbours that
// come from the base become one part, so that an image with few changes needs few
// requests. A grain is never smaller than S3's smallest part and there are at most as
// many grains as S3 allows parts, so every plan is within its limits.
func planParts(size, grain int64, of func(i int) source) []plannedPart {
	var parts []plannedPart
	for i := range grains(size, grain) {
		p := plannedPart{off: int64(i) * grain, size: grainSize(size, grain, i), from: of(i)}
		if last := len(parts) - 1; p.from == fromBase && last >= 0 && parts[last].from == fromBase && parts[last].size+p.size <= maxCopied {
			parts[last].size += p.size
			continue
		}
		parts = append(parts, p)
	}
	return parts
}

// grainSums are the checksums of the grains of a version, as far as they are known.
type grainSums struct {
	size, grain int64
	crc         []uint64
	known       []bool
}

func newGrainSums(size, grain int64) *grainSums {
	n := grains(size, grain)
	return &grainSums{size: size, grain: grain, crc: make([]uint64, n), known: make([]bool, n)}
}

func (s *grainSums) set(i int, crc uint64) { s.crc[i], s.known[i] = crc, true }

// has says whether grain i is known and has that length.
func (s *grainSums) has(i int, size int64) bool {
	return s != nil && i < len(s.known) && s.known[i] && grainSize(s.size, s.grain, i) == size
}

// of is the checksum of bytes [off, off+size), which begin and end with grains.
func (s *grainSums) of(off, size int64) (crc uint64, ok bool) {
	if s == nil || off%s.grain != 0 || off+size > s.size {
		return 0, false
	}
	for end := off + size; off < end; {
		i := int(off / s.grain)
		n := grainSize(s.size, s.grain, i)
		if !s.known[i] || off+n > end {
			return 0, false
		}
		crc = combineCRC(crc, s.crc[i], n)
		off += n
	}
	return crc, true
}

// take keeps what is known of a part: of a single grain its sum.
func (s *grainSums) take(off, size int64, crc uint64) {
	if i := int(off / s.grain); off%s.grain == 0 && i < len(s.crc) && grainSize(s.size, s.grain, i) == size {
		s.set(i, crc)
	}
}

// coarser says the same in grains of another size, a multiple; nil where it is none.
func (s *grainSums) coarser(grain int64) *grainSums {
	if s == nil || grain == s.grain {
		return s
	}
	if grain%s.grain != 0 {
		return nil
	}
	out := newGrainSums(s.size, grain)
	for i := range out.crc {
		if crc, ok := s.of(int64(i)*grain, grainSize(s.size, grain, i)); ok {
			out.set(i, crc)
		}
	}
	return out
}
