package cache

// crcPoly is the CRC-64/NVME polynomial in reflected form (NVM Express
// specification; S3's checksum of whole objects).
const crcPoly = 0x9a6c9329ac4bc9b5

// A CRC is a polynomial over GF(2) modulo crcPoly; in the reflected form bit 63 is
// the coefficient of x^0. A zero bit behind the data multiplies by x.
const (
	polyOne     = 1 << 63
	polyX       = 1 << 62
	polyInverse = crcPoly<<1&(1<<64-1) | 1 // of x; the polynomial has bit 63
)

// polyTimes is the product of two polynomials.
func polyTimes(a, b uint64) uint64 {
	var sum uint64
	for ; a != 0; a <<= 1 {
		if a&polyOne != 0 {
			sum ^= b
		}
		b = b>>1 ^ crcPoly&-(b&1)
	}
	return sum
}

// polyPower is p to the power of eight times n.
func polyPower(p uint64, n int64) uint64 {
	out := uint64(polyOne)
	for bits := uint64(n) * 8; bits != 0; bits >>= 1 {
		if bits&1 != 0 {
			out = polyTimes(out, p)
		}
		p = polyTimes(p, p)
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
func shiftCRC(crc uint64, n int64) uint64 { return polyTimes(polyPower(polyX, n), crc) }

// unshiftCRC takes shiftCRC back.
func unshiftCRC(crc uint64, n int64) uint64 { return polyTimes(polyPower(polyInverse, n), crc) }
