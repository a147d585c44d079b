package fetch

import "depotfs/cache/catalog"

const (
	// maxStreams is how many sequential readers of one open file are told apart: qemu
	// serves all of a guest's programs through one descriptor, and qemu-img reads with
	// 8 coroutines.
	maxStreams = 8
	// slack is how far a sequential reader may jump, as far as it has read that much:
	// the kernel splits large reads and reorders the pieces a little. Who reads single
	// blocks is near another one by chance alone.
	slack = 128 << 10
	// openingRead is how large the first read of a file must be to be taken for the
	// beginning of a copy. Smaller ones look at a header.
	openingRead = 128 << 10
	// trusted is after how many bytes in sequence a stream is expected to go on for long.
	trusted = 1 << 20
)

// Streams remembers how one open file is read. The zero value is ready.
type Streams struct {
	streams [maxStreams]stream
	clock   uint64
}

// stream is one sequential reader.
type stream struct {
	next   int64  // where it would go on
	run    int64  // bytes that it has read in sequence; 0: unused
	window int64  // how far ahead of next to fetch
	used   uint64 // by Streams.clock
}

// Read notes a read of [off, end) and returns up to where to fetch ahead for its
// stream; at most end: nothing. What is fetched ahead is never more than four times
// what was read in sequence, and nothing before the second read, unless the first one
// is large and at the start.
func (s *Streams) Read(off, end int64) (until int64) {
	s.clock++
	st := s.find(off, end)
	switch {
	case st == nil:
		st = s.oldest()
		*st = stream{next: end, run: end - off}
		if off == 0 && end >= openingRead {
			st.grow()
		}
	case end > st.next:
		st.run += end - max(off, st.next)
		st.next = end
		st.grow()
	}
	st.used = s.clock
	if st.window == 0 {
		return end
	}
	return st.next + st.window
}

// find returns the stream that a read belongs to: the one that it is nearest to.
func (s *Streams) find(off, end int64) *stream {
	var best *stream
	var least int64
	for i := range s.streams {
		st := &s.streams[i]
		if st.run == 0 {
			continue
		}
		// Ahead, where readers in parallel share what was fetched ahead; behind, where
		// the pieces of one read come in another order.
		near := min(slack, st.run)
		if off > st.next+max(near, st.window/2) || end < st.next-near-(end-off) {
			continue
		}
		d := off - st.next
		if d < 0 {
			d = -d
		}
		if best == nil || d < least {
			best, least = st, d
		}
	}
	return best
}

func (s *Streams) oldest() *stream {
	old := &s.streams[0]
	for i := range s.streams {
		if s.streams[i].used < old.used {
			old = &s.streams[i]
		}
	}
	return old
}

// grow sets the window by what was read in sequence so far.
func (st *stream) grow() {
	factor := int64(2)
	if st.run >= trusted {
		factor = 4
	}
	st.window = min(factor*st.run, MaxWindow) &^ (Block - 1)
}

// Wants says whether any stream is expected to read some of r soon.
func (s *Streams) Wants(r catalog.Range) bool {
	for _, st := range s.streams {
		if st.run > 0 && r.Off < st.next+st.window && st.next < r.End {
			return true
		}
	}
	return false
}
