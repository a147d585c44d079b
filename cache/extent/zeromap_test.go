package extent

import (
	"encoding/base64"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

const mib = 1 << 20

func TestZeroMapRoundTrip(t *testing.T) {
	for _, tc := range []struct {
		name  string
		size  int64
		zeros Set
	}{
		{"all zeros", 100 << 30, zerosAt(0, 100<<30)},
		{"odd size", 5*mib + 77, zerosAt(0, 2*mib, 3*mib, 5*mib+77)},
		{"one hole", 10 * mib, zerosAt(2*mib, 9*mib)},
		{"largest file", math.MaxInt64, zerosAt(mib, math.MaxInt64)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := EncodeZeros(tc.zeros, tc.size, 42, 1024)
			got, err := DecodeZeros(text, tc.size, 42)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Ranges(), tc.zeros.Ranges()) {
				t.Fatalf("got %v, want %v", got.Ranges(), tc.zeros.Ranges())
			}
		})
	}
}

// zerosAt is a set of the ranges between pairs of offsets.
func zerosAt(ends ...int64) (s Set) {
	for i := 0; i < len(ends); i += 2 {
		s.Add(ends[i], ends[i+1])
	}
	return s
}

// A map that does not fit leaves out small holes, and never names a byte that is
// not zero.
func TestZeroMapIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var zeros Set
	var size int64
	for range 5000 {
		size += 1 + rng.Int64N(3*mib)
		end := size + 1 + rng.Int64N(mib)
		zeros.Add(size, end)
		size = end
	}
	zeros.Add(size, size+10<<30)
	size += 10<<30 + 12345
	for _, limit := range []int{24, 64, 200, 1024} {
		text := EncodeZeros(zeros, size, 7, limit)
		if text == "" || len(text) > limit {
			t.Fatalf("limit %d: %d bytes", limit, len(text))
		}
		got, err := DecodeZeros(text, size, 7)
		if err != nil {
			t.Fatal(err)
		}
		if got.Len() < 9<<30 {
			t.Fatalf("limit %d: the largest hole is left out: %d bytes", limit, got.Len())
		}
		for _, r := range got.Ranges() {
			if !zeros.Contains(r.Off, r.End) {
				t.Fatalf("limit %d: %v is not all zeros", limit, r)
			}
		}
	}
}

func TestZeroMapNotWorthIt(t *testing.T) {
	small := zerosAt(0, 512<<10)
	if text := EncodeZeros(small, 10*mib, 1, 1024); text != "" {
		t.Fatalf("a map of half a MiB of zeros: %q", text)
	}
	if text := EncodeZeros(zerosAt(0, 9*mib), 10*mib, 1, 12); text != "" {
		t.Fatalf("a map where none fits: %q", text)
	}
}

// Metadata stays with an object to which another tool gives other bytes.
func TestZeroMapOfAnotherVersion(t *testing.T) {
	text := EncodeZeros(zerosAt(0, 9*mib), 10*mib, 42, 1024)
	if _, err := DecodeZeros(text, 10*mib, 43); err == nil {
		t.Fatal("believed for other bytes")
	}
	if _, err := DecodeZeros(text, 10*mib+1, 42); err == nil {
		t.Fatal("believed for another size")
	}
}

func TestZeroMapRefusesNonsense(t *testing.T) {
	head := []byte{1, 0, 0, 0, 0, 0, 0, 0, 42, 0x80, 0x80, 0x80, 0x05} // 10 MiB
	for name, b := range map[string][]byte{
		"nothing":           {},
		"newer":             append([]byte{2}, head[1:]...),
		"no unit":           head,
		"fine unit":         append(head[:13:13], 3, 0, 1),
		"coarse unit":       append(head[:13:13], 63, 0, 1),
		"beyond the end":    append(head[:13:13], 20, 0, 11),
		"gap beyond":        append(head[:13:13], 20, 11, 1),
		"empty range":       append(head[:13:13], 20, 0, 0),
		"adjacent":          append(head[:13:13], 20, 0, 1, 0, 1),
		"cut short":         append(head[:13:13], 20, 0),
		"overflow":          append(head[:13:13], 20, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
		"overlong a number": append(head[:13:13], 20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
	} {
		if s, err := DecodeZeros(base64.RawURLEncoding.EncodeToString(b), 10*mib, 42); err == nil {
			t.Errorf("%s: read as %v", name, s.Ranges())
		}
	}
	if _, err := DecodeZeros("A*", 10*mib, 42); err == nil {
		t.Error("no base64: read")
	}
}

func FuzzDecodeZeros(f *testing.F) {
	f.Add(EncodeZeros(zerosAt(0, 9*mib), 10*mib, 42, 1024), int64(10*mib), uint64(42))
	f.Add(EncodeZeros(zerosAt(mib, 5*mib, 7*mib, 10*mib+5), 10*mib+5, 1, 1024), int64(10*mib+5), uint64(1))
	f.Add("", int64(-1), uint64(0))
	f.Fuzz(func(t *testing.T, text string, size int64, crc uint64) {
		s, err := DecodeZeros(text, size, crc)
		if err != nil {
			return
		}
		last := int64(-1)
		for _, r := range s.Ranges() {
			if r.Off <= last || r.End <= r.Off || r.End > size {
				t.Fatalf("ranges %v of a file of %d bytes", s.Ranges(), size)
			}
			last = r.End
		}
		again, err := DecodeZeros(EncodeZeros(s, size, crc, MaxZeroMap), size, crc)
		if err != nil && s.Len() >= minZeros {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		for _, r := range again.Ranges() {
			if !s.Contains(r.Off, r.End) {
				t.Fatalf("%v is in none of %v", r, s.Ranges())
			}
		}
	})
}

func FuzzEncodeZeros(f *testing.F) {
	f.Add(int64(10*mib), uint16(300), []byte{1, 200, 3, 255, 9, 9})
	f.Add(int64(math.MaxInt64), uint16(20), []byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, size int64, limit uint16, lengths []byte) {
		if size < 0 {
			return
		}
		var zeros Set
		at := int64(0)
		for i, b := range lengths {
			step := (int64(b) + 1) * 37 << (b % 24)
			if at > size-step {
				break
			}
			if i%2 == 1 {
				zeros.Add(at, at+step)
			}
			at += step
		}
		text := EncodeZeros(zeros, size, 3, int(limit))
		if len(text) > int(limit) {
			t.Fatalf("%d bytes of %d", len(text), limit)
		}
		if text == "" {
			return
		}
		got, err := DecodeZeros(text, size, 3)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		for _, r := range got.Ranges() {
			if !zeros.Contains(r.Off, r.End) {
				t.Fatalf("%v is in none of %v", r, zeros.Ranges())
			}
		}
	})
}
