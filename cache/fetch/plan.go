package fetch

import (
	"slices"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
)

// Flight is one ranged GET, from the decision to its end. Its fields belong to the
// lock of its Plan's owner.
type Flight struct {
	Off   int64
	Pos   int64 // [Off, Pos) has arrived; moved by whoever stores bytes
	End   int64 // may come down while it flies: Plan cuts it
	Class Class
	Kept  bool // nobody's leaving ends it

	need int64 // what is below was waited for when it was asked for
}

// Left is what is still to come.
func (f *Flight) Left() catalog.Range { return catalog.Range{Off: f.Pos, End: f.End} }

// Plan has the flights of one file: what is on its way or waits for its turn. Their
// unarrived parts never overlap. The zero value is an empty plan.
type Plan struct{ flights []*Flight }

// Change is what came of wanting something.
type Change struct {
	New    []*Flight // to be started, in this order
	Raised []*Flight // have a more urgent class now
	Cut    []*Flight // end earlier now
}

// Wish is what a reader wants.
type Wish struct {
	Off, End int64 // needed
	Until    int64 // and welcome, up to here; at most End: nothing more
	Class    Class // of what is needed; what is welcome is Readahead at most
}

// Want decides on flights for w in a file of which the bytes of here are here and
// those from limit on are not in the store.
func (p *Plan) Want(here *extent.Set, limit int64, w Wish) Change {
	var c Change
	off, end, until := max(w.Off, 0), min(w.End, limit), min(alignUp(w.Until), limit)
	lo, hi := alignDown(off), min(alignUp(end), limit)
	if off < end && !here.Contains(off, end) {
		given := p.clear(here, lo, hi, w.Class, &c)
		need := p.missing(here, lo, hi)
		// What is welcome and follows at once comes by the same request.
		if n, border := len(need), min(until, nextBorder(hi-1)); n > 0 && need[n-1].End == hi && hi < border {
			if more := p.missing(here, hi, border); len(more) > 0 && more[0].Off == hi {
				need[n-1].End = more[0].End
			}
		}
		waited := int64(0)
		if w.Class == Demand {
			waited = hi
		}
		p.add(p.merge(here, need), w.Class, waited, &c)
		for _, f := range given {
			p.add(p.missing(here, f.Off, f.End), f.Class, 0, &c)
		}
	}
	p.ahead(here, limit, alignDown(max(hi, off)), until, max(w.Class, Readahead), &c)
	return c
}

// ahead adds flights for [from, until) as soon as whole ones fit, so that there are few.
func (p *Plan) ahead(here *extent.Set, limit, from, until int64, class Class, c *Change) {
	if border := until &^ (FlightSize - 1); until < limit && border-from >= FlightSize {
		until = border
	}
	if from >= until {
		return
	}
	open := p.missing(here, from, until)
	var missing int64
	for _, r := range open {
		missing += r.End - r.Off
	}
	if half := (until - from) / 2; until < limit && missing < min(half, FlightSize) {
		// A little at the far end can wait until there is more of it. Holes that the
		// reader is about to meet cannot.
		open = slices.DeleteFunc(open, func(r catalog.Range) bool { return r.Off >= from+half })
	}
	p.add(p.merge(here, open), class, 0, c)
}

// clear makes flights that have parts of [lo, hi) bring them soon, or has them end
// before; it returns what these gave up beyond hi.
func (p *Plan) clear(here *extent.Set, lo, hi int64, class Class, c *Change) (given []Flight) {
	for _, f := range slices.Clone(p.flights) {
		from, to := max(lo, f.Pos), min(hi, f.End)
		if from >= to || here.Contains(from, to) {
			continue
		}
		if from-f.Pos <= Patience || from < f.need {
			if class < f.Class {
				f.Class = class
				c.Raised = append(c.Raised, f)
			}
			if class == Demand {
				f.need = max(f.need, to)
			}
			continue
		}
		if to < f.End {
			given = append(given, Flight{Off: to, End: f.End, Class: max(f.Class, Readahead)})
		}
		f.End = from
		c.Cut = append(c.Cut, f)
	}
	return given
}

