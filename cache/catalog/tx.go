package catalog

import (
	"errors"
	"fmt"
	"runtime/debug"

	badger "github.com/dgraph-io/badger/v4"
)

// Tx is one transaction: it sees the catalog as it was when it began, and its
// own changes. It belongs to one goroutine and ends with the function that it
// was passed to. Everything it returns is the caller's own copy; what it is
// given is copied too.
//
// Scans (ReadDir, Each…) may be nested and may change the catalog as they go:
// what they report from then on may or may not show such a change.
type Tx struct {
	c       *Catalog
	txn     *badger.Txn // nil until an Update reads what the overlay does not know
	overlay *overlay
	seq     uint64  // the last commit that it sees
	writes  *writes // nil in a View
	deltas  []delta
	// What the transaction changes of what Catalog.Inode and Lookup answer.
	touched []touch
	last    counted
}

// counted is what the inode that was read or written last counts as: who puts it back
// need not read it again.
type counted struct {
	ino   Ino // 0: none
	class class
}

// Update runs fn in a transaction and commits what it changed, at once or not
// at all. One Update runs at a time: fn must be short, must not wait for anything that
// another Update may be needed for, and must not call Update, Sync or Close itself. An
// error of fn is returned unchanged, and nothing is committed. When Update returns nil the
// change survives a kill of the process; after the next Sync it also survives a power cut.
//
// A transaction is bounded to 20,000 records and 1.5 MiB (ErrTooBig).
func (c *Catalog) Update(fn func(*Tx) error) error {
	if err := c.room.check(); err != nil {
		return fmt.Errorf("change catalog: %w", err)
	}
	c.commit.Lock()
	defer c.commit.Unlock()
	if c.closed.Load() {
		return ErrClosed
	}
	var ws writes
	tx := Tx{c: c, overlay: c.overlay, seq: c.seq, writes: &ws}
	defer tx.discard()
	if err := fn(&tx); err != nil {
		return err
	}
	if len(ws.list) == 0 {
		return nil
	}
	c.recent.begin(tx.touched)
	err := c.commitLocked(&ws)
	c.recent.end(tx.touched, err == nil)
	if err != nil {
		return fmt.Errorf("change catalog: %w", err)
	}
	c.tally.apply(tx.deltas)
	return nil
}

// commitLocked makes changes survive a kill and shows them to all; c.commit is held.
func (c *Catalog) commitLocked(ws *writes) error {
	if c.overlay.count > 0 && (c.overlay.full() || c.overlay.bytes+ws.bytes > maxTxBytes || c.overlay.count+len(ws.list) > maxTxKeys) {
		// Here and not after a commit, which has happened whatever becomes of the flush.
		if err := c.flushLocked(); err != nil {
			return err
		}
	}
	if err := c.journal.append(c.seq+1, ws.list); err != nil {
		return err
	}
	c.state.Lock()
	c.overlay.add(ws.list, c.seq+1)
	c.seq++
	c.state.Unlock()
	return nil
}

// View runs fn in a transaction that only reads; its changes would fail.
func (c *Catalog) View(fn func(*Tx) error) error {
	if c.closed.Load() {
		return ErrClosed
	}
	c.state.RLock()
	tx := Tx{c: c, overlay: c.overlay, seq: c.seq, txn: c.db.NewTransaction(false)}
	c.state.RUnlock()
	defer tx.discard()
	return fn(&tx)
}

func (tx *Tx) discard() {
	if tx.txn != nil {
		tx.txn.Discard()
	}
}

// badger is the transaction on what was flushed. That of an Update begins when it is
// wanted: nothing is flushed while it runs.
func (tx *Tx) badger() *badger.Txn {
	if tx.txn == nil {
		tx.txn = tx.c.db.NewTransaction(false)
	}
	return tx.txn
}

// get returns a value that stays valid until the transaction ends, or ErrNotFound.
func (tx *Tx) get(key []byte) (val []byte, err error) {
	if tx.writes != nil {
		if w := tx.writes.find(key); w != nil {
			return found(w.val)
		}
	}
	if val, known := tx.overlay.get(key, tx.seq); known {
		return found(val)
	}
	defer guard(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	item, err := tx.badger().Get(key)
	if err == badger.ErrKeyNotFound {
		return nil, ErrNotFound
	}
	if err == nil {
		err = item.Value(func(v []byte) error { val = v; return nil })
	}
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	return val, nil
}

func found(val []byte) ([]byte, error) {
	if val == nil {
		return nil, ErrNotFound
	}
	return val, nil
}

// set keeps key and val: both must be the transaction's own.
func (tx *Tx) set(key, val []byte) error { return tx.write(write{key: key, val: stored(val)}) }

// setNew is set of a key that surely does not exist: deleted soon, it costs nothing.
func (tx *Tx) setNew(key, val []byte) error {
	return tx.write(write{key: key, val: stored(val), fresh: true})
}

// stored is a value that is not taken for a deletion.
func stored(val []byte) []byte {
	if val == nil {
		return []byte{}
	}
	return val
}

func (tx *Tx) delete(key []byte) error { return tx.write(write{key: key}) }

func (tx *Tx) write(w write) error {
	if tx.writes == nil {
		return errors.New("change catalog: this transaction only reads")
	}
	if len(w.key) > maxKey || len(w.val) > maxRecord {
		return fmt.Errorf("change catalog: a record of %d bytes: %w", w.size(), ErrTooBig)
	}
	tx.touch(w.key, w.val)
	tx.writes.put(w)
	if len(tx.writes.list) > maxTxKeys || tx.writes.bytes > maxTxBytes {
		return fmt.Errorf("change catalog: %w", ErrTooBig)
	}
	return nil
}

// touch notes a change that recent has to know of.
func (tx *Tx) touch(key, val []byte) {
	switch key[0] {
	case kindInode, kindDirent, kindQueue:
		tx.touched = append(tx.touched, touch{key: key, val: val})
	}
}

// maxKey is Badger's own limit.
const maxKey = 65000

func (tx *Tx) meta(name string) (uint64, error) {
	v, err := tx.get(nameKey(kindMeta, name))
	if err != nil {
		return 0, fmt.Errorf("record %s: %w", name, err)
	}
	return decodeNumber(v)
}
