package catalog

import "fmt"

// Sums are checksums of a version's pieces of Grain bytes, the last of which may be
// short. They tell which pieces of a changed file the depot has already.
type Sums struct {
	Gen   uint64 // Version.Gen that they are of
	Size  int64
	Grain int64
	CRC64 []uint64 // CRC-64/NVME of each piece
	Known []bool   // as long as CRC64: which of them are known
}

// Sums returns what PutSums stored, or ErrNotFound.
func (tx *Tx) Sums(ino Ino) (*Sums, error) {
	v, err := tx.get(numberKey(kindSums, uint64(ino)))
	if err != nil {
		return nil, err
	}
	s, err := decodeSums(v)
	if err != nil {
		return nil, fmt.Errorf("sums of inode %d: %w", ino, err)
	}
	return s, nil
}

// PutSums stores the sums of an inode's version in the depot. As many pieces as an
// upload may have parts fit.
func (tx *Tx) PutSums(ino Ino, s *Sums) error {
	return tx.set(numberKey(kindSums, uint64(ino)), encodeSums(s))
}

// DeleteSums removes them; none are no error.
func (tx *Tx) DeleteSums(ino Ino) error { return tx.delete(numberKey(kindSums, uint64(ino))) }

func encodeSums(s *Sums) []byte {
	e := newEncoder(32 + 9*len(s.CRC64))
	e.uint(s.Gen)
	e.int(s.Size)
	e.int(s.Grain)
	e.uint(uint64(len(s.CRC64)))
	for i, crc := range s.CRC64 {
		e.bool(s.Known[i])
		e.fixed(crc)
	}
	return e.buf
}

func decodeSums(buf []byte) (*Sums, error) {
	d := newDecoder(buf)
	s := &Sums{Gen: d.uint(), Size: d.int(), Grain: d.int()}
	n := d.count(9)
	s.CRC64, s.Known = make([]uint64, n), make([]bool, n)
	for i := range n {
		s.Known[i], s.CRC64[i] = d.bool(), d.fixed()
	}
	return s, d.err
}
