package cache

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"depotfs/cache/catalog"
)

// What counts for a path is what was made of it last, and zones have clocks of their own. So
// what a zone does after it has heard of something is later than that, whatever its clock says
// (a hybrid logical clock, Kulkarni et al. 2014): else it would take effect before it, in the
// zones that hear of both in order.

const (
	// maxLead is how far ahead of our clock another zone's may be for us to follow it. One
	// that is further off is broken, and would take all zones with it.
	maxLead = int64(time.Hour)
	// leadMargin is how far ahead of what was heard the setting is: so it is rarely written.
	leadMargin = int64(10 * time.Second)
	// settingLatest is the latest time heard of, in ns by the store's clock, where it is ahead
	// of ours: a restart must not forget it.
	settingLatest = "clock-latest"
)

// learnTime notes a time by the store's clock at which something was done that this zone knows of.
func (c *Cache) learnTime(at int64) {
	if at > c.storeNanos()+maxLead {
		return
	}
	for {
		was := c.latest.Load()
		if at <= was || c.latest.CompareAndSwap(was, at) {
			return
		}
	}
}

// keepLatest has a restart know what was heard, where our clock would not be later by itself.
func (c *Cache) keepLatest() error {
	at := c.latest.Load()
	if at <= c.storeNanos() || at <= c.latestKept.Load() {
		return nil
	}
	at += leadMargin
	if err := c.putSetting(settingLatest, strconv.FormatInt(at, 10)); err != nil {
		return err
	}
	c.latestKept.Store(at)
	return nil
}

// loadLatest reads what keepLatest has kept.
func (c *Cache) loadLatest() error {
	text, err := c.setting(settingLatest)
	if err != nil || text == "" {
		return err
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return errors.Join(fmt.Errorf("setting %s: %w", settingLatest, err), catalog.ErrDamaged)
	}
	c.latestKept.Store(at)
	c.learnTime(at)
	return nil
}

// eventNanos is the time, by the store's clock, of what this zone does now.
func (c *Cache) eventNanos() int64 { return max(c.storeNanos(), c.latest.Load()+1) }

// noteFinished notes that a writer has left a file, or a user has changed something, at a
// time by our clock.
func (c *Cache) noteFinished(r *catalog.Inode, at int64) {
	r.FinishedAt, r.KnownAt = at, 0
	if known := c.latest.Load(); known >= at+c.skew.Load() {
		r.KnownAt = known + 1
	}
}

// finishedAt is when this zone has finished what the depot lacks of r, by the store's clock.
func (c *Cache) finishedAt(r *catalog.Inode) int64 { return c.whenDone(r, r.FinishedAt) }

// whenDone is the time by the store's clock of what was done to r at a time by ours.
func (c *Cache) whenDone(r *catalog.Inode, at int64) int64 { return max(at+c.skew.Load(), r.KnownAt) }
