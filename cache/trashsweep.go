package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

const (
	// firstSweep leaves a mount alone with what it has to do first.
	firstSweep = time.Minute
	// fullSweeps: every so many sweeps look at all that is kept, and count it. The others
	// end where the trash is young enough, since its keys sort by time.
	fullSweeps = 4
	// strangerRetention is for how long at least a zone leaves alone what others deleted:
	// their settings are not known here. It is for zones that do not sweep any more.
	strangerRetention = 90 * 24 * time.Hour
	// sweepers is how many deletes are under way at once.
	sweepers = 8
)

// sweepLoop removes from trash and conflicts what was kept for long enough.
func (c *Cache) sweepLoop(ctx context.Context) error {
	timer := time.NewTimer(firstSweep)
	defer timer.Stop()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-c.trash.swept:
		}
		if d := c.depot.Load(); d != nil && d.joined() {
			if err := c.sweep(ctx, d, n%fullSweeps == 0); err == nil {
				n++
			} else if ctx.Err() == nil {
				c.log.Warn("sweep trash and conflicts", "err", err)
			}
		}
		timer.Reset(jitter(c.sweepEvery(n)))
	}
}

// sweepEvery is how long to wait: a part of the retention, so that it is kept nearly.
func (c *Cache) sweepEvery(done int) time.Duration {
	if done == 0 {
		return firstSweep
	}
	const least = 10 * time.Second
	if r := c.TrashRetention(); r > 0 {
		return min(max(r/8, least), sweepInterval)
	}
	return sweepInterval
}

func (c *Cache) sweep(ctx context.Context, d *depot, full bool) error {
	ctx, done := d.use(ctx)
	defer done()
	// What is too old the store's clock says, not ours, which may be wrong by days.
	info, err := d.store.Head(ctx, c.depotKey())
	d.report(err)
	if err != nil {
		return err
	}
	now := info.Date
	if now.IsZero() {
		now = c.now().Add(d.skew())
	}
	err = c.sweepTrash(ctx, d, now, full)
	if full {
		err = errors.Join(err, c.sweepShareConflicts(), c.sweepConflicts(ctx, d, now))
	}
	return err
}

// errEnough ends a listing.
var errEnough = errors.New("enough")

// sweepTrash deletes what was in the trash for long enough. The age counts from when the
// copy came there: a zone whose clock was wrong, or whose store was down for long, has
// the time that it was promised.
func (c *Cache) sweepTrash(ctx context.Context, d *depot, now time.Time, full bool) error {
	own, strangers := c.TrashRetention(), max(c.TrashRetention(), strangerRetention)
	var found HeldStatus
	var swept int
	err := d.store.List(ctx, ListQuery{Prefix: c.trashRoot()}, func(p ListPage) error {
		var old []string
		enough := false
		for _, o := range p.Objects {
			stamp, rest, _ := strings.Cut(strings.TrimPrefix(o.Key, c.trashRoot()), "/")
			at, err := time.Parse(keyTime, stamp)
			if enough = err == nil && !full && now.Sub(at) < own; enough {
				break
			}
			zone, _, _ := strings.Cut(rest, "/")
			limit := strangers
			if zone == c.zoneName() {
				limit = own
			}
			owned, err := c.owned(o.Key) // it is being brought back
			if err != nil {
				return err
			}
			if now.Sub(o.Modified) >= limit && !owned {
				old = append(old, o.Key)
				continue
			}
			if !c.isCompanion(o.Key) {
				found.Entries++
				found.Bytes += o.Size
			}
		}
		if err := c.deleteAll(ctx, d, old); err != nil {
			return err
		}
		if swept += len(old); enough {
			return errEnough
		}
		return ctx.Err()
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	d.report(err)
	if err != nil {
		return fmt.Errorf("sweep the trash: %w", err)
	}
	if swept > 0 {
		c.log.Info("deleted versions were kept for long enough and are gone", "objects", swept, "retention", own)
	}
	if full {
		c.trash.counted(&c.trash.trash, found, c.now())
	}
	return nil
}

// owned says whether a key has an object of a file.
func (c *Cache) owned(key string) (bool, error) {
	err := c.cat.View(func(tx *catalog.Tx) error {
		_, err := tx.KeyOwner(key)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// isCompanion says whether a key of trash or conflicts is that of an object which only
// has another one's path.
func (c *Cache) isCompanion(key string) bool {
	name, ok := strings.CutSuffix(key, ".path")
	return ok && c.isHashed(name)
}

// deleteAll deletes objects, several at a time.
func (c *Cache) deleteAll(ctx context.Context, d *depot, keys []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sweepers)
	for _, key := range keys {
		g.Go(func() error {
			err := d.store.Delete(ctx, key, "")
			d.report(err)
			if err != nil {
				return fmt.Errorf("delete %s: %w", key, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// deleteKept deletes entries of trash or conflicts with all that belongs to them.
func (c *Cache) deleteKept(ctx context.Context, d *depot, keys []string) error {
	all := slices.Clone(keys)
	for _, key := range keys {
		if c.isHashed(key) {
			all = append(all, layout.PathKey(key))
		}
	}
	return c.deleteAll(ctx, d, all)
}

// TrashPick says which entries of the trash are meant.
type TrashPick struct {
	Entries   []string      // by their names
	Paths     []string      // that were deleted
	OlderThan time.Duration // purge: deleted for at least so long; 0: since whenever
	To        string        // restore: the path to bring it back to; "" = where it was
}

// Purged is what TrashPurge deletes, or would.
type Purged struct {
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// TrashPurge deletes entries for good: those named, those at paths and below them, or all
// where neither is given. With dry it only says how much that would be.
func (c *Cache) TrashPurge(ctx context.Context, pick TrashPick, dry bool) (Purged, []NotDone, error) {
	var sum Purged
	d, done, err := c.using(ctx, "purge the trash")
	if err != nil {
		return sum, nil, err
	}
	defer done()
	all, err := c.trashAt(d.ctx, d.depot, nil)
	if err != nil {
		return sum, nil, err
	}
	every := len(pick.Entries) == 0 && len(pick.Paths) == 0
	before := c.storeNanos() - int64(pick.OlderThan)
	named := map[string]bool{}
	for _, name := range pick.Entries {
		named[name] = true
	}
	var keys []string
	for _, e := range all {
		asked := named[e.Entry]
		delete(named, e.Entry)
		asked = asked || every || slices.ContainsFunc(pick.Paths, func(p string) bool { return atOrBelow(e.Path, p) })
		if !asked || pick.OlderThan > 0 && e.Deleted.UnixNano() > before {
			continue
		}
		if busy, err := c.owned(e.key); busy || err != nil {
			if err != nil {
				return sum, nil, err
			}
			continue
		}
		keys = append(keys, e.key)
		sum.Entries++
		sum.Bytes += e.Size
	}
	var left []NotDone
	for _, name := range pick.Entries {
		if named[name] {
			left = append(left, NotDone{Path: name, Reason: noSuchEntry})
		}
	}
	if dry {
		return sum, left, nil
	}
	if err := c.deleteKept(d.ctx, d.depot, keys); err != nil {
		return sum, left, fmt.Errorf("purge the trash: %w", err)
	}
	c.trash.held(-sum.Entries, -sum.Bytes)
	if sum.Entries > 0 {
		c.log.Info("deleted versions were purged", "entries", sum.Entries, "bytes", sum.Bytes)
	}
	return sum, left, nil
}

// noSuchEntry is the answer for names that the trash does not have.
const noSuchEntry = "the trash has no such entry: see depotfs trash list"
