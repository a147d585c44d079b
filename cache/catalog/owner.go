package catalog

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
