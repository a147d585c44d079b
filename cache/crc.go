package cache

import (
	"fmt"
	"io"

	"github.com/minio/crc64nvme"
)

// crcPoly is the CRC-64/NVME polynomial in reflected form (NVM Express
// specification; S3's checksum of whole objects).
const crcPoly = 0x9a6c9329ac4bc9b5

// crcMatrix is a linear operator on CRC states over GF(2).
type crcMatrix [64]uint64

func (m *crcMatrix) times(v uint64) uint64 {
	var sum uint64
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

func (m *crcMatrix) square() (out crcMatrix) {
	for i := range m {
		out[i] = m.times(m[i])
	}
	return out
}

// combineCRC is the CRC of two pieces one behind the other, from the CRC of each
// and the length of the second: so the checksum of a whole object follows from
// those of its parts without reading them again.
func combineCRC(first, second uint64, secondLen int64) uint64 {
	return shiftCRC(first, secondLen) ^ second
}

// shiftCRC is what a piece with that checksum adds to the checksum of a whole in
// which n bytes follow it: the checksum of a whole is the sum of what its pieces add.
func shiftCRC(crc uint64, n int64) uint64 {
	var m crcMatrix // appends one zero bit
	m[0] = crcPoly
	for i := 1; i < 64; i++ {
		m[i] = 1 << (i - 1)
	}
	return m.power(crc, n)
}

// unshiftCRC takes shiftCRC back.
func unshiftCRC(crc uint64, n int64) uint64 {
	var m crcMatrix // takes one zero bit off the end; the polynomial has bit 63
	m[63] = crcPoly<<1&(1<<64-1) | 1
	for i := range 63 {
		m[i] = 1 << (i + 1)
	}
	return m.power(crc, n)
}

// power applies m for each bit of n bytes.
func (m crcMatrix) power(v uint64, n int64) uint64 {
	for bits := uint64(n) * 8; bits != 0; bits >>= 1 {
		if bits&1 != 0 {
			v = m.times(v)
		}
		if bits > 1 {
			m = m.square()
		}
	}
	return v
}

// sumCRC reads a section and returns its CRC-64/NVME.
func sumCRC(r io.ReaderAt, off, length int64) (uint64, error) {
	h := crc64nvme.New()
	buf := chunkPool.Get().(*[]byte)
	defer chunkPool.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.NewSectionReader(r, off, length)}, *buf)
	if err == nil && n != length {
		err = fmt.Errorf("%d of %d bytes: %w", n, length, io.ErrUnexpectedEOF)
	}
	return h.Sum64(), err
}
