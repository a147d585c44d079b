package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"depotfs/cache/catalog"
)

// ReplaceStore puts s, which is the same depot by other settings (keys, address,
// timeouts, or a copy of the bucket), in the place of the store that is on. First s is
// asked whether it holds this zone's depot, and tried out; then record makes the new
// settings last; then they count. Where any of it fails nothing has changed. Requests that
// are under way end on the former settings or are made again on the new ones (see
// replaceable). What had failed is tried again at once. ErrOff: no store is on.
//
// record gets the new store, and is not called twice.
func (c *Cache) ReplaceStore(ctx context.Context, s Store, info StoreInfo, record func(ctx context.Context, s Store) error) error {
	unlock, err := c.lockSwitch(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	d := c.depot.Load()
	if d == nil {
		return ErrOff
	}
	if err := d.lost(); err != nil {
		return err
	}
	trial, err := c.tryStore(ctx, s, info)
	if err != nil {
		return err
	}
	if err := record(ctx, s); err != nil {
		return err
	}
	if d.renew(s, trial) {
		c.relistWanted.Store(true) // what is there may differ
	}
	c.log.Info("the store has other settings", "bucket", info.Bucket, "endpoint", info.Endpoint, "id", trial.id)
	c.wakeTeller()
	c.zones.wakeUp()
	c.retryFailed()
	c.changed.wake()
	return nil
}

// tryStore joins this zone's depot by a store that is not in use. Where this zone has
// never had one, and there is none, it is made.
func (c *Cache) tryStore(ctx context.Context, s Store, info StoreInfo) (*depot, error) {
	trial := newDepot(s, info, c.depotKey())
	if _, err := readDepotFile(ctx, trial.store, c.cfg.Prefix); errors.Is(err, ErrNotFound) {
		known, err := c.setting(settingDepot)
		if err != nil {
			return nil, err
		}
		if known != "" {
			return nil, fmt.Errorf("bucket and prefix hold no depot (no %s), this zone belongs to %s: name its bucket, or copy it there first: %w", c.depotKey(), known, ErrRejected)
		}
	} else if err != nil {
		return nil, err
	}
	return trial, c.join(ctx, trial)
}

// renew has the depot use s from now on, as the trial found it, as if nothing had failed
// yet. It reports whether that is another server or bucket.
func (d *depot) renew(s Store, trial *depot) (moved bool) {
	d.mu.Lock()
	moved = d.info != trial.info
	d.line.replace(s, moved)
	d.info, d.lease = trial.info, trial.lease
	d.renewals++
	d.failures = 0
	d.mendLocked()
	d.mu.Unlock()
	if moved {
		d.zeros.clear()
	}
	d.learn(trial.id, trial.caps)
	d.news.wake()
	d.renewed.wake()
	return moved
}

// settings numbers the settings that are in force.
func (d *depot) settings() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.renewals
}

// clear forgets all objects: the bucket may be another one.
func (z *zeroObjects) clear() {
	z.mu.Lock()
	defer z.mu.Unlock()
	clear(z.m)
}

// retryFailed has the workers look at once at what waits after a failed attempt. What
// fails at this moment is seen to by workOn and removeOn.
func (c *Cache) retryFailed() {
	now := c.nanos()
	var files []Ino
	var keys []string
	err := c.cat.Update(func(tx *catalog.Tx) error {
		var again []*catalog.QueueItem
		var removals []*catalog.Removal
		files, keys = files[:0], keys[:0]
		if err := tx.EachQueue(func(it *catalog.QueueItem) bool {
			if it.Attempts > 0 && it.NotBefore > now {
				copied := *it
				again = append(again, &copied)
			}
			return len(again) < maxRetried
		}); err != nil {
			return err
		}
		if err := tx.EachRemoval(func(r *catalog.Removal) bool {
			if r.Attempts > 0 && r.NotBefore > now {
				copied := *r
				removals = append(removals, &copied)
			}
			return len(removals) < maxRetried
		}); err != nil {
			return err
		}
		for _, it := range again {
			it.NotBefore, it.Attempts = now, 0
			files = append(files, it.Ino)
			if err := tx.PutQueue(it); err != nil {
				return err
			}
		}
		for _, r := range removals {
			r.NotBefore, r.Attempts = now, 0
			keys = append(keys, r.Key)
			if err := tx.PutRemoval(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.log.Error("try again what has failed", "err", err)
		return
	}
	at := time.Unix(0, now)
	for _, ino := range files {
		c.kick(ino)
	}
	for _, key := range keys {
		c.removals.Add(key, at)
	}
}

// maxRetried bounds one transaction of retryFailed; who is beyond it waits for minutes at
// most.
const maxRetried = 1000
