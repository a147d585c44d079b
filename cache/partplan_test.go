package cache

import (
	"math/rand/v2"
	"testing"

	"github.com/minio/crc64nvme"
)

// Whatever changed, a plan covers the version once, in order, within S3's limits,
// sends every grain that is to be sent and copies no other.
func TestPlanParts(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for try := range 2000 {
		size := 1 + r.Int64N(1<<uint(20+r.IntN(23))) // up to 4 TiB
		grain := partSize(minPartSize<<r.IntN(4), size)
		of := make([]source, grains(size, grain))
		stretch := 1 + r.IntN(100)
		for i := range of {
			of[i] = fromBase
			switch {
			case i > 0 && r.IntN(stretch) > 0:
				of[i] = of[i-1]
			case r.IntN(2) == 0:
				of[i] = source(r.IntN(3))
			}
		}
		parts := planParts(size, grain, func(i int) source { return of[i] })
		if len(parts) > maxParts {
			t.Fatalf("try %d: %d parts", try, len(parts))
		}
		var at int64
		for k, p := range parts {
			last := k == len(parts)-1
			switch {
			case p.off != at || p.size <= 0:
				t.Fatalf("try %d: part %d is [%d, %d), expected to begin at %d", try, k+1, p.off, p.off+p.size, at)
			case !last && p.size < minPartSize:
				t.Fatalf("try %d: part %d of %d has %d bytes", try, k+1, len(parts), p.size)
			case p.size > maxPartSize:
				t.Fatalf("try %d: part %d has %d bytes", try, k+1, p.size)
			case p.from != fromBase && p.size > grain:
				t.Fatalf("try %d: %d bytes are sent where a grain has %d", try, p.size, grain)
			case p.from == fromBase && k > 0 && parts[k-1].from == fromBase && parts[k-1].size+p.size <= maxCopied:
				t.Fatalf("try %d: parts %d and %d could be one", try, k, k+1)
			}
			for o := p.off; o < p.off+p.size; o += grain {
				if of[o/grain] != p.from {
					t.Fatalf("try %d: the grain at %d comes from %d instead of %d", try, o, p.from, of[o/grain])
				}
			}
			at += p.size
		}
		if at != size {
			t.Fatalf("try %d: the parts have %d bytes of %d", try, at, size)
		}
	}
}

// One changed grain of a large image: one part is sent, few are copied.
func TestPlanOfOneChange(t *testing.T) {
	t.Parallel()
	const grain, size = 16 << 20, 10<<30 + 5
	var sent, copied int64
	parts := planParts(size, grain, func(i int) source {
		if i == 100 {
			return fromDisk
		}
		return fromBase
	})
	for _, p := range parts {
		if p.from == fromDisk {
			sent += p.size
		} else {
			copied += p.size
		}
	}
	if len(parts) > 13 || sent != grain || copied != size-grain {
		t.Errorf("%d parts, %d bytes sent, %d copied", len(parts), sent, copied)
	}
}

// Sums of grains tell the sum of any stretch of them, in any coarser grain, and say
// nothing of what is unknown.
func TestGrainSums(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		b := make([]byte, 1+r.IntN(5000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		size, grain := int64(len(b)), int64(2+r.IntN(300))
		s := newGrainSums(size, grain)
		for i := range s.crc {
			if r.IntN(10) > 0 {
				off := int64(i) * grain
				n := grainSize(size, grain, i)
				s.take(off, n, crc64nvme.Checksum(b[off:off+n]))
			}
		}
		s.take(0, size+1, 1)  // no grain
		s.take(1, grain-1, 1) // none either
		for _, g := range []*grainSums{s, s.coarser(grain), s.coarser(2 * grain), s.coarser(3 * grain)} {
			i := r.IntN(len(g.crc))
			j := i + 1 + r.IntN(len(g.crc)-i)
			off, end := int64(i)*g.grain, min(int64(j)*g.grain, size)
			known := true
			for k := off / grain; k*grain < end; k++ {
				known = known && s.known[k]
			}
			crc, ok := g.of(off, end-off)
			if ok != known && g.grain == grain || ok && !known {
				t.Fatalf("known %v, want %v", ok, known)
			}
			if ok && crc != crc64nvme.Checksum(b[off:end]) {
				t.Fatalf("the sum of [%d, %d) is wrong", off, end)
			}
			if _, ok := g.of(off, end-off+1); ok {
				t.Fatal("a sum beyond a grain's end")
			}
		}
		if s.coarser(grain+1) != nil {
			t.Fatal("grains that are no multiple")
		}
	}
}
