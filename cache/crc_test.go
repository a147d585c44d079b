package cache

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/minio/crc64nvme"
)

func TestCombineCRC(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b := make([]byte, r.IntN(5000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		cut := r.IntN(len(b) + 1)
		got := combineCRC(crc64nvme.Checksum(b[:cut]), crc64nvme.Checksum(b[cut:]), int64(len(b)-cut))
		if want := crc64nvme.Checksum(b); got != want {
			t.Fatalf("%d+%d bytes: %016x, want %016x", cut, len(b)-cut, got, want)
		}
	}
}

func FuzzCombineCRC(f *testing.F) {
	f.Add([]byte("hello"), []byte(" world"))
	f.Add([]byte{}, []byte{0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		got := combineCRC(crc64nvme.Checksum(a), crc64nvme.Checksum(b), int64(len(b)))
		if want := crc64nvme.Checksum(bytes.Join([][]byte{a, b}, nil)); got != want {
			t.Errorf("%016x, want %016x", got, want)
		}
	})
}

func TestUnshiftCRC(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		crc, n := r.Uint64(), r.Int64N(1<<uint(1+r.IntN(45)))
		if got := unshiftCRC(shiftCRC(crc, n), n); got != crc {
			t.Fatalf("%x shifted by %d and back is %x", crc, n, got)
		}
		if got := shiftCRC(unshiftCRC(crc, n), n); got != crc {
			t.Fatalf("%x shifted back by %d and again is %x", crc, n, got)
		}
	}
}
