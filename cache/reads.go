package cache

import "sync/atomic"

// readCount counts reads of files that are not whole. Those of whole files do not
// come here where the kernel serves them, and count nowhere.
type readCount struct{ hits, misses atomic.Int64 }

func (r *readCount) note(here bool) {
	if here {
		r.hits.Add(1)
		return
	}
	r.misses.Add(1)
}
