package extent

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A zero map says where one version of a file is zeros, so that others need not
// fetch them. It is base64url of
//
//	version 1 | CRC-64 of the whole file 8, big endian | uvarint size | shift 1 | (uvarint gap | uvarint length)*
//
// with gaps and lengths in units of 1<<shift bytes, each gap from the end of the
// range before. Size and checksum bind it to its version: metadata stays with an
// object that another tool gives other bytes. It may leave out zeros but never
// names other bytes; the last unit of the file may be cut short.

const (
	zeroMapVersion = 1
	// MaxZeroMap is the longest map that is read, in bytes of text. S3 bounds all
	// metadata of an object to 2 KiB.
	MaxZeroMap = 2048
	// minZeroShift is the finest unit: what is not worth a request of its own.
	minZeroShift = 16
	maxZeroShift = 40
	// minZeros is what a map has to spare others.
	minZeros = 1 << 20
)

var (
	errMapFormat  = errors.New("not a zero map")
	errMapNewer   = errors.New("a zero map of a newer format")
	errMapVersion = errors.New("the zero map of another version")
)

// EncodeZeros returns the zero map of a file of that size and checksum in at most
// limit bytes of text: of the zeros what fits, "" where that is not worth it.
func EncodeZeros(zeros Set, size int64, crc uint64, limit int) string {
	head := binary.BigEndian.AppendUint64([]byte{zeroMapVersion}, crc)
	head = binary.AppendUvarint(head, uint64(max(size, 0)))
	room := base64.RawURLEncoding.DecodedLen(min(limit, MaxZeroMap)) - len(head) - 1
	var best []unitRange
	var bestShift, bestBytes = 0, int64(minZeros - 1)
	for shift := minZeroShift; shift <= maxZeroShift && room > 0; shift++ {
		all := zeros.inUnits(size, shift)
		if len(all) == 0 {
			break
		}
		fit := largestThatFit(all, room)
		if covered := bytesOf(fit, size, shift); covered > bestBytes {
			best, bestShift, bestBytes = fit, shift, covered
		}
		if len(fit) == len(all) {
			break // a coarser unit only loses
		}
	}
	if best == nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(appendUnits(append(head, byte(bestShift)), best))
}

// DecodeZeros reads a zero map that others may have written. It is an error where
// the map is not of the version with this size and checksum.
func DecodeZeros(text string, size int64, crc uint64) (Set, error) {
	if len(text) > MaxZeroMap {
		return Set{}, fmt.Errorf("%d bytes: %w", len(text), errMapFormat)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 1 {
		return Set{}, errMapFormat
	}
	if b[0] != zeroMapVersion {
		return Set{}, fmt.Errorf("format %d: %w", b[0], errMapNewer)
	}
	b = b[1:]
	if len(b) < 8 {
		return Set{}, errMapFormat
	}
	sum := binary.BigEndian.Uint64(b)
	length, b, ok := takeUvarint(b[8:])
	if !ok || len(b) < 1 {
		return Set{}, errMapFormat
	}
	if size < 0 || length != uint64(size) || sum != crc {
		return Set{}, errMapVersion
	}
	shift := int(b[0])
	if shift < minZeroShift || shift > maxZeroShift {
		return Set{}, errMapFormat
	}
	return decodeUnits(b[1:], size, shift)
}

// decodeUnits reads the ranges: in order, apart from each other, within size.
func decodeUnits(b []byte, size int64, shift int) (Set, error) {
	var s Set
	units := uint64(unitsOf(size, shift))
	at := uint64(0)
	for first := true; len(b) > 0; first = false {
		var gap, n uint64
		var ok bool
		if gap, b, ok = takeUvarint(b); !ok || gap > units-at || gap == 0 && !first {
			return Set{}, errMapFormat
		}
		at += gap
		if n, b, ok = takeUvarint(b); !ok || n == 0 || n > units-at {
			return Set{}, errMapFormat
		}
		s.ranges = append(s.ranges, Range{Off: int64(at) << shift, End: endOf(at+n, size, shift)})
		at += n
	}
	return s, nil
}

// unitRange is a range in units: [off, end).
type unitRange struct{ off, end uint64 }

// inUnits are the ranges of s, less what is no whole unit at their ends.
func (s *Set) inUnits(size int64, shift int) []unitRange {
	unit := int64(1) << shift
	var out []unitRange
	for _, r := range s.Overlap(0, size) {
		if r.Off > math.MaxInt64-unit {
			break
		}
		off, end := (r.Off+unit-1)>>shift, r.End>>shift
		if r.End == size {
			end = unitsOf(size, shift)
		}
		if off < end {
			out = append(out, unitRange{uint64(off), uint64(end)})
		}
	}
	return out
}

// largestThatFit are the largest ranges, in their order, that take at most room bytes.
func largestThatFit(all []unitRange, room int) []unitRange {
	if len(appendUnits(nil, all)) <= room {
		return all
	}
	bySize := slices.Clone(all)
	slices.SortFunc(bySize, func(a, b unitRange) int {
		return cmp.Or(cmp.Compare(b.end-b.off, a.end-a.off), cmp.Compare(a.off, b.off))
	})
	pick := func(n int) []unitRange {
		some := slices.Clone(bySize[:n])
		slices.SortFunc(some, func(a, b unitRange) int { return cmp.Compare(a.off, b.off) })
		return some
	}
	fits := 0
	for lo, hi := 1, min(len(all), room/2); lo <= hi; {
		mid := (lo + hi) / 2
		if len(appendUnits(nil, pick(mid))) <= room {
			fits, lo = mid, mid+1
		} else {
			hi = mid - 1
		}
	}
	return pick(fits)
}

func appendUnits(b []byte, ranges []unitRange) []byte {
	at := uint64(0)
	for _, r := range ranges {
		b = binary.AppendUvarint(b, r.off-at)
		b = binary.AppendUvarint(b, r.end-r.off)
		at = r.end
	}
	return b
}

func bytesOf(ranges []unitRange, size int64, shift int) int64 {
	var n int64
	for _, r := range ranges {
		n += endOf(r.end, size, shift) - int64(r.off)<<shift
	}
	return n
}

// unitsOf is how many units a file has, the last one perhaps cut short.
func unitsOf(size int64, shift int) int64 {
	n := size >> shift
	if size&(1<<shift-1) != 0 {
		n++
	}
	return n
}

// endOf is where the first n units of a file end.
func endOf(n uint64, size int64, shift int) int64 {
	if n >= uint64(unitsOf(size, shift)) {
		return size
	}
	return int64(n) << shift
}

func takeUvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, b, false
	}
	return v, b[n:], true
}
