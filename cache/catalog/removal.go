package catalog

import "fmt"

// Removal returns the removal of an object key, or ErrNotFound.
func (tx *Tx) Removal(key string) (*Removal, error) {
	v, err := tx.get(nameKey(kindRemoval, key))
	if err != nil {
		return nil, err
	}
	return decodeRemoval(key, v)
}

// PutRemoval stores a removal under its key.
func (tx *Tx) PutRemoval(r *Removal) error {
	return tx.set(nameKey(kindRemoval, r.Key), encodeRemoval(r))
}

// DeleteRemoval removes a removal; one that does not exist is no error.
func (tx *Tx) DeleteRemoval(key string) error { return tx.delete(nameKey(kindRemoval, key)) }

// EachRemoval calls fn for all removals in the order of keys until fn returns false.
func (tx *Tx) EachRemoval(fn func(*Removal) bool) error {
	return tx.scan([]byte{kindRemoval}, nil, func(key, val []byte) (bool, error) {
		r, err := decodeRemoval(string(key[1:]), val)
		if err != nil {
			return false, fmt.Errorf("removal of %q: %w", key[1:], err)
		}
		return fn(r), nil
	})
}
