package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

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
	c      *Catalog
	txn    *badger.Txn
	deltas []delta
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

// retryPauseAfter is the number of conflicts after which Update pauses before
// it tries again; conflicts are rare because the heart holds locks per name.
const retryPauseAfter = 8

// Update runs fn in a transaction and commits what it changed, at once or not
// at all. fn is run again when another transaction changed something that it
// read, so it must have no effects besides those on tx (or set them from
// scratch each time). An error of fn is returned unchanged, and nothing is
// committed. When Update returns nil the change survives a kill of the
// process; after the next Sync it also survives a power cut.
//
// A transaction is bounded to some 20,000 records and 2 MiB (ErrTooBig).
func (c *Catalog) Update(fn func(*Tx) error) error {
	if err := c.room.check(); err != nil {
		return fmt.Errorf("change catalog: %w", err)
	}
	for attempt := 1; ; attempt++ {
		err := c.try(fn)
		if !errors.Is(err, badger.ErrConflict) {
			return err
		}
		if attempt >= retryPauseAfter {
			time.Sleep(rand.N(time.Millisecond))
		}
	}
}

// try is one attempt of Update.
func (c *Catalog) try(fn func(*Tx) error) error {
	if c.closed.Load() {
		return ErrClosed
	}
	tx := Tx{c: c, txn: c.db.NewTransaction(true)}
	defer tx.txn.Discard()
	if err := fn(&tx); err != nil {
		return err
	}
	c.recent.begin(tx.touched)
	err := tx.commit()
	c.recent.end(tx.touched, err == nil)
	if err != nil {
		return err
	}
	c.tally.apply(tx.deltas)
	c.syncer.commits.Add(1)
	return nil
}

func (tx *Tx) commit() (err error) {
	defer guard(&err)
	err = tx.txn.Commit()
	if err != nil && !errors.Is(err, badger.ErrConflict) {
		return fmt.Errorf("commit catalog: %w", err)
	}
	return err
}

// View runs fn in a transaction that only reads; its changes would fail.
func (c *Catalog) View(fn func(*Tx) error) error {
	if c.closed.Load() {
		return ErrClosed
	}
	tx := Tx{c: c, txn: c.db.NewTransaction(false)}
	defer tx.txn.Discard()
	return fn(&tx)
}

// get returns a value that stays valid until the transaction ends, or ErrNotFound.
func (tx *Tx) get(key []byte) (val []byte, err error) {
	defer guard(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	item, err := tx.txn.Get(key)
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

// set keeps key and val: both must be the transaction's own.
func (tx *Tx) set(key, val []byte) error {
	if len(val) > maxRecord {
		return fmt.Errorf("change catalog: a record of %d bytes: %w", len(val), ErrTooBig)
	}
	tx.touch(key, val)
	return tx.changed(tx.txn.SetEntry(&badger.Entry{Key: key, Value: val}), key)
}

func (tx *Tx) delete(key []byte) error {
	tx.touch(key, nil)
	return tx.changed(tx.txn.Delete(key), key)
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

func (tx *Tx) changed(err error, key []byte) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, badger.ErrTxnTooBig) || len(key) > maxKey {
		err = ErrTooBig
	}
	return fmt.Errorf("change catalog: %w", err)
}

func (tx *Tx) meta(name string) (uint64, error) {
	v, err := tx.get(nameKey(kindMeta, name))
	if err != nil {
		return 0, fmt.Errorf("record %s: %w", name, err)
	}
	return decodeNumber(v)
}

func (tx *Tx) putMeta(name string, n uint64) error {
	return tx.set(nameKey(kindMeta, name), encodeNumber(n))
}
