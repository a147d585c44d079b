package cache

import (
	"context"
	"fmt"
	"strings"
	"time"

	"depotfs/cache/journal"
)

const (
	// journalAge is for how long a zone that is not mounted holds the journals back. It is
	// less than tombstoneAge: who comes back later has all deletes from a checkpoint.
	journalAge = 30 * 24 * time.Hour
	// checkpointsKept is how many checkpoints stay: who reads one has it to the end.
	checkpointsKept = 2
	// brokenCheckpoint is how old the pages must be of one that was not completed.
	brokenCheckpoint = 24 * time.Hour
)

// trim removes the batches that a checkpoint has and that all registered zones have applied,
// and the checkpoints before it. The last batch of a journal stays: it says how its zone
// goes on counting. Each step may be the last, and the next trim goes on.
func (c *Cache) trim(ctx context.Context, d *depot, number uint64, x journal.Index) error {
	if err := c.trimCheckpoints(ctx, d, number); err != nil {
		return err
	}
	// What a zone has applied its registration says. All are read now: one that is not known
	// here holds everything back, by not being read.
	if err := c.lookAtZones(ctx, d, maxZones, false); err != nil {
		return err
	}
	others := c.otherZones()
	if len(others) >= maxZones {
		return fmt.Errorf("trim the journals: there are more than %d zones, or as many", maxZones)
	}
	now := c.zoneTime(time.Time{})
	registered := map[string]bool{c.zoneName(): true}
	for _, e := range others {
		registered[e.Name] = true
	}
	passed := func(zone string) uint64 {
		n := x.Cursors[zone]
		if !registered[zone] {
			return n // nobody reads it; who has its name again is heard from the checkpoint on
		}
		for _, e := range others {
			if e.Name != zone && e.holdsBack(now) {
				n = min(n, e.file.file.Cursors[zone])
			}
		}
		return n
	}
	removed := 0
	until := map[string]uint64{}
	last := ""
	err := d.store.List(ctx, ListQuery{Prefix: journal.Root(c.cfg.Prefix)}, func(p ListPage) error {
		for _, o := range p.Objects {
			key := last
			last = o.Key
			// One behind the other: the last of a journal is never the one before.
			zone, seq, ok := journal.ParseKey(c.cfg.Prefix, key)
			if next, _, same := journal.ParseKey(c.cfg.Prefix, o.Key); !ok || !same || next != zone {
				continue
			}
			limit, known := until[zone]
			if !known {
				limit = passed(zone)
				until[zone] = limit
			}
			if seq > limit {
				continue
			}
			if err := d.store.Delete(ctx, key, ""); err != nil {
				return fmt.Errorf("remove %s: %w", key, err)
			}
			removed++
		}
		return nil
	})
	d.report(err)
	if removed > 0 {
		c.log.Info("journals trimmed", "batches", removed)
	}
	return err
}

// holdsBack says whether nothing may be removed that a zone has not applied.
func (e *zoneEntry) holdsBack(now time.Time) bool {
	if e.file.err == nil && e.file.etag != "" && e.State == zoneRemoved {
		return false
	}
	return now.Before(e.Seen.Add(journalAge))
}

// trimCheckpoints removes all checkpoints but the last ones, up to that with a number; the
// index goes first, so that nobody begins to read what is not whole.
func (c *Cache) trimCheckpoints(ctx context.Context, d *depot, number uint64) error {
	var numbers []uint64
	pages := map[uint64][]string{}
	whole := map[uint64]bool{}
	young := map[uint64]bool{}
	now := c.zoneTime(time.Time{})
	err := d.store.List(ctx, ListQuery{Prefix: journal.CheckpointRoot(c.cfg.Prefix)}, func(p ListPage) error {
		for _, o := range p.Objects {
			n, page, ok := journal.ParseCheckpointKey(c.cfg.Prefix, o.Key)
			if !ok || n > number {
				continue
			}
			if len(pages[n]) == 0 {
				numbers = append(numbers, n)
			}
			whole[n] = whole[n] || page == 0
			young[n] = young[n] || now.Sub(o.Modified) < brokenCheckpoint
			pages[n] = append(pages[n], strings.Clone(o.Key))
		}
		return nil
	})
	d.report(err)
	if err != nil {
		return fmt.Errorf("list the checkpoints: %w", err)
	}
	kept := 0
	for i := len(numbers) - 1; i >= 0; i-- {
		n := numbers[i]
		if whole[n] {
			if kept++; kept <= checkpointsKept {
				continue
			}
		} else if young[n] {
			continue // it may still be written
		}
		if err := d.store.Delete(ctx, journal.IndexKey(c.cfg.Prefix, n), ""); err != nil {
			return fmt.Errorf("remove checkpoint %d: %w", n, err)
		}
		for _, key := range pages[n] {
			if err := d.store.Delete(ctx, key, ""); err != nil {
				return fmt.Errorf("remove checkpoint %d: %w", n, err)
			}
		}
	}
	return nil
}
