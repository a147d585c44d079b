package catalog

import (
	"context"
	"fmt"
	"sync"
)

// block is how many numbers are reserved at a time: one durable write for so
// many new files. What is left of a block is lost at a restart, which 2^64
// numbers bear.
const block = 65536

// numbers hands out numbers that were never handed out before. The record in
// the catalog says below which number they may all be in use.
type numbers struct {
	c       *Catalog
	name    string               // of the record
	reserve func(upTo Ino) error // may be nil
	mu      sync.Mutex
	next    uint64 // guarded by mu
	limit   uint64 // numbers below are reserved durably; guarded by mu
}

func (n *numbers) init(c *Catalog, name string, limit uint64, reserve func(Ino) error) {
	n.c, n.name, n.reserve = c, name, reserve
	n.next, n.limit = limit, limit
}

// take returns the next number. It may be called within a transaction, whose
// fate does not matter to the number.
func (n *numbers) take() (uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == n.limit {
		if err := n.reserveLocked(n.limit + block); err != nil {
			return 0, fmt.Errorf("reserve %s: %w", n.name, err)
		}
	}
	v := n.next
	n.next++
	return v, nil
}

func (n *numbers) reserveLocked(upTo uint64) error {
	// Not Update and Sync: the caller may be in an Update.
	err := n.c.putMeta(n.name, upTo)
	if err == nil {
		n.c.syncer.commits.Add(1)
		err = n.c.syncFlushed(context.Background())
	}
	if err == nil && n.reserve != nil {
		err = n.reserve(Ino(upTo))
	}
	if err == nil {
		n.limit = upTo
	}
	return err
}

// NextIno returns an inode number that no file ever had, also not before a
// crash. It may sync, and call Options.ReserveInos, first.
func (c *Catalog) NextIno() (Ino, error) {
	n, err := c.inos.take()
	return Ino(n), err
}

// NextCookie returns a number greater than all cookies and generations handed
// out before, also before a crash. It may sync first.
func (c *Catalog) NextCookie() (uint64, error) { return c.seqs.take() }

// NextGen is NextCookie for content generations: both come from one counter.
func (c *Catalog) NextGen() (uint64, error) { return c.seqs.take() }
