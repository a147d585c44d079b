package catalog

import (
	"errors"
	"fmt"
	"slices"
)

// Inode returns the record of ino, or ErrNotFound.
func (tx *Tx) Inode(ino Ino) (*Inode, error) {
	v, err := tx.get(numberKey(kindInode, uint64(ino)))
	if err != nil {
		return nil, err
	}
	n, err := decodeInode(ino, v)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", ino, err)
	}
	tx.last = counted{ino, n.class()}
	return n, nil
}

// class is what n counts as.
func (n *Inode) class() class { return class{n.Mode, n.State, n.Size} }

// Clone is a copy that shares nothing with n.
func (n *Inode) Clone() *Inode {
	c := *n
	c.Links, c.Objects = slices.Clone(n.Links), slices.Clone(n.Objects)
	return &c
}

// PutInode stores n as it is.
func (tx *Tx) PutInode(n *Inode) error {
	old, had := tx.last.class, true
	if tx.last.ino != n.Ino {
		var err error
		if old, had, err = tx.class(numberKey(kindInode, uint64(n.Ino))); err != nil {
			return err
		}
	}
	return tx.putInode(n, old, had, tx.set)
}

// NewInode stores the record of a number that has none: PutInode without a look.
func (tx *Tx) NewInode(n *Inode) error { return tx.putInode(n, class{}, false, tx.setNew) }

func (tx *Tx) putInode(n *Inode, old class, had bool, set func(key, val []byte) error) error {
	if err := set(numberKey(kindInode, uint64(n.Ino)), encodeInode(n)); err != nil {
		return fmt.Errorf("inode %d: %w", n.Ino, err)
	}
	tx.count(old, had, n.class(), true)
	tx.last = counted{n.Ino, n.class()}
	return nil
}

// DeleteInode removes everything that is stored of ino but its names: record,
// extents, extended attributes, upload with its parts, sums, queue item, and the
// ownership of its objects. What does not exist is no error.
func (tx *Tx) DeleteInode(ino Ino) error {
	n, err := tx.Inode(ino)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if n != nil {
		for _, o := range n.Objects {
			if err := tx.disown(o.Key, ino); err != nil {
				return err
			}
		}
		if err := tx.delete(numberKey(kindInode, uint64(ino))); err != nil {
			return err
		}
		tx.count(n.class(), true, class{}, false)
		tx.last = counted{}
	}
	u, err := tx.Upload(ino)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if u != nil {
		if err := errors.Join(tx.disown(u.Key, ino), tx.DeleteUpload(ino)); err != nil {
			return err
		}
	}
	if n == nil || n.Flags&FlagXattrs != 0 { // most have none, and a scan costs more than all else here
		if err := tx.deleteAll(numberKey(kindXattr, uint64(ino))); err != nil {
			return err
		}
	}
	if n == nil || n.Base.Gen != 0 { // only what the depot has, or had, has sums
		if err := tx.DeleteSums(ino); err != nil {
			return err
		}
	}
	return errors.Join(tx.DeleteExtents(ino), tx.DeleteQueue(ino))
}

// disown drops the ownership of key when it is ino's.
func (tx *Tx) disown(key string, ino Ino) error {
	owner, err := tx.KeyOwner(key)
	if errors.Is(err, ErrNotFound) || err == nil && owner != ino {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.DeleteKeyOwner(key)
}

// EachInode calls fn for the inodes from number from on, in their order, until fn returns false.
func (tx *Tx) EachInode(from Ino, fn func(*Inode) bool) error {
	return tx.scan([]byte{kindInode}, numberKey(kindInode, uint64(from)), func(key, val []byte) (bool, error) {
		ino, err := keyNumber(key, 1)
		if err != nil {
			return false, err
		}
		n, err := decodeInode(Ino(ino), val)
		if err != nil {
			return false, fmt.Errorf("inode %d: %w", ino, err)
		}
		return fn(n), nil
	})
}
