package cache

import (
	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
)

// fetchRanges asks for ranges of a partial file ahead of any reader, in the order
// given, and returns at once; who needs to wait for some of them calls ensure. What is
// here or on its way already is not asked for again. The caller holds a reference to n
// and none of its locks. On a file that is whole, or was never loaded, it does nothing.
func (c *Cache) fetchRanges(n *node, ranges []catalog.Range, class fetch.Class) {
	n.mu.Lock()
	p := n.p
	n.mu.Unlock()
	if p == nil || n.whole.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range ranges {
		c.launchLocked(n, max(r.Off, 0), min(r.End, p.size), class == fetch.Background)
	}
}
