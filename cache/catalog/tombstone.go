package catalog

import "fmt"

// EachTombstoneBelow calls fn for the tombstones of what was in a directory, in the order
// of paths, until fn returns false.
func (tx *Tx) EachTombstoneBelow(dir string, fn func(*Tombstone) bool) error {
	from := nameKey(kindDead, dir+"/")
	return tx.eachTombstone(from, from, fn)
}

// EachTombstoneFrom calls fn for the tombstones of a path and all behind it, in the order of
// paths, until fn returns false.
func (tx *Tx) EachTombstoneFrom(path string, fn func(*Tombstone) bool) error {
	return tx.eachTombstone([]byte{kindDead}, nameKey(kindDead, path), fn)
}

func (tx *Tx) eachTombstone(prefix, from []byte, fn func(*Tombstone) bool) error {
	return tx.scan(prefix, from, func(key, val []byte) (bool, error) {
		t, err := decodeTombstone(string(key[1:]), val)
		if err != nil {
			return false, fmt.Errorf("tombstone of %q: %w", key[1:], err)
		}
		return fn(t), nil
	})
}
