package catalog

import (
	"errors"
	"fmt"
)

var errUnsorted = errors.New("ranges are not sorted, disjoint and non-empty")

// extentsChunk is how many bytes of an encoded Extents one record holds: half
// of maxRecord's size keeps the largest record small against a transaction.
const extentsChunk = 256 << 10

// MaxExtents is how many bytes the extents of one inode may take when encoded:
// with what else is in a transaction they must stay below Badger's limit for
// one. A range takes 5 to 12 bytes, so this is some 200,000 ranges.
const MaxExtents = 1 << 20

// Extents returns what PutExtents stored, or the zero value.
func (tx *Tx) Extents(ino Ino) (Extents, error) {
	first, err := tx.get(chunkKey(ino, 0))
	if errors.Is(err, ErrNotFound) {
		return Extents{}, nil
	}
	if err != nil {
		return Extents{}, err
	}
	all := first
	for i := uint32(1); len(all) == int(i)*extentsChunk; i++ {
		more, err := tx.get(chunkKey(ino, i))
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return Extents{}, err
		}
		all = append(all[:len(all):len(all)], more...)
	}
	x, err := decodeExtents(all)
	if err != nil {
		return Extents{}, fmt.Errorf("extents of inode %d: %w", ino, err)
	}
	return x, nil
}

// PutExtents stores the extents of an inode. The lists must be sorted and
// disjoint; more than fit into MaxExtents bytes are ErrTooBig, and the caller
// then has to give up some of them (fewer Here is always right).
func (tx *Tx) PutExtents(ino Ino, x Extents) error {
	all, err := encodeExtents(x)
	if err != nil {
		return fmt.Errorf("extents of inode %d: %w", ino, err)
	}
	if len(all) > MaxExtents {
		return fmt.Errorf("extents of inode %d: %d ranges: %w", ino, len(x.Here)+len(x.Written), ErrTooBig)
	}
	i := uint32(0)
	for ; len(all) > 0; i++ {
		n := min(len(all), extentsChunk)
		if err := tx.set(chunkKey(ino, i), all[:n:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return tx.dropChunks(ino, i)
}

// DeleteExtents removes them; none are no error.
func (tx *Tx) DeleteExtents(ino Ino) error { return tx.dropChunks(ino, 0) }

// dropChunks deletes the chunks from number i on.
func (tx *Tx) dropChunks(ino Ino, i uint32) error {
	for ; ; i++ {
		key := chunkKey(ino, i)
		if _, err := tx.get(key); errors.Is(err, ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if err := tx.delete(key); err != nil {
			return err
		}
	}
}
