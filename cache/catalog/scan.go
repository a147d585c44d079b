package catalog

import (
	"bytes"
	"runtime/debug"
	"strings"

	badger "github.com/dgraph-io/badger/v4"
)

// Batches of a scan: a directory of few names costs little, a long scan opens
// Badger's iterators rarely.
const (
	firstBatch = 32
	lastBatch  = 1024
)

// batch is a piece of a scan, copied out of Badger so that fn runs with no
// iterator open: Badger allows one per writing transaction.
type batch struct {
	data []byte
	ends []int // of key, value, key, value… in data
}

func (b *batch) reset() { b.data, b.ends = b.data[:0], b.ends[:0] }

func (b *batch) add(p []byte) {
	b.data = append(b.data, p...)
	b.ends = append(b.ends, len(b.data))
}

func (b *batch) len() int { return len(b.ends) / 2 }

func (b *batch) at(i int) []byte {
	start := 0
	if i > 0 {
		start = b.ends[i-1]
	}
	return b.data[start:b.ends[i]]
}

// scan calls fn for the records with prefix, in key order from the first one
// at or after from, until fn returns false or an error. key and val are valid
// during the call only.
func (tx *Tx) scan(prefix, from []byte, fn func(key, val []byte) (bool, error)) error {
	var b batch
	if bytes.Compare(from, prefix) < 0 {
		from = prefix
	}
	next := append([]byte(nil), from...)
	for size := firstBatch; ; size = min(2*size, lastBatch) {
		b.reset()
		if err := tx.fill(&b, prefix, next, size); err != nil {
			return err
		}
		for i := range b.len() {
			more, err := fn(b.at(2*i), b.at(2*i+1))
			if err != nil || !more {
				return err
			}
		}
		if b.len() < size {
			return nil
		}
		// The smallest key that is greater than the last one.
		next = append(append(next[:0], b.at(2*(b.len()-1))...), 0)
	}
}

// fill adds at most size records to b: what Badger has, with what the overlay and the
// transaction itself changed.
func (tx *Tx) fill(b *batch, prefix, from []byte, size int) error {
	list := tx.overlay.within(nil, prefix, from, tx.seq)
	if tx.writes != nil {
		list = tx.writes.within(list, prefix, from)
	}
	return tx.merge(b, latest(list), prefix, from, size)
}

func (tx *Tx) merge(b *batch, changed []pair, prefix, from []byte, size int) (err error) {
	defer guard(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	it := tx.badger().NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(from); b.len() < size; {
		stored := it.Valid()
		if !stored && len(changed) == 0 {
			return nil
		}
		order := -1 // of the next stored record to the next changed one
		if !stored {
			order = 1
		} else if len(changed) > 0 {
			order = strings.Compare(string(it.Item().Key()), changed[0].key)
		}
		if order < 0 {
			item := it.Item()
			b.add(item.Key())
			if err := item.Value(func(v []byte) error { b.add(v); return nil }); err != nil {
				return err
			}
		} else {
			if p := changed[0]; p.val != nil {
				b.add([]byte(p.key))
				b.add(p.val)
			}
			changed = changed[1:]
		}
		if stored && order <= 0 {
			it.Next()
		}
	}
	return nil
}

// deleteAll deletes the records with prefix.
func (tx *Tx) deleteAll(prefix []byte) error {
	return tx.scan(prefix, nil, func(key, _ []byte) (bool, error) {
		return true, tx.delete(bytes.Clone(key))
	})
}
