package catalog

// Xattr returns the value of an extended attribute, or ErrNotFound.
func (tx *Tx) Xattr(ino Ino, name string) ([]byte, error) {
	return tx.bytes(numberNameKey(kindXattr, uint64(ino), name))
}

// PutXattr stores an extended attribute.
func (tx *Tx) PutXattr(ino Ino, name string, value []byte) error {
	return tx.set(numberNameKey(kindXattr, uint64(ino), name), encodeBytes(value))
}

// DeleteXattr removes an extended attribute; one that does not exist is no error.
func (tx *Tx) DeleteXattr(ino Ino, name string) error {
	return tx.delete(numberNameKey(kindXattr, uint64(ino), name))
}

// Xattrs lists the names of an inode's extended attributes in byte order.
func (tx *Tx) Xattrs(ino Ino) ([]string, error) {
	var names []string
	err := tx.scan(numberKey(kindXattr, uint64(ino)), nil, func(key, _ []byte) (bool, error) {
		names = append(names, string(key[9:]))
		return true, nil
	})
	return names, err
}

func (tx *Tx) bytes(key []byte) ([]byte, error) {
	v, err := tx.get(key)
	if err != nil {
		return nil, err
	}
	return decodeBytes(v)
}
