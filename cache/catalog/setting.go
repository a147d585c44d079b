package catalog

import "fmt"

// Setting returns what was stored under name, or ErrNotFound.
func (tx *Tx) Setting(name string) ([]byte, error) { return tx.bytes(nameKey(kindSetting, name)) }

// PutSetting stores a setting, cursor or other small fact of the heart's.
func (tx *Tx) PutSetting(name string, value []byte) error {
	return tx.set(nameKey(kindSetting, name), encodeBytes(value))
}

// DeleteSetting removes a setting; one that does not exist is no error.
func (tx *Tx) DeleteSetting(name string) error { return tx.delete(nameKey(kindSetting, name)) }

// EachSetting calls fn for the settings whose names start with prefix, in byte order, until fn returns false.
func (tx *Tx) EachSetting(prefix string, fn func(name string, value []byte) bool) error {
	return tx.scan(nameKey(kindSetting, prefix), nil, func(key, val []byte) (bool, error) {
		v, err := decodeBytes(val)
		if err != nil {
			return false, fmt.Errorf("setting %q: %w", key[1:], err)
		}
		return fn(string(key[1:]), v), nil
	})
}
