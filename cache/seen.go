package cache

import (
	"errors"
	"fmt"

	"depotfs/cache/journal"
)

// Batches come in causal order: what a zone did knowing of other zones' batches is applied
// after those. Each batch says which its zone had heard before (journal.Header.Seen). They are
// in the depot, so who waits for them can read them.

// errTooEarly: a batch waits for one of another zone.
var errTooEarly = errors.New("it was made by a zone that had heard more than this one")

// seen is which batches this zone may know of: also one that it has begun to apply.
func (c *Cache) seen() (map[string]uint64, error) {
	all := map[string]uint64{}
	for _, e := range c.otherZones() {
		seq, err := c.cursor(e.Name)
		if err != nil {
			return nil, err
		}
		if began, ok := c.listening.began.Load(e.Name); ok {
			seq = max(seq, began.(uint64))
		}
		if seq > 0 && len(all) < journal.MaxSeen {
			all[e.Name] = seq
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// tooEarly is errTooEarly while a batch of a zone, which had seen others, has to wait. It
// does not for ever: the journal of a zone that was removed may be gone. (A journal that cannot
// be read shows in status by itself.)
func (c *Cache) tooEarly(zone string, seen map[string]uint64) error {
	for other, seq := range seen {
		if other == zone || other == c.zoneName() {
			continue
		}
		cursor, err := c.cursor(other)
		if err != nil {
			return err
		}
		if cursor >= seq {
			continue
		}
		if !c.knowsZone(other) {
			c.listening.stranger.Store(true)
		}
		since, ok := c.listening.early[zone]
		if !ok {
			since = c.now()
			c.listening.early[zone] = since
		}
		if c.now().Sub(since) < missedBatch {
			return fmt.Errorf("batch %d of zone %s comes first: %w", seq, other, errTooEarly)
		}
		c.log.Warn("a batch is applied before what its zone had heard, which cannot be read", "zone", zone, "other", other, "batch", seq)
	}
	delete(c.listening.early, zone)
	return nil
}