// missing returns what of [off, end) is neither here nor coming.
func (p *Plan) missing(here *extent.Set, off, end int64) []catalog.Range {
	rest := here.Missing(off, end)
	for _, f := range p.flights {
		if f.End <= off || end <= f.Pos {
			continue
		}
		var next []catalog.Range
		for _, r := range rest {
			if f.End <= r.Off || r.End <= f.Pos {
				next = append(next, r)
				continue
			}
			if r.Off < f.Pos {
				next = append(next, catalog.Range{Off: r.Off, End: f.Pos})
			}
			if f.End < r.End {
				next = append(next, catalog.Range{Off: f.End, End: r.End})
			}
		}
		rest = next
	}
	return rest
}

// Coming says whether all of [off, end) is here or on its way.
func (p *Plan) Coming(here *extent.Set, off, end int64) bool {
	return len(p.missing(here, off, end)) == 0
}

// flying says whether any of [off, end) is on its way.
func (p *Plan) flying(off, end int64) bool {
	return slices.ContainsFunc(p.flights, func(f *Flight) bool { return f.Pos < end && off < f.End })
}

// merge joins pieces with so little between them that one request is cheaper than
// two. What is between is here: bytes on their way are not asked for twice. Never is
// more fetched again than is missing.
func (p *Plan) merge(here *extent.Set, pieces []catalog.Range) []catalog.Range {
	var out []catalog.Range
	var missing, again int64 // of the last of out
	for _, r := range pieces {
		if n := len(out); n > 0 {
			last := &out[n-1]
			gap := r.Off - last.End
			if gap <= MergeGap && again+gap <= missing && nextBorder(last.Off) >= r.End &&
				here.Contains(last.End, r.Off) && !p.flying(last.End, r.Off) {
				missing, again = missing+r.End-r.Off, again+gap
				last.End = r.End
				continue
			}
		}
		out = append(out, r)
		missing, again = r.End-r.Off, 0
	}
	return out
}

// nextBorder is where a flight that begins at off ends at the latest.
func nextBorder(off int64) int64 { return off&^(FlightSize-1) + FlightSize }

// add makes flights of pieces, of which what is below need is waited for.
func (p *Plan) add(pieces []catalog.Range, class Class, need int64, c *Change) {
	for _, r := range pieces {
		for off := r.Off; off < r.End; off = min(nextBorder(off), r.End) {
			f := &Flight{Off: off, Pos: off, End: min(nextBorder(off), r.End), Class: class, need: need}
			p.flights = append(p.flights, f)
			c.New = append(c.New, f)
		}
	}
}

// Remove ends a flight, however it went.
func (p *Plan) Remove(f *Flight) {
	if i := slices.Index(p.flights, f); i >= 0 {
		p.flights = slices.Delete(p.flights, i, i+1)
	}
}

// Has says whether f is in the plan: one that was given up is not.
func (p *Plan) Has(f *Flight) bool { return slices.Contains(p.flights, f) }

// Len is the number of flights.
func (p *Plan) Len() int { return len(p.flights) }

// GiveUp removes and returns the flights of which nobody wants a byte any more.
func (p *Plan) GiveUp(wanted func(*Flight) bool) []*Flight {
	var up []*Flight
	p.flights = slices.DeleteFunc(p.flights, func(f *Flight) bool {
		if f.Kept || wanted(f) {
			return false
		}
		up = append(up, f)
		return true
	})
	return up
}

// Shorten cuts a flight that is about to start to about n bytes and returns what it
// gave up.
func (p *Plan) Shorten(f *Flight, n int64) (rest catalog.Range, ok bool) {
	end := alignUp(f.Pos + n)
	if end >= f.End {
		return rest, false
	}
	rest = catalog.Range{Off: end, End: f.End}
	f.End = end
	return rest, true
}
