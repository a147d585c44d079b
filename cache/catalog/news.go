package catalog

import (
	"errors"
	"fmt"
)

// PutNews appends a change record to those that other zones are to be told. The catalog
// does not look into it.
func (tx *Tx) PutNews(record []byte) error {
	n, err := tx.LastNews()
	if err != nil {
		return err
	}
	n++
	return errors.Join(tx.set(numberKey(kindNews, 0), encodeNumber(n)), tx.set(numberKey(kindNews, n), encodeBytes(record)))
}

// LastNews is the last number that was given, 0 for none; they are never used again.
func (tx *Tx) LastNews() (uint64, error) {
	v, err := tx.get(numberKey(kindNews, 0))
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return decodeNumber(v)
}

// EachNews calls fn for the change records from a number on, in the order in which they
// were put, until fn returns false.
func (tx *Tx) EachNews(from uint64, fn func(number uint64, record []byte) bool) error {
	return tx.scan([]byte{kindNews}, numberKey(kindNews, max(from, 1)), func(key, val []byte) (bool, error) {
		n, err := keyNumber(key, 1)
		if err != nil {
			return false, err
		}
		b, err := decodeBytes(val)
		if err != nil {
			return false, fmt.Errorf("change record %d: %w", n, err)
		}
		return fn(n, b), nil
	})
}

// DeleteNews removes one change record: the depot has it.
func (tx *Tx) DeleteNews(number uint64) error { return tx.delete(numberKey(kindNews, number)) }

// Tombstone returns that of a path, or ErrNotFound.
func (tx *Tx) Tombstone(path string) (*Tombstone, error) {
	v, err := tx.get(nameKey(kindDead, path))
	if err != nil {
		return nil, err
	}
	return decodeTombstone(path, v)
}

// PutTombstone stores a tombstone under its path.
func (tx *Tx) PutTombstone(t *Tombstone) error {
	return tx.set(nameKey(kindDead, t.Path), encodeTombstone(t))
}

// DeleteTombstone removes a tombstone; one that does not exist is no error.
func (tx *Tx) DeleteTombstone(path string) error { return tx.delete(nameKey(kindDead, path)) }

// EachTombstone calls fn for all tombstones in the order of paths until fn returns false.
func (tx *Tx) EachTombstone(fn func(*Tombstone) bool) error {
	return tx.scan([]byte{kindDead}, nil, func(key, val []byte) (bool, error) {
		t, err := decodeTombstone(string(key[1:]), val)
		if err != nil {
			return false, fmt.Errorf("tombstone of %q: %w", key[1:], err)
		}
		return fn(t), nil
	})
}

// Held returns the change record of another zone that waits at a path, or ErrNotFound.
func (tx *Tx) Held(path string) ([]byte, error) { return tx.bytes(nameKey(kindHeld, path)) }

// PutHeld has a change record of another zone wait at a path, in the place of one before.
func (tx *Tx) PutHeld(path string, record []byte) error {
	return tx.set(nameKey(kindHeld, path), encodeBytes(record))
}

// DeleteHeld removes what waits at a path; nothing there is no error.
func (tx *Tx) DeleteHeld(path string) error { return tx.delete(nameKey(kindHeld, path)) }

// EachHeld calls fn for all records that wait, in the order of paths, until fn returns false.
func (tx *Tx) EachHeld(fn func(path string, record []byte) bool) error {
	return tx.scan([]byte{kindHeld}, nil, func(key, val []byte) (bool, error) {
		b, err := decodeBytes(val)
		if err != nil {
			return false, fmt.Errorf("change record for %q: %w", key[1:], err)
		}
		return fn(string(key[1:]), b), nil
	})
}
