package cache

import (
	"sync"
	"sync/atomic"
	"time"
)

// trashCount is what the trash and the conflicts hold, as far as this zone knows: all
// that the last full sweep found, and what this zone put there or took away since.
type trashCount struct {
	retention atomic.Int64  // ns; 0: nothing is kept
	swept     chan struct{} // signals sweepLoop to sweep now

	mu       sync.Mutex // guards below
	trash    HeldStatus
	conflict HeldStatus
}

// HeldStatus says how much is kept aside in the depot.
type HeldStatus struct {
	Entries int64     `json:"entries"`
	Bytes   int64     `json:"bytes"`
	Counted time.Time `json:"counted"` // when the depot was last looked through for that; zero: not yet in this run
}

// TrashStatus is the trash in Status.
type TrashStatus struct {
	RetentionSeconds float64 `json:"retention_seconds"` // 0: deleted versions are not kept
	HeldStatus
}

func (t *trashCount) init(retention time.Duration) {
	switch {
	case retention == 0:
		retention = DefaultTrashRetention
	case retention < 0:
		retention = 0
	}
	t.retention.Store(int64(retention))
	t.swept = make(chan struct{}, 1)
}

// TrashRetention is for how long deleted versions are kept; 0: they are not.
func (c *Cache) TrashRetention() time.Duration { return time.Duration(c.trash.retention.Load()) }

// SetTrashRetention changes that. What this zone has in the trash for longer goes soon.
func (c *Cache) SetTrashRetention(d time.Duration) {
	c.trash.retention.Store(int64(max(0, d)))
	c.sweepNow()
}

func (c *Cache) sweepNow() {
	select {
	case c.trash.swept <- struct{}{}:
	default:
	}
}

// held counts what came into the trash, or with negative numbers left it.
func (t *trashCount) held(entries, bytes int64) { t.add(&t.trash, entries, bytes) }

// conflicts is held for the conflicts.
func (t *trashCount) conflicts(entries, bytes int64) { t.add(&t.conflict, entries, bytes) }

func (t *trashCount) add(to *HeldStatus, entries, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	to.Entries, to.Bytes = max(0, to.Entries+entries), max(0, to.Bytes+bytes)
}

// counted notes what a full sweep found.
func (t *trashCount) counted(to *HeldStatus, found HeldStatus, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found.Counted = now
	*to = found
}

func (c *Cache) trashStatus() (TrashStatus, HeldStatus) {
	t := &c.trash
	t.mu.Lock()
	defer t.mu.Unlock()
	return TrashStatus{c.TrashRetention().Seconds(), t.trash}, t.conflict
}
