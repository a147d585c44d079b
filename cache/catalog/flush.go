package catalog

import (
	"errors"
	"fmt"

	badger "github.com/dgraph-io/badger/v4"
)

const (
	// flushBytes and flushKeys are when the overlay is brought into Badger: some
	// hundreds of the kernel's requests at a time, far below what one transaction of Badger's
	// takes, and little to replay after a kill.
	flushBytes = 512 << 10
	flushKeys  = 4096
	// maxTxBytes and maxTxKeys bound a transaction, and with it what is flushed at once:
	// Badger's own bounds are 15 % of a memory table and 26,000 keys.
	maxTxBytes = 2<<20 - flushBytes
	maxTxKeys  = 20_000
)

// full says that the overlay is to be flushed.
func (o *overlay) full() bool { return o.count >= flushKeys || o.bytes >= flushBytes }

// flush brings all commits so far into Badger.
func (c *Catalog) flush() error {
	c.commit.Lock()
	defer c.commit.Unlock()
	return c.flushLocked()
}

// flushLocked is flush for who holds c.commit.
func (c *Catalog) flushLocked() error {
	if err := c.bring(); err != nil {
		return err
	}
	return c.journal.reset()
}

// bring is flushLocked without the end of the journal. One Badger transaction has the last
// values of all keys and the number of the last commit, so that each commit is in Badger
// or in the journal at every instant.
func (c *Catalog) bring() error {
	if c.overlay.count == 0 {
		return nil
	}
	err := c.direct(func(txn *badger.Txn) error {
		err := c.overlay.newest(func(key, val []byte) error {
			if val == nil {
				return txn.Delete(key)
			}
			return txn.SetEntry(&badger.Entry{Key: key, Value: val})
		})
		return errors.Join(err, setMeta(txn, metaFlushed, c.seq))
	})
	if err != nil {
		return err
	}
	c.syncer.commits.Add(1)
	c.state.Lock()
	c.overlay = newOverlay()
	c.state.Unlock()
	return nil
}

// direct changes records of Badger that no overlay has: kindMeta, and what flush brings.
func (c *Catalog) direct(fn func(*badger.Txn) error) (err error) {
	defer guard(&err)
	txn := c.db.NewTransaction(true)
	defer txn.Discard()
	if err := fn(txn); err != nil {
		return err
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("commit catalog: %w", err)
	}
	return nil
}

func setMeta(txn *badger.Txn, name string, n uint64) error {
	return txn.SetEntry(&badger.Entry{Key: nameKey(kindMeta, name), Value: encodeNumber(n)})
}

// putMeta changes one number of kindMeta.
func (c *Catalog) putMeta(name string, n uint64) error {
	return c.direct(func(txn *badger.Txn) error { return setMeta(txn, name, n) })
}
