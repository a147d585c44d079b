package fetch_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
	"depotfs/cache/fetch"
)

// file is a file that is fetched by a plan: what has arrived, what is under way and
// how often each block was asked for.
type file struct {
	t     *testing.T
	size  int64
	here  extent.Set
	plan  fetch.Plan
	air   []*fetch.Flight
	asked map[int64]int // by block
	again int64         // bytes asked for that were here
}

func newFile(t *testing.T, size int64) *file {
	return &file{t: t, size: size, asked: map[int64]int{}}
}

// want asks, and checks what holds of all flights.
func (f *file) want(w fetch.Wish) fetch.Change {
	f.t.Helper()
	before := f.plan.Len()
	c := f.plan.Want(&f.here, f.size, w)
	if f.plan.Len() != before+len(c.New) {
		f.t.Fatalf("%d flights, then %d new ones, now %d", before, len(c.New), f.plan.Len())
	}
	for _, fl := range c.New {
		if fl.Off >= fl.End || fl.Off < 0 || fl.End > f.size || fl.Pos != fl.Off {
			f.t.Fatalf("flight [%d,%d) at %d of a file of %d", fl.Off, fl.End, fl.Pos, f.size)
		}
		if fl.Off/fetch.FlightSize != (fl.End-1)/fetch.FlightSize {
			f.t.Fatalf("flight [%d,%d) passes a border", fl.Off, fl.End)
		}
		var missing int64
		for _, m := range f.here.Missing(fl.Off, fl.End) {
			missing += m.End - m.Off
		}
		if got := fl.End - fl.Off; got > 2*missing {
			f.t.Fatalf("flight [%d,%d) brings %d bytes of which only %d are missing", fl.Off, fl.End, got, missing)
		}
		f.again += fl.End - fl.Off - missing
	}
	f.air = append(f.air, c.New...)
	f.disjoint()
	return c
}

// disjoint checks that nothing is on its way twice.
func (f *file) disjoint() {
	f.t.Helper()
	left := make([]catalog.Range, 0, len(f.air))
	for _, fl := range f.air {
		if fl.Pos < fl.End {
			left = append(left, fl.Left())
		}
	}
	slices.SortFunc(left, func(a, b catalog.Range) int { return int(a.Off - b.Off) })
	for i := 1; i < len(left); i++ {
		if left[i].Off < left[i-1].End {
			f.t.Fatalf("[%d,%d) and [%d,%d) are on their way at once", left[i-1].Off, left[i-1].End, left[i].Off, left[i].End)
		}
	}
}

// arrive brings up to n bytes of a flight and lands it when that was all.
func (f *file) arrive(i int, n int64) {
	fl := f.air[i]
	end := min(fl.Pos+n, fl.End)
	for b := fl.Pos / fetch.Block; b*fetch.Block < end; b++ {
		if b*fetch.Block >= fl.Pos && !f.here.Contains(b*fetch.Block, min((b+1)*fetch.Block, f.size)) {
			f.asked[b]++
		}
	}
	f.here.Add(fl.Pos, end)
	fl.Pos = end
	if fl.Pos >= fl.End {
		f.plan.Remove(fl)
		f.air = slices.Delete(f.air, i, i+1)
	}
}

// Readers of every kind come, bytes arrive in any order: what is wanted is always on
// its way or here, nothing is on its way twice, everything that was needed arrives,
// and no block arrives twice.
func TestPlanBringsWhatIsWantedOnce(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := 1 + r.Int64N(24<<20)
		f := newFile(t, size)
		var needed extent.Set
		var handles [3]fetch.Streams
		var at [3]int64
		for range 250 {
			switch r.IntN(4) {
			case 0, 1:
				h := r.IntN(len(handles))
				if r.IntN(4) == 0 {
					at[h] = r.Int64N(size)
				}
				off := at[h]
				end := min(off+1+r.Int64N([]int64{4 << 10, 128 << 10, 1 << 20}[r.IntN(3)]), size)
				if off >= end {
					at[h] = 0
					continue
				}
				at[h] = end
				f.want(fetch.Wish{Off: off, End: end, Until: handles[h].Read(off, end), Class: fetch.Demand})
				needed.Add(off, end)
				if !f.plan.Coming(&f.here, off, end) {
					t.Fatalf("seed %d: [%d,%d) is wanted and not on its way", seed, off, end)
				}
			case 2:
				off := r.Int64N(size)
				f.want(fetch.Wish{Off: off, End: min(off+r.Int64N(6<<20), size), Class: fetch.Class(r.IntN(4))})
			case 3:
				if len(f.air) > 0 {
					f.arrive(r.IntN(len(f.air)), 1+r.Int64N(2<<20))
				}
			}
		}
		for len(f.air) > 0 {
			f.arrive(r.IntN(len(f.air)), fetch.FlightSize)
		}
		for _, n := range needed.Ranges() {
			if !f.here.Contains(n.Off, n.End) {
				t.Fatalf("seed %d: [%d,%d) was wanted and never came", seed, n.Off, n.End)
			}
		}
		for b, n := range f.asked {
			if n > 1 {
				t.Fatalf("seed %d: block %d was fetched %d times", seed, b, n)
			}
		}
	}
}

