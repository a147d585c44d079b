package catalog

import (
	"errors"
	"fmt"
)

// HeldKind says why a name is gone here and nowhere else.
type HeldKind uint8

const (
	// DeleteTold: the other zones know, or will within moments. It is kept for as long as
	// it may turn out to be the beginning of a burst, and hides nothing.
	DeleteTold HeldKind = 1 + iota
	// DeleteHeld: one of a burst, which waits for a person's word.
	DeleteHeld
	// DeleteHidden: of another zone's file, in a class where that hides the name here.
	DeleteHidden
)

// HeldDelete is a delete of a name here with all that is needed to bring the name back.
type HeldDelete struct {
	Path  string
	Kind  HeldKind
	Burst uint64 // DeleteHeld: which burst; 0 for others
	Time  int64  // ns, when the name went
	Told  bool   // DeleteHeld: the other zones were told before, and it is to be taken back
	Trash string // key under which the trash may have the object of one that was told; "" = none
	Saved bool   // the object was copied to the conflicts: a new file of the path replaces it
	Inode *Inode // as it was; its number and names mean nothing any more
}

// What follows kindKept in a key.
const (
	heldByPath = "p"
	heldByKey  = "k"
)

// HeldDelete returns that of a path, or ErrNotFound.
func (tx *Tx) HeldDelete(path string) (*HeldDelete, error) {
	v, err := tx.get(nameKey(kindKept, heldByPath+path))
	if err != nil {
		return nil, err
	}
	return decodeHeldDelete(path, v)
}

// HeldKey returns the HeldDelete that has an object, by the object's key, or ErrNotFound.
func (tx *Tx) HeldKey(key string) (*HeldDelete, error) {
	v, err := tx.bytes(nameKey(kindKept, heldByKey+key))
	if err != nil {
		return nil, err
	}
	return tx.HeldDelete(string(v))
}

// PutHeldDelete stores h under its path and under the keys of its objects, in the place
// of what the path had.
func (tx *Tx) PutHeldDelete(h *HeldDelete) error {
	if err := tx.DeleteHeldDelete(h.Path); err != nil {
		return err
	}
	for _, o := range h.Inode.Objects {
		if err := tx.set(nameKey(kindKept, heldByKey+o.Key), encodeBytes([]byte(h.Path))); err != nil {
			return err
		}
	}
	return tx.set(nameKey(kindKept, heldByPath+h.Path), encodeHeldDelete(h))
}

// DeleteHeldDelete removes that of a path; one that does not exist is no error.
func (tx *Tx) DeleteHeldDelete(path string) error {
	old, err := tx.HeldDelete(path)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, o := range old.Inode.Objects {
		key := nameKey(kindKept, heldByKey+o.Key)
		switch of, err := tx.bytes(key); {
		case errors.Is(err, ErrNotFound), err == nil && string(of) != path: // another one has it by now
		case err != nil:
			return err
		default:
			if err := tx.delete(key); err != nil {
				return err
			}
		}
	}
	return tx.delete(nameKey(kindKept, heldByPath+path))
}

// EachHeldDelete calls fn for those whose paths start with prefix and come after a path
// ("" = from the first), in the order of paths, until fn returns false.
func (tx *Tx) EachHeldDelete(prefix, after string, fn func(*HeldDelete) bool) error {
	from := []byte(nil)
	if after != "" {
		from = nameKey(kindKept, heldByPath+after+"\x00")
	}
	return tx.scan(nameKey(kindKept, heldByPath+prefix), from, func(key, val []byte) (bool, error) {
		path := string(key[1+len(heldByPath):])
		h, err := decodeHeldDelete(path, val)
		if err != nil {
			return false, fmt.Errorf("held delete of %q: %w", path, err)
		}
		return fn(h), nil
	})
}

func encodeHeldDelete(h *HeldDelete) []byte {
	inode := encodeInode(h.Inode)
	e := newEncoder(40 + len(h.Trash) + len(inode))
	e.byte(byte(h.Kind))
	e.uint(h.Burst)
	e.int(h.Time)
	e.bool(h.Told)
	e.string(h.Trash)
	e.bool(h.Saved)
	e.uint(uint64(h.Inode.Ino))
	e.string(string(inode))
	return e.buf
}

func decodeHeldDelete(path string, buf []byte) (*HeldDelete, error) {
	d := newDecoder(buf)
	h := &HeldDelete{Path: path, Kind: HeldKind(d.byte()), Burst: d.uint(), Time: d.int(), Told: d.bool(), Trash: d.string(), Saved: d.bool()}
	ino, inode := Ino(d.uint()), d.string()
	if d.err != nil {
		return nil, d.err
	}
	h.Inode = &Inode{Ino: ino}
	if inode == "" {
		return h, nil
	}
	var err error
	h.Inode, err = decodeInode(ino, []byte(inode))
	return h, err
}
