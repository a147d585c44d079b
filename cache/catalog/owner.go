package catalog

import "fmt"

// KeyOwner returns the inode that an object key belongs to, or ErrNotFound.
func (tx *Tx) KeyOwner(key string) (Ino, error) {
	v, err := tx.get(nameKey(kindOwner, key))
	if err != nil {
		return 0, err
	}
	n, err := decodeNumber(v)
	return Ino(n), err
}

// SetKeyOwner gives an object key to an inode, whoever had it.
func (tx *Tx) SetKeyOwner(key string, ino Ino) error {
	return tx.set(nameKey(kindOwner, key), encodeNumber(uint64(ino)))
}

// DeleteKeyOwner makes an object key nobody's.
func (tx *Tx) DeleteKeyOwner(key string) error { return tx.delete(nameKey(kindOwner, key)) }

// EachKeyOwner calls fn for the keys after one ("" = from the first on), in byte order,
// with the inodes that they belong to, until fn returns false.
func (tx *Tx) EachKeyOwner(after string, fn func(key string, ino Ino) bool) error {
	return tx.scan([]byte{kindOwner}, nameKey(kindOwner, after), func(key, val []byte) (bool, error) {
		n, err := decodeNumber(val)
		if err != nil {
			return false, fmt.Errorf("owner of %q: %w", key[1:], err)
		}
		if string(key[1:]) == after && after != "" {
			return true, nil
		}
		return fn(string(key[1:]), Ino(n)), nil
	})
}
