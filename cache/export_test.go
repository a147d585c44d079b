package cache

import (
	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
)

// Waiters is how many readers wait for bytes of a file.
func Waiters(c *Cache, ino Ino) int {
	n := c.peek(ino)
	if n == nil {
		return 0
	}
	defer c.drop(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil {
		return 0
	}
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	return len(n.p.waiters)
}

// Ahead asks for ranges of a file that is open, and not whole, ahead of any reader.
func Ahead(c *Cache, h *Handle, ranges []catalog.Range, class fetch.Class) {
	h.n.p.mu.Lock()
	defer h.n.p.mu.Unlock()
	c.aheadLocked(h.n, ranges, class)
}

// Unplanned has nothing fetched of a file but what is read, while it is open: it is taken
// for no image.
func Unplanned(h *Handle) { h.n.hydration.Store(&hydration{}) }

// CombineCRC and ZeroCRC are for tests outside the package.
func CombineCRC(first, second uint64, n int64) uint64 { return combineCRC(first, second, n) }

// ZeroCRC is the checksum of n zeros.
func ZeroCRC(n int64) uint64 { return zeroCRC(n) }
