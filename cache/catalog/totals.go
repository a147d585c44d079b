package catalog

import (
	"fmt"
	"maps"
	"sync"

	badger "github.com/dgraph-io/badger/v4"
)

// Totals are sums over all inodes, kept in memory: asking costs nothing.
type Totals struct {
	Files, Dirs, Others int64           // regular files, directories, anything else
	ByState             map[State]int64 // regular files in a State; one that was never seen is missing
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

// tally is what Close left, or counted at Open, and then follows every commit.
type tally struct {
	mu sync.Mutex
	t  Totals // guarded by mu
}

func (t *tally) init() {
	t.t = Totals{ByState: make(map[State]int64), BytesByState: make(map[State]int64)}
}

// save stores the totals: the last change before a clean stop.
func (t *tally) save(c *Catalog) error {
	c.syncer.commits.Add(1)
	return c.direct(func(txn *badger.Txn) error {
		return txn.SetEntry(&badger.Entry{Key: nameKey(kindMeta, metaTotals), Value: encodeTotals(c.Totals())})
	})
}

// load takes what save stored, which is only right after a clean stop.
func (t *tally) load(c *Catalog) error {
	return c.View(func(tx *Tx) error {
		v, err := tx.get(nameKey(kindMeta, metaTotals))
		if err != nil {
			return fmt.Errorf("record %s: %w", metaTotals, err)
		}
		t.t, err = decodeTotals(v)
		return err
	})
}

// count scans all inodes, which takes a second per million and maps all tables.
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

func encodeTotals(t Totals) []byte {
	e := newEncoder(64)
	e.int(t.Files)
	e.int(t.Dirs)
	e.int(t.Others)
	e.uint(uint64(len(t.ByState)))
	for state, n := range t.ByState {
		e.byte(byte(state))
		e.int(n)
		e.int(t.BytesByState[state])
	}
	return e.buf
}

func decodeTotals(buf []byte) (Totals, error) {
	d := newDecoder(buf)
	t := Totals{Files: d.int(), Dirs: d.int(), Others: d.int(), ByState: make(map[State]int64), BytesByState: make(map[State]int64)}
	for range d.count(3) {
		state := State(d.byte())
		t.ByState[state], t.BytesByState[state] = d.int(), d.int()
	}
	return t, d.err
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
