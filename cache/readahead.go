package cache

import "sync"

// readahead remembers how one handle reads.
type readahead struct {
	mu     sync.Mutex // guards below
	next   int64      // where a sequential reader would go on
	window int64      // how far ahead of it to fetch; 0: random access
}

// plan notes a read of [off, end) and returns how far beyond end to fetch.
func (r *readahead) plan(off, end int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	// The kernel splits and reorders large reads a little: near is sequential too.
	near := off >= r.next-fetchChunk && off <= r.next+fetchChunk && (r.next > 0 || off == 0)
	switch {
	case !near:
		r.window = 0
	case r.window == 0:
		r.window = max(2*(end-off), 4*fetchBlock)
		if r.next == 0 { // the first read of a file says little yet
			r.window = 0
		}
	default:
		r.window = min(2*r.window, maxAhead)
	}
	r.next = max(end, 1)
	return r.window
}
