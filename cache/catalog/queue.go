package catalog

import (
	"errors"
	"fmt"
)

// QueueItem returns the queue's item of ino, or ErrNotFound.
func (tx *Tx) QueueItem(ino Ino) (*QueueItem, error) {
	v, err := tx.get(numberKey(kindQueue, uint64(ino)))
	if err != nil {
		return nil, err
	}
	return decodeQueueItem(ino, v)
}

// PutQueue stores an item under its inode.
func (tx *Tx) PutQueue(q *QueueItem) error {
	return tx.set(numberKey(kindQueue, uint64(q.Ino)), encodeQueueItem(q))
}

// DeleteQueue removes an item; one that does not exist is no error.
func (tx *Tx) DeleteQueue(ino Ino) error { return tx.delete(numberKey(kindQueue, uint64(ino))) }

// EachQueue calls fn for all items in the order of inodes until fn returns false.
func (tx *Tx) EachQueue(fn func(*QueueItem) bool) error {
	return tx.scan([]byte{kindQueue}, nil, func(key, val []byte) (bool, error) {
		ino, err := keyNumber(key, 1)
		if err != nil {
			return false, err
		}
		q, err := decodeQueueItem(Ino(ino), val)
		if err != nil {
			return false, fmt.Errorf("queue item %d: %w", ino, err)
		}
		return fn(q), nil
	})
}

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

// PutIntent stores an intent. With Seq 0 it gets the next number, also in t.
func (tx *Tx) PutIntent(t *Intent) error {
	if t.Seq == 0 {
		seq, err := tx.c.seqs.take()
		if err != nil {
			return err
		}
		t.Seq = seq
	}
	return tx.set(numberKey(kindIntent, t.Seq), encodeIntent(t))
}

// DeleteIntent removes an intent; one that does not exist is no error.
func (tx *Tx) DeleteIntent(seq uint64) error { return tx.delete(numberKey(kindIntent, seq)) }

// EachIntent calls fn for all intents in the order of their numbers until fn returns false.
func (tx *Tx) EachIntent(fn func(*Intent) bool) error {
	return tx.scan([]byte{kindIntent}, nil, func(key, val []byte) (bool, error) {
		seq, err := keyNumber(key, 1)
		if err != nil {
			return false, err
		}
		t, err := decodeIntent(seq, val)
		if err != nil {
			return false, fmt.Errorf("intent %d: %w", seq, err)
		}
		return fn(t), nil
	})
}

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
