package cache

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
	"depotfs/cache/journal"
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

// Sweep removes from trash and conflicts what is too old, now.
func Sweep(ctx context.Context, c *Cache, full bool) error { return c.sweep(ctx, c.depot.Load(), full) }

// TooMany says which of what was kept at some times stays, and how many go, at a time.
func TooMany(kept []time.Time, now time.Time, limit int) (stays []time.Time, goes, over int) {
	all := make([]aged, 0, len(kept))
	for _, at := range kept {
		all = append(all, aged{at: at})
	}
	left, gone, over := tooMany(all, now, limit)
	for _, a := range left {
		stays = append(stays, a.at)
	}
	return stays, len(gone), over
}

// ApplyRecord has a zone take in a change record.
func ApplyRecord(ctx context.Context, c *Cache, r journal.Record) error {
	return c.applyRecord(ctx, c.depot.Load(), r)
}

// RetryHeld tries the change records again that wait.
func RetryHeld(ctx context.Context, c *Cache) error { return c.retryHeld(ctx) }

// AfterRename is when what was done at t counts as done under the name after a rename.
func AfterRename(t, renamed int64) int64 { return afterRename(t, renamed) }

// CombineCRC and ZeroCRC are for tests outside the package.
func CombineCRC(first, second uint64, n int64) uint64 { return combineCRC(first, second, n) }

// ZeroCRC is the checksum of n zeros.
func ZeroCRC(n int64) uint64 { return zeroCRC(n) }

// Replaceable is a store whose settings can be changed, and how that is done.
func Replaceable(s Store) (_ Store, replace func(s Store, moved bool)) {
	r := newReplaceable(s)
	return r, r.replace
}

// BeatZone has the zone say now that it is alive, and look at the others.
func BeatZone(c *Cache) error {
	d := c.depot.Load()
	ctx, done := d.use(context.Background())
	defer done()
	return c.lookAtZones(ctx, d, 1, true)
}

// LapseZone makes the zone's last sign of life older than its lease allows.
func LapseZone(c *Cache) {
	d := c.depot.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lease.beat = d.lease.beat.Add(-zoneLapse)
}

// Cursor is how far the zone has applied a journal.
func Cursor(c *Cache, zone string) uint64 {
	n, _ := c.cursor(zone)
	return n
}

// ZoneName is the zone's name.
func (c *Cache) ZoneName() string { return c.zoneName() }

// RewriteZone reads a registration and, if it can be, writes and reads it again.
func RewriteZone(b []byte, zone string) error {
	f, err := decodeZone(b, zone)
	if err != nil {
		return nil
	}
	again, err := json.Marshal(f)
	if err != nil {
		return err
	}
	g, err := decodeZone(again, zone)
	if err == nil && !reflect.DeepEqual(f, g) {
		err = fmt.Errorf("%+v became %+v", f, g)
	}
	return err
}

// Checkpoint writes one now and trims the journals, as far as this zone may.
func Checkpoint(ctx context.Context, c *Cache) error { return c.checkpointOn(ctx, true) }

// LookForCheckpoint does what the loop does every minute.
func LookForCheckpoint(ctx context.Context, c *Cache) error { return c.checkpointOn(ctx, false) }

// NotRunning is what who asked just before Run began is told.
func NotRunning(c *Cache) error { return c.notRunning() }
