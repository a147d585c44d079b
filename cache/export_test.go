package cache

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
