package catalog

import (
	"errors"
	"fmt"
	"math"
)

// Lookup returns the entry of a name, or ErrNotFound.
func (tx *Tx) Lookup(parent Ino, name string) (Dirent, error) {
	v, err := tx.get(numberNameKey(kindDirent, uint64(parent), name))
	if err != nil {
		return Dirent{}, err
	}
	d, err := decodeDirent(parent, name, v)
	if err != nil {
		return Dirent{}, fmt.Errorf("name %q of inode %d: %w", name, parent, err)
	}
	return d, nil
}

// PutDirent stores a name, in place of the entry that the name may have had.
// With Cookie 0 it gets a new one, behind all that exist.
func (tx *Tx) PutDirent(d Dirent) error {
	if err := tx.dropCookie(d.Parent, d.Name, d.Cookie); err != nil {
		return err
	}
	return tx.putDirent(d, tx.set)
}

// NewDirent is PutDirent of a name that does not exist, without a look.
func (tx *Tx) NewDirent(d Dirent) error { return tx.putDirent(d, tx.setNew) }

func (tx *Tx) putDirent(d Dirent, set func(key, val []byte) error) error {
	if d.Cookie == 0 {
		var err error
		if d.Cookie, err = tx.c.NextCookie(); err != nil {
			return err
		}
	}
	if err := set(numberNameKey(kindDirent, uint64(d.Parent), d.Name), encodeDirent(d)); err != nil {
		return err
	}
	return set(pairKey(kindCookie, uint64(d.Parent), d.Cookie), encodeCookie(d))
}

// DeleteDirent removes a name; one that does not exist is no error.
func (tx *Tx) DeleteDirent(parent Ino, name string) error {
	if err := tx.dropCookie(parent, name, 0); err != nil {
		return err
	}
	return tx.delete(numberNameKey(kindDirent, uint64(parent), name))
}

// dropCookie removes the position that name has, unless it is keep.
func (tx *Tx) dropCookie(parent Ino, name string, keep uint64) error {
	old, err := tx.Lookup(parent, name)
	if errors.Is(err, ErrNotFound) || err == nil && old.Cookie == keep {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.delete(pairKey(kindCookie, uint64(parent), old.Cookie))
}

// ReadDir calls fn for the entries with cookies greater than after, in the
// order of cookies, until fn returns false. after need not exist (any more).
func (tx *Tx) ReadDir(parent Ino, after uint64, fn func(Dirent) bool) error {
	if after == math.MaxUint64 {
		return nil
	}
	from := pairKey(kindCookie, uint64(parent), after+1)
	return tx.scan(from[:9], from, func(key, val []byte) (bool, error) {
		cookie, err := keyNumber(key, 9)
		if err != nil {
			return false, err
		}
		d, err := decodeCookie(parent, cookie, val)
		if err != nil {
			return false, fmt.Errorf("entry %d of inode %d: %w", cookie, parent, err)
		}
		return fn(d), nil
	})
}

// HasChildren says whether parent has any name.
func (tx *Tx) HasChildren(parent Ino) (bool, error) {
	var b batch
	err := tx.fill(&b, numberKey(kindDirent, uint64(parent)), numberKey(kindDirent, uint64(parent)), 1)
	return b.len() > 0, err
}
