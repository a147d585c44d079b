package catalog

import (
	"fmt"
	"maps"
	"sync"
)

// Totals are sums over all inodes, kept in memory: asking costs nothing.
type Totals struct {
	Files, Dirs, Others int64           // regular files, directories, anything else
	ByState             map[State]int64 // regular files in a State
	BytesByState        map[State]int64 // the sum of their Sizes
}

// File types as in st_mode.
const (
	typeMask = 0o170000
	typeFile = 0o100000
	typeDir  = 0o040000
)

// delta is the change of one inode by a transaction that is to be counted when it is committed.
type delta struct {
	class
	n int64 // +1 or -1
}

// tally is counted once at Open and then follows every commit.
type tally struct {
	mu sync.Mutex
	t  Totals // guarded by mu
}

func (t *tally) init() {
	t.t = Totals{ByState: make(map[State]int64), BytesByState: make(map[State]int64)}
}

// count scans all inodes.
func (t *tally) count(c *Catalog) error {
	return c.View(func(tx *Tx) error {
		return tx.scan([]byte{kindInode}, nil, func(key, val []byte) (bool, error) {
			cl, err := decodeClass(val)
			if err != nil {
				return false, fmt.Errorf("inode %x: %w", key[1:], err)
			}
			t.t.add(cl, 1)
			return true, nil
		})
	})
}

func (t *tally) apply(ds []delta) {
	if len(ds) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range ds {
		t.t.add(d.class, d.n)
	}
}

func (t *Totals) add(c class, n int64) {
	switch c.mode & typeMask {
	case typeFile:
		t.Files += n
		t.ByState[c.state] += n
		t.BytesByState[c.state] += n * c.size
	case typeDir:
		t.Dirs += n
	default:
		t.Others += n
	}
}

// Totals returns the sums over all committed inodes.
func (c *Catalog) Totals() Totals {
	c.tally.mu.Lock()
	defer c.tally.mu.Unlock()
	t := c.tally.t
	t.ByState, t.BytesByState = maps.Clone(t.ByState), maps.Clone(t.BytesByState)
	return t
}

// class reads what the inode record under key counts as.
func (tx *Tx) class(key []byte) (class, bool, error) {
	v, err := tx.get(key)
	if err == ErrNotFound {
		return class{}, false, nil
	}
	if err != nil {
		return class{}, false, err
	}
	c, err := decodeClass(v)
	return c, true, err
}

// count notes that the transaction makes an inode of class old (if it had one) one of class now (if it has one).
func (tx *Tx) count(old class, had bool, now class, has bool) {
	if had && has && old == now {
		return
	}
	if had {
		tx.deltas = append(tx.deltas, delta{old, -1})
	}
	if has {
		tx.deltas = append(tx.deltas, delta{now, 1})
	}
}