// A sequential reader costs one request for every FlightSize of the file and a few to
// begin with, whatever the size of its reads, and pulls exactly the file.
func TestPlanOfASequentialReader(t *testing.T) {
	const size = 512<<20 + 12345
	for _, piece := range []int64{4 << 10, 100_000, 128 << 10, 1 << 20} {
		f := newFile(t, size)
		var s fetch.Streams
		var flights int
		var pulled int64
		for off := int64(0); off < size; off += piece {
			end := min(off+piece, size)
			for _, fl := range f.want(fetch.Wish{Off: off, End: end, Until: s.Read(off, end), Class: fetch.Demand}).New {
				flights++
				pulled += fl.End - fl.Off
			}
			for !f.here.Contains(off, end) {
				f.arrive(0, fetch.FlightSize)
			}
		}
		if pulled != size {
			t.Errorf("pieces of %d: %d bytes pulled of %d", piece, pulled, size)
		}
		if most := int(size/fetch.FlightSize) + 14; flights > most {
			t.Errorf("pieces of %d: %d requests, want at most %d", piece, flights, most)
		}
	}
}

// Random reads of 4 KiB pull one block each, two where they lie across a border.
func TestPlanOfRandomReads(t *testing.T) {
	const size = 2 << 30
	r := rand.New(rand.NewPCG(1, 2))
	f := newFile(t, size)
	var s fetch.Streams
	var pulled, read int64
	for range 2000 {
		off := r.Int64N(size/4096) * 4096
		for _, fl := range f.want(fetch.Wish{Off: off, End: off + 4096, Until: s.Read(off, off+4096), Class: fetch.Demand}).New {
			pulled += fl.End - fl.Off
		}
		read += 4096
		for len(f.air) > 0 {
			f.arrive(0, fetch.FlightSize)
		}
	}
	if pulled > 8*read {
		t.Errorf("%d bytes pulled for %d read", pulled, read)
	}
}

// What somebody waits for comes first: a flight that would bring much else before is
// cut, and goes on behind.
func TestPlanCutsForDemand(t *testing.T) {
	for _, tt := range []struct {
		name   string
		at     int64 // of a read of one block in a flight of [0, FlightSize)
		cut    bool
		raised bool
	}{
		{"at its start", 0, false, true},
		{"near", fetch.Patience, false, true},
		{"far", fetch.Patience + fetch.Block, true, false},
		{"at its end", fetch.FlightSize - fetch.Block, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFile(t, 8<<20)
			bg := f.want(fetch.Wish{End: fetch.FlightSize, Class: fetch.Background}).New[0]
			c := f.want(fetch.Wish{Off: tt.at, End: tt.at + 10, Class: fetch.Demand})
			if got := len(c.Cut) == 1 && bg.End == tt.at; got != tt.cut {
				t.Errorf("cut: %v, ends at %d", got, bg.End)
			}
			if got := len(c.Raised) == 1 && bg.Class == fetch.Demand; got != tt.raised {
				t.Errorf("raised: %v, class %v", got, bg.Class)
			}
			if tt.cut {
				if c.New[0].Class != fetch.Demand || c.New[0].Off != tt.at || c.New[0].End != tt.at+fetch.Block {
					t.Errorf("first new flight: %+v", c.New[0])
				}
			}
			if !f.plan.Coming(&f.here, 0, fetch.FlightSize) {
				t.Error("what was cut off does not come any more")
			}
		})
	}
}

// Small holes in what is here come by one request, wide gaps are not fetched again.
func TestPlanMerges(t *testing.T) {
	const b = fetch.Block
	for _, tt := range []struct {
		name   string
		holes  []catalog.Range
		expect []catalog.Range
	}{
		{"near", []catalog.Range{{Off: 0, End: 2 * b}, {Off: 3 * b, End: 5 * b}}, []catalog.Range{{Off: 0, End: 5 * b}}},
		{"far", []catalog.Range{{Off: 0, End: 2 * b}, {Off: 6 * b, End: 8 * b}}, []catalog.Range{{Off: 0, End: 2 * b}, {Off: 6 * b, End: 8 * b}}},
		{"more between than missing", []catalog.Range{{Off: 0, End: b}, {Off: 3 * b, End: 4 * b}}, []catalog.Range{{Off: 0, End: b}, {Off: 3 * b, End: 4 * b}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFile(t, 1<<20)
			f.here.Add(0, 1<<20)
			for _, h := range tt.holes {
				f.here.Remove(h.Off, h.End)
			}
			var got []catalog.Range
			for _, fl := range f.want(fetch.Wish{End: 1 << 20, Class: fetch.Demand}).New {
				got = append(got, fl.Left())
			}
			if !slices.Equal(got, tt.expect) {
				t.Errorf("got %v, want %v", got, tt.expect)
			}
		})
	}
}

func TestPlanGivesUp(t *testing.T) {
	f := newFile(t, 64<<20)
	f.want(fetch.Wish{End: 16 << 20, Class: fetch.Readahead})
	kept := f.want(fetch.Wish{Off: 20 << 20, End: 21 << 20, Class: fetch.Header}).New[0]
	kept.Kept = true
	up := f.plan.GiveUp(func(fl *fetch.Flight) bool { return fl.Off == 4<<20 })
	if len(up) != 3 || f.plan.Len() != 2 || !f.plan.Has(kept) {
		t.Errorf("gave up %d, kept %d", len(up), f.plan.Len())
	}
	if f.plan.Coming(&f.here, 0, 4<<20) || !f.plan.Coming(&f.here, 4<<20, 8<<20) {
		t.Error("what was given up still counts as coming, or what was kept does not")
	}
}
