package extent_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"depotfs/cache/extent"
)

type Range = extent.Range

// rs makes ranges of pairs of offset and end.
func rs(pairs ...int64) []Range {
	var out []Range
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Range{Off: pairs[i], End: pairs[i+1]})
	}
	return out
}

// space is how many bytes the bitmap of the model has.
const space = 96

// bitmap is the model: one bool per byte.
type bitmap [space]bool

func (b *bitmap) fill(off, end int64, v bool) {
	for i := max(off, 0); i < min(end, space); i++ {
		b[i] = v
	}
}

// ranges lists the bytes of [off, end) that are v.
func (b *bitmap) ranges(off, end int64, v bool) []Range {
	var out []Range
	for i := max(off, 0); i < end; i++ {
		if b[i] != v {
			continue
		}
		if n := len(out); n > 0 && out[n-1].End == i {
			out[n-1].End++
		} else {
			out = append(out, Range{Off: i, End: i + 1})
		}
	}
	return out
}

// same compares everything a Set can be asked with the model.
func same(t *testing.T, s *extent.Set, b *bitmap) {
	t.Helper()
	want := b.ranges(0, space, true)
	if got := s.Ranges(); !slices.Equal(got, want) {
		t.Fatalf("ranges: got %v, want %v", got, want)
	}
	var bytes int64
	for _, r := range want {
		bytes += r.End - r.Off
	}
	if s.Len() != bytes || s.Count() != len(want) || s.Empty() != (bytes == 0) {
		t.Fatalf("len %d count %d empty %v, want %d bytes in %d ranges", s.Len(), s.Count(), s.Empty(), bytes, len(want))
	}
}

func sameAnswers(t *testing.T, s *extent.Set, b *bitmap, off, end int64) {
	t.Helper()
	if got, want := s.Overlap(off, end), b.ranges(off, end, true); !slices.Equal(got, want) {
		t.Fatalf("Overlap(%d,%d): got %v, want %v", off, end, got, want)
	}
	missing := b.ranges(off, end, false)
	if got := s.Missing(off, end); !slices.Equal(got, missing) {
		t.Fatalf("Missing(%d,%d): got %v, want %v", off, end, got, missing)
	}
	if got := s.Contains(off, end); got != (len(missing) == 0) {
		t.Fatalf("Contains(%d,%d) = %v, missing %v", off, end, got, missing)
	}
	got, ok := s.Next(off)
	rest := b.ranges(max(off, 0), space, true)
	if ok != (len(rest) > 0) || ok && got != rest[0] {
		t.Fatalf("Next(%d): got %v %v, want %v", off, got, ok, rest)
	}
}

func TestAgainstABitmap(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		var s extent.Set
		var b bitmap
		var past []Range
		for range 60 {
			off, end := int64(rnd.IntN(space+4)-2), int64(rnd.IntN(space+1))
			if end-off > 20 {
				end = off + int64(rnd.IntN(20)) // long ones would leave one range
			}
			switch rnd.IntN(5) {
			case 0, 1, 2:
				s.Add(off, end)
				b.fill(off, end, true)
			case 3:
				s.Remove(off, end)
				b.fill(off, end, false)
			case 4:
				if rnd.IntN(4) == 0 {
					s.Truncate(end)
					b.fill(end, space, false)
				}
			}
			same(t, &s, &b)
			sameAnswers(t, &s, &b, off, end)
			past = append(past, s.Ranges()...)
		}
		var all bitmap
		for _, r := range past {
			all.fill(r.Off, r.End, true)
		}
		rnd.Shuffle(len(past), func(i, j int) { past[i], past[j] = past[j], past[i] })
		made := extent.FromRanges(past)
		same(t, &made, &all)
	}
}

func TestEdges(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(s *extent.Set)
		want []Range
	}{
		{"neighbours become one", func(s *extent.Set) { s.Add(0, 5); s.Add(10, 15); s.Add(5, 10) }, rs(0, 15)},
		{"empty and inverted are nothing", func(s *extent.Set) { s.Add(5, 5); s.Add(9, 3) }, nil},
		{"negative offsets are clipped", func(s *extent.Set) { s.Add(-10, 4); s.Remove(-3, 1) }, rs(1, 4)},
		{"remove splits", func(s *extent.Set) { s.Add(0, 10); s.Remove(3, 6) }, rs(0, 3, 6, 10)},
		{"one add swallows many", func(s *extent.Set) { s.Add(2, 3); s.Add(5, 6); s.Add(8, 20); s.Add(1, 9) }, rs(1, 20)},
		{"truncate below zero empties", func(s *extent.Set) { s.Add(0, 10); s.Truncate(-1) }, nil},
		{"the largest file", func(s *extent.Set) { s.Add(1<<62, 1<<63-1); s.Add(0, 1) }, rs(0, 1, 1<<62, 1<<63-1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s extent.Set
			tt.do(&s)
			if got := s.Ranges(); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCopiesAreApart(t *testing.T) {
	var s extent.Set
	s.Add(0, 10)
	c := s.Clone()
	ranges := s.Ranges()
	in := rs(20, 30)
	f := extent.FromRanges(in)
	s.Add(10, 20)
	f.Add(30, 40)
	if c.Len() != 10 || ranges[0].End != 10 || in[0].End != 30 {
		t.Errorf("a change of one set shows in another: clone %v, ranges %v, input %v", c.Ranges(), ranges, in)
	}
}

func FuzzSet(f *testing.F) {
	f.Add([]byte{0, 1, 9, 0, 12, 20, 1, 3, 4, 2, 15, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		var s extent.Set
		var b bitmap
		for ; len(ops) >= 3; ops = ops[3:] {
			off, end := int64(ops[1]%space), int64(ops[2]%(space+1))
			switch ops[0] % 3 {
			case 0:
				s.Add(off, end)
				b.fill(off, end, true)
			case 1:
				s.Remove(off, end)
				b.fill(off, end, false)
			case 2:
				s.Truncate(end)
				b.fill(end, space, false)
			}
			same(t, &s, &b)
			sameAnswers(t, &s, &b, off, end)
		}
	})
}

// many is a set of n ranges with gaps.
func many(n int64) extent.Set {
	var s extent.Set
	for i := range n {
		s.Add(i*200, i*200+100)
	}
	return s
}

// BenchmarkContains shows the binary search: ten thousand times the ranges cost
// some ten steps more.
func BenchmarkContains(b *testing.B) {
	for _, n := range []int64{1, 100, 10_000} {
		b.Run(fmt.Sprintf("ranges=%d", n), func(b *testing.B) {
			s, i := many(n), int64(0)
			for b.Loop() {
				i = (i*7919 + 13) % n
				if !s.Contains(i*200, i*200+100) {
					b.Fatal("lost a range")
				}
			}
		})
	}
}

func BenchmarkAddInTheMiddle(b *testing.B) {
	s := many(10_000)
	for b.Loop() {
		s.Add(1_000_120, 1_000_150)
		s.Remove(1_000_120, 1_000_150)
	}
}

func BenchmarkAppend(b *testing.B) {
	var s extent.Set
	off := int64(0)
	for b.Loop() {
		s.Add(off, off+4096)
		off += 4096
	}
}
