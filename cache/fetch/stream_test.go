package fetch_test

import (
	"math/rand/v2"
	"testing"

	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
)

// Sequential readers that share one descriptor are each run ahead of.
func TestStreamsAreToldApart(t *testing.T) {
	var s fetch.Streams
	var at [8]int64
	for i := range at {
		at[i] = int64(i) << 30
	}
	for round := range 64 {
		for i := range at {
			until := s.Read(at[i], at[i]+128<<10)
			at[i] += 128 << 10
			if ahead := until - at[i]; round == 63 && ahead < 16<<20 {
				t.Errorf("reader %d is run ahead of by %d bytes", i, ahead)
			}
		}
	}
}

// Pieces of one large read that come in another order are one stream.
func TestStreamsOfReorderedPieces(t *testing.T) {
	var s fetch.Streams
	var until int64
	for off := int64(0); off < 32<<20; off += 2 << 20 {
		s.Read(off+1<<20, off+2<<20)
		until = s.Read(off, off+1<<20)
	}
	if until < 32<<20+fetch.MaxWindow/2 {
		t.Errorf("fetched ahead up to %d only", until)
	}
}

// Nobody is run ahead of by more than four times what was read in sequence.
func TestStreamsStayModest(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		var s fetch.Streams
		var read int64
		off := int64(0)
		for range 100 {
			if r.IntN(10) == 0 {
				off = r.Int64N(1 << 40)
			}
			n := 1 + r.Int64N(1<<20)
			read += n
			if ahead := s.Read(off, off+n) - off - n; ahead > 4*read || ahead > fetch.MaxWindow {
				t.Fatalf("seed %d: %d bytes ahead after %d were read", seed, ahead, read)
			}
			off += n
		}
	}
}

// The same place again and again is no stream, and a look at a header neither.
func TestStreamsThatAreNone(t *testing.T) {
	var s fetch.Streams
	if until := s.Read(0, 64<<10); until > 64<<10 {
		t.Errorf("fetched up to %d ahead of a first look", until)
	}
	for range 100 {
		if until := s.Read(1<<30, 1<<30+4096); until > 1<<30+4096 {
			t.Fatalf("fetched %d bytes ahead of a place that is read again", until-1<<30-4096)
		}
	}
	if s.Wants(catalog.Range{Off: 2 << 30, End: 3 << 30}) {
		t.Error("wants what nobody is near")
	}
}

// Random reads of single blocks are near each other by chance, also in a small file.
func TestStreamsOfChance(t *testing.T) {
	const size = 48 << 20
	r := rand.New(rand.NewPCG(3, 5))
	var s fetch.Streams
	for i := range 20_000 {
		off := r.Int64N(size/4096) * 4096
		if until := s.Read(off, off+4096); until > off+4096 {
			t.Fatalf("read %d: fetched %d bytes ahead of a random read", i, until-off-4096)
		}
	}
}
