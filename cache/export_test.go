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

// FetchRanges is fetchRanges for a file that is open.
func FetchRanges(c *Cache, h *Handle, ranges []catalog.Range, class fetch.Class) {
	c.fetchRanges(h.n, ranges, class)
}
