package catalog

// Recent counts the records that are kept in memory.
func (c *Catalog) Recent() (n int) {
	for i := range c.recent.shards {
		s := &c.recent.shards[i]
		s.mu.Lock()
		n += len(s.young) + len(s.old)
		s.mu.Unlock()
	}
	return n
}
