package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"time"

	"depotfs/cache/share"
)

const (
	// conflictRetention is for how long the losers of conflicts are kept.
	conflictRetention = 30 * 24 * time.Hour
	// maxConflicts bounds how many are kept: more come from something that goes wrong over
	// and over again.
	maxConflicts = 10_000
)

// aged is something that is kept and when it came.
type aged struct {
	key  string
	at   time.Time
	size int64
}

// tooMany splits what is kept, whose order is lost, into what stays and what goes: what
// is too old, and the oldest of what is too much.
func tooMany(all []aged, now time.Time, limit int) (stays, goes []aged, over int) {
	slices.SortFunc(all, func(a, b aged) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.key, b.key)) })
	old := slices.IndexFunc(all, func(a aged) bool { return now.Sub(a.at) < conflictRetention })
	if old < 0 {
		old = len(all)
	}
	over = max(0, len(all)-old-limit)
	return all[old+over:], all[:old+over], over
}

// sweepConflicts deletes what was kept in the depot for long enough, by any zone.
func (c *Cache) sweepConflicts(ctx context.Context, d *depot, now time.Time) error {
	var all []aged
	err := d.store.List(ctx, ListQuery{Prefix: c.conflictRoot()}, func(p ListPage) error {
		for _, o := range p.Objects {
			if c.isCompanion(o.Key) {
				continue // goes with its object
			}
			all = append(all, aged{o.Key, o.Modified, o.Size})
		}
		return ctx.Err()
	})
	d.report(err)
	if err != nil {
		return fmt.Errorf("sweep conflicts: %w", err)
	}
	stays, goes, over := tooMany(all, now, maxConflicts)
	keys := make([]string, 0, len(goes))
	for _, a := range goes {
		keys = append(keys, a.key)
	}
	if err := c.deleteKept(ctx, d, keys); err != nil {
		return fmt.Errorf("sweep conflicts: %w", err)
	}
	c.tellSwept("depot", len(goes), over)
	found := HeldStatus{Entries: int64(len(stays))}
	for _, a := range stays {
		found.Bytes += a.size
	}
	here, err := c.shareConflicts()
	if err != nil {
		return err
	}
	for _, e := range here {
		found.Entries++
		found.Bytes += e.Size
	}
	c.trash.counted(&c.trash.conflict, found, c.now())
	return nil
}

func (c *Cache) tellSwept(where string, n, over int) {
	if over > 0 {
		c.log.Warn("too many conflicts are kept: the oldest are gone", "where", where, "gone", over, "kept", maxConflicts)
	}
	if n > over {
		c.log.Info("losers of conflicts were kept for long enough and are gone", "where", where, "files", n-over, "retention", conflictRetention)
	}
}

// sweepShareConflicts does the same in the share, by the share's clock.
func (c *Cache) sweepShareConflicts() error {
	if c.gone.Load() {
		return nil
	}
	var all []aged
	err := c.share.ReadDir(share.ConflictDir, func(stamp string, _ uint64, _ uint32) error {
		st, err := c.share.Stat(share.ConflictDir + "/" + stamp)
		if errors.Is(err, iofs.ErrNotExist) {
			return nil
		}
		all = append(all, aged{key: stamp, at: time.Unix(0, st.Mtime)})
		return err
	})
	if errors.Is(notThere(err), iofs.ErrNotExist) || err == nil && len(all) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep conflicts in the cache directory: %w", err)
	}
	now, err := c.share.Now()
	if err != nil {
		return fmt.Errorf("sweep conflicts in the cache directory: %w", err)
	}
	_, goes, over := tooMany(all, time.Unix(0, now), maxConflicts)
	for _, a := range goes {
		if err := c.share.RemoveAll(share.ConflictDir + "/" + a.key); err != nil {
			return fmt.Errorf("sweep conflicts in the cache directory: %w", err)
		}
	}
	c.tellSwept("cache directory", len(goes), over)
	return nil
}
