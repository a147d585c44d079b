package cache

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/minio/crc64nvme"

	"depotfs/cache/share"
)

func TestZeroCRC(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 1, 7, 4096, 1<<20 + 3} {
		if got, want := zeroCRC(n), crc64nvme.Checksum(make([]byte, n)); got != want {
			t.Errorf("%d zeros: %016x, want %016x", n, got, want)
		}
		b := append([]byte("before"), make([]byte, n)...)
		if got, want := appendZeros(crc64nvme.Checksum([]byte("before")), n), crc64nvme.Checksum(b); got != want {
			t.Errorf("bytes and %d zeros: %016x, want %016x", n, got, want)
		}
	}
}

// patches fills some ranges of a buffer, at any offsets.
func patches(rng *rand.Rand, size, count int) []byte {
	b := make([]byte, size)
	for range count {
		off := rng.IntN(size)
		for i := off; i < min(size, off+rng.IntN(200_000)); i++ {
			b[i] = byte(rng.Uint32())
		}
	}
	return b
}

// What writeSparse wrote over anything reads back byte by byte, its zeros take no
// room, and its checksum and zeros are found without reading the holes.
func TestWriteSparse(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 20 {
		size := 1 + rng.IntN(4<<20)
		want := patches(rng, size, round%4)
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Repeat([]byte{0xee}, size)); err != nil {
			t.Fatal(err)
		}
		for off := 0; off < size; {
			n := min(size-off, 1+rng.IntN(300_000))
			if err := writeSparse(f, want[off:off+n], int64(off)); err != nil {
				t.Fatal(err)
			}
			off += n
		}
		got, err := os.ReadFile(f.Name())
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round %d: other bytes (%v)", round, err)
		}
		crc, zeros, err := scanRange(f, 0, int64(size))
		if err != nil || crc != crc64nvme.Checksum(want) {
			t.Fatalf("round %d: checksum %016x, want %016x (%v)", round, crc, crc64nvme.Checksum(want), err)
		}
		for _, r := range zeros.Ranges() {
			if !allZero(want[r.Off:r.End]) {
				t.Fatalf("round %d: %v is not zeros", round, r)
			}
		}
		for off := int64(0); off+zeroPiece <= int64(size); off += zeroPiece {
			if allZero(want[off:off+zeroPiece]) && !zeros.Contains(off, off+zeroPiece) {
				t.Fatalf("round %d: the zeros at %d were not found", round, off)
			}
		}
		from := rng.IntN(size)
		if crc, err := sumCRC(f, int64(from), int64(size-from)); err != nil || crc != crc64nvme.Checksum(want[from:]) {
			t.Fatalf("round %d: checksum from %d differs (%v)", round, from, err)
		}
		if _, err := sumCRC(f, 0, int64(size)+1); err == nil {
			t.Fatal("a file that is too short has a checksum")
		}
		f.Close()
	}
}

func TestWriteSparseMakesHoles(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := share.PunchHole(f, 0, 4096); err != nil {
		t.Skipf("this file system punches no holes: %v", err)
	}
	b := make([]byte, 8<<20)
	copy(b[3<<20:], bytes.Repeat([]byte{1}, 1<<20))
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(b); off += fetchChunk {
		if err := writeSparse(f, b[off:off+fetchChunk], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	holes, err := holesOf(f, int64(len(b)))
	if err != nil || !holes.Contains(0, 3<<20) || !holes.Contains(4<<20, 8<<20) || holes.Len() != 7<<20 {
		t.Fatalf("holes: %v (%v)", holes.Ranges(), err)
	}
}
