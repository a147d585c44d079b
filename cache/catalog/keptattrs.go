package catalog

// KeptAttrs returns the change record that says the attributes of a file, or a directory,
// which has lost its name, or ErrNotFound.
func (tx *Tx) KeptAttrs(path string, dir bool) ([]byte, error) {
	return tx.bytes(keptAttrsKey(path, dir))
}

// PutKeptAttrs stores such a record, in the place of one before.
func (tx *Tx) PutKeptAttrs(path string, dir bool, record []byte) error {
	return tx.set(keptAttrsKey(path, dir), encodeBytes(record))
}

func keptAttrsKey(path string, dir bool) []byte {
	if dir {
		path += "/"
	}
	return nameKey(kindKeptAttr, path)
}
