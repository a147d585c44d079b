package extent

import (
	"slices"
	"sort"

	"depotfs/cache/catalog"
)

// Range is a half-open range of bytes [Off, End).
type Range = catalog.Range

// Set is a set of bytes, kept as sorted, disjoint, not adjacent ranges. The
// zero value is the empty set. Bytes below 0 do not exist; ranges that are empty
// or inverted are ignored. A Set is not safe for concurrent use.
type Set struct {
	ranges []Range
}

// FromRanges makes a set of ranges in any order, overlapping or not.
func FromRanges(ranges []Range) Set {
	sorted := make([]Range, 0, len(ranges))
	for _, r := range ranges {
		if r, ok := valid(r.Off, r.End); ok {
			sorted = append(sorted, r)
		}
	}
	slices.SortFunc(sorted, func(a, b Range) int {
		switch {
		case a.Off < b.Off:
			return -1
		case a.Off > b.Off:
			return 1
		}
		return 0
	})
	kept := sorted[:0]
	for _, r := range sorted {
		if n := len(kept); n > 0 && r.Off <= kept[n-1].End {
			kept[n-1].End = max(kept[n-1].End, r.End)
			continue
		}
		kept = append(kept, r)
	}
	return Set{ranges: kept}
}

// Add puts [off, end) into the set.
func (s *Set) Add(off, end int64) {
	r, ok := valid(off, end)
	if !ok {
		return
	}
	// The usual case, a file that grows, costs no search.
	if n := len(s.ranges); n > 0 && s.ranges[n-1].Off <= r.Off && r.Off <= s.ranges[n-1].End {
		s.ranges[n-1].End = max(s.ranges[n-1].End, r.End)
		return
	}
	// [i, j) are the ranges that r overlaps or touches.
	i := sort.Search(len(s.ranges), func(k int) bool { return s.ranges[k].End >= r.Off })
	j := i + sort.Search(len(s.ranges)-i, func(k int) bool { return s.ranges[i+k].Off > r.End })
	if i < j {
		r.Off = min(r.Off, s.ranges[i].Off)
		r.End = max(r.End, s.ranges[j-1].End)
		if j == i+1 {
			s.ranges[i] = r
			return
		}
	}
	s.ranges = slices.Replace(s.ranges, i, j, r)
}

// Remove takes [off, end) out of the set.
func (s *Set) Remove(off, end int64) {
	r, ok := valid(off, end)
	if !ok {
		return
	}
	i, j := s.span(r)
	if i == j {
		return
	}
	var left [2]Range
	n := 0
	if first := s.ranges[i]; first.Off < r.Off {
		left[n] = Range{Off: first.Off, End: r.Off}
		n++
	}
	if last := s.ranges[j-1]; last.End > r.End {
		left[n] = Range{Off: r.End, End: last.End}
		n++
	}
	s.ranges = slices.Replace(s.ranges, i, j, left[:n]...)
}

// Truncate takes out everything from size on.
func (s *Set) Truncate(size int64) {
	i := sort.Search(len(s.ranges), func(k int) bool { return s.ranges[k].End > size })
	if i == len(s.ranges) {
		return
	}
	if s.ranges[i].Off < size {
		s.ranges[i].End = size
		i++
	}
	s.ranges = s.ranges[:i]
}

// Contains says whether every byte of [off, end) is in the set; an empty range
// always is.
func (s *Set) Contains(off, end int64) bool {
	r, ok := valid(off, end)
	if !ok {
		return true
	}
	i, j := s.span(r)
	return j == i+1 && s.ranges[i].Off <= r.Off && r.End <= s.ranges[i].End
}

// Overlap returns the parts of [off, end) that are in the set, in order.
func (s *Set) Overlap(off, end int64) []Range {
	r, ok := valid(off, end)
	if !ok {
		return nil
	}
	i, j := s.span(r)
	if i == j {
		return nil
	}
	parts := slices.Clone(s.ranges[i:j])
	parts[0].Off = max(parts[0].Off, r.Off)
	parts[len(parts)-1].End = min(parts[len(parts)-1].End, r.End)
	return parts
}

// Missing returns the parts of [off, end) that are not in the set, in order.
func (s *Set) Missing(off, end int64) []Range {
	r, ok := valid(off, end)
	if !ok {
		return nil
	}
	var gaps []Range
	i, j := s.span(r)
	for _, have := range s.ranges[i:j] {
		if r.Off < have.Off {
			gaps = append(gaps, Range{Off: r.Off, End: have.Off})
		}
		r.Off = have.End
	}
	if r.Off < r.End {
		gaps = append(gaps, r)
	}
	return gaps
}

// Next returns the first range of the set that ends after off; one that begins
// before off is cut to begin there. ok is false where no byte of the set follows.
func (s *Set) Next(off int64) (r Range, ok bool) {
	i := sort.Search(len(s.ranges), func(k int) bool { return s.ranges[k].End > off })
	if i == len(s.ranges) {
		return Range{}, false
	}
	r = s.ranges[i]
	r.Off = max(r.Off, off)
	return r, true
}

// Ranges returns a copy of the ranges, in order.
func (s *Set) Ranges() []Range { return slices.Clone(s.ranges) }

// Count is the number of ranges.
func (s *Set) Count() int { return len(s.ranges) }

// Len is the number of bytes in the set.
func (s *Set) Len() int64 {
	var n int64
	for _, r := range s.ranges {
		n += r.End - r.Off
	}
	return n
}

// Empty says whether the set has no byte.
func (s *Set) Empty() bool { return len(s.ranges) == 0 }

// Clone returns a set of its own with the same bytes.
func (s *Set) Clone() Set { return Set{ranges: slices.Clone(s.ranges)} }

// span returns the ranges [i, j) that share at least one byte with r.
func (s *Set) span(r Range) (i, j int) {
	i = sort.Search(len(s.ranges), func(k int) bool { return s.ranges[k].End > r.Off })
	j = i + sort.Search(len(s.ranges)-i, func(k int) bool { return s.ranges[i+k].Off >= r.End })
	return i, j
}

// valid clips a range to bytes that exist and says whether any is left.
func valid(off, end int64) (Range, bool) {
	off = max(off, 0)
	return Range{Off: off, End: end}, off < end
}
