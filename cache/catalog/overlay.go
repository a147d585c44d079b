package catalog

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// overlay holds the commits that Badger does not have yet. Each key keeps all the
// values it got, so that a View goes on seeing those of its beginning while Updates
// go on; it is never emptied but replaced (Catalog.flush), so that a View keeps the one
// it began with.
type overlay struct {
	mu    sync.RWMutex // guards below
	kinds map[byte]map[string]*version
	count int // keys
	bytes int // of keys and values, older versions too
}

// version is what one commit made of a key; immutable.
type version struct {
	seq    uint64 // of the commit
	val    []byte // nil: deleted
	fresh  bool   // Badger has no such key
	before *version
}

func newOverlay() *overlay { return &overlay{kinds: make(map[byte]map[string]*version)} }

// get returns what the commits up to seq made of key.
func (o *overlay) get(key []byte, seq uint64) (val []byte, known bool) {
	o.mu.RLock()
	v := o.kinds[key[0]][string(key)]
	o.mu.RUnlock()
	if v = v.at(seq); v == nil {
		return nil, false
	}
	return v.val, true
}

// at is the version that a reader as of seq sees, nil for none.
func (v *version) at(seq uint64) *version {
	for v != nil && v.seq > seq {
		v = v.before
	}
	return v
}

// add publishes the writes of commit seq.
func (o *overlay) add(writes []write, seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range writes {
		w := &writes[i]
		kind := o.kinds[w.key[0]]
		if kind == nil {
			kind = make(map[string]*version)
			o.kinds[w.key[0]] = kind
		}
		before := kind[string(w.key)]
		v := &version{seq: seq, val: w.val, before: before, fresh: w.fresh && before == nil || before != nil && before.fresh}
		kind[string(w.key)] = v
		if before == nil {
			o.count++
		}
		o.bytes += w.size()
	}
}

// pair is a record of a scan.
type pair struct {
	key string
	val []byte // nil: deleted
}

// within adds to list what the commits up to seq made of the keys with prefix, from from on.
func (o *overlay) within(list []pair, prefix, from []byte, seq uint64) []pair {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for key, v := range o.kinds[prefix[0]] {
		if key < string(from) || !strings.HasPrefix(key, string(prefix)) {
			continue
		}
		if v = v.at(seq); v != nil {
			list = append(list, pair{key, v.val})
		}
	}
	return list
}

// newest calls fn with the last value of every key that Badger has to learn.
func (o *overlay) newest(fn func(key, val []byte) error) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, kind := range o.kinds {
		for key, v := range kind {
			if v.val == nil && v.fresh {
				continue // it came and went
			}
			if err := fn([]byte(key), v.val); err != nil {
				return err
			}
		}
	}
	return nil
}

// write is one change of a transaction.
type write struct {
	key, val []byte // val nil: deleted
	fresh    bool   // there is no such key
}

func (w *write) size() int { return len(w.key) + len(w.val) }

// writes are the changes of one transaction, each key once.
type writes struct {
	list  []write
	index map[string]int // place in list; made when searching would take longer
	bytes int
}

// searchable is up to how many writes are searched one by one: most transactions
// have fewer, and a map costs more than that.
const searchable = 12

func (ws *writes) find(key []byte) *write {
	if ws.index != nil {
		if i, ok := ws.index[string(key)]; ok {
			return &ws.list[i]
		}
		return nil
	}
	for i := range ws.list {
		if bytes.Equal(ws.list[i].key, key) {
			return &ws.list[i]
		}
	}
	return nil
}

func (ws *writes) put(w write) {
	if w.val == nil {
		w.fresh = false
	}
	if old := ws.find(w.key); old != nil {
		ws.bytes += len(w.val) - len(old.val)
		old.val, old.fresh = w.val, old.fresh || w.fresh
		return
	}
	if ws.index == nil && len(ws.list) == searchable {
		ws.index = make(map[string]int)
		for i := range ws.list {
			ws.index[string(ws.list[i].key)] = i
		}
	}
	if ws.index != nil {
		ws.index[string(w.key)] = len(ws.list)
	}
	ws.list = append(ws.list, w)
	ws.bytes += w.size()
}

// within is overlay.within for a transaction's own changes.
func (ws *writes) within(list []pair, prefix, from []byte) []pair {
	for i := range ws.list {
		if w := &ws.list[i]; bytes.Compare(w.key, from) >= 0 && bytes.HasPrefix(w.key, prefix) {
			list = append(list, pair{string(w.key), w.val})
		}
	}
	return list
}

// latest sorts a list by key and leaves of equal keys the one that was added last.
func latest(list []pair) []pair {
	slices.SortStableFunc(list, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	kept := list[:0]
	for i, p := range list {
		if i+1 == len(list) || list[i+1].key != p.key {
			kept = append(kept, p)
		}
	}
	return kept
}
