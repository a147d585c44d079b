package catalog

import (
	"errors"
	"fmt"
)

// Upload returns the upload under way of ino, or ErrNotFound.
func (tx *Tx) Upload(ino Ino) (*Upload, error) {
	v, err := tx.get(numberKey(kindUpload, uint64(ino)))
	if err != nil {
		return nil, err
	}
	return decodeUpload(ino, v)
}

// PutUpload stores an upload under its inode. Parts of an earlier upload of the
// same inode stay: DeleteUpload first.
func (tx *Tx) PutUpload(u *Upload) error {
	return tx.set(numberKey(kindUpload, uint64(u.Ino)), encodeUpload(u))
}

// DeleteUpload removes an upload and its parts; one that does not exist is no error.
func (tx *Tx) DeleteUpload(ino Ino) error {
	return errors.Join(tx.delete(numberKey(kindUpload, uint64(ino))), tx.deleteAll(numberKey(kindPart, uint64(ino))))
}

// EachUpload calls fn for all uploads in the order of inodes until fn returns false.
func (tx *Tx) EachUpload(fn func(*Upload) bool) error {
	return tx.scan([]byte{kindUpload}, nil, func(key, val []byte) (bool, error) {
		ino, err := keyNumber(key, 1)
		if err != nil {
			return false, err
		}
		u, err := decodeUpload(Ino(ino), val)
		if err != nil {
			return false, fmt.Errorf("upload of inode %d: %w", ino, err)
		}
		return fn(u), nil
	})
}

// PutPart stores a part that the store has confirmed.
func (tx *Tx) PutPart(ino Ino, p UploadPart) error {
	return tx.set(pairKey(kindPart, uint64(ino), uint64(p.Number)), encodePart(p))
}

// Parts lists the parts of an inode's upload in the order of their numbers.
func (tx *Tx) Parts(ino Ino) ([]UploadPart, error) {
	var parts []UploadPart
	err := tx.scan(numberKey(kindPart, uint64(ino)), nil, func(key, val []byte) (bool, error) {
		n, err := keyNumber(key, 9)
		if err != nil {
			return false, err
		}
		p, err := decodePart(int(n), val)
		if err != nil {
			return false, fmt.Errorf("part %d of inode %d: %w", n, ino, err)
		}
		parts = append(parts, p)
		return true, nil
	})
	return parts, err
}
