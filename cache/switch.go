package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"depotfs/cache/catalog"
)

// settingDisabled is since when the store is off because a person said so
// (RFC 3339); without it the store is on where one is set.
const settingDisabled = "store-disabled"

// useMark stands for one piece of work on a depot.
type useMark struct{ _ byte }

// use is a context for work on this store: it ends with ctx, and with the cause
// ErrOff when the store is switched off or replaced. The caller must call done.
func (d *depot) use(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		cancel(ErrOff)
		return ctx, func() {}
	}
	mark := &useMark{}
	d.uses[mark] = cancel
	return ctx, func() {
		cancel(nil)
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.uses, mark)
		d.restLocked()
	}
}

// end stops all work on this store. What it has begun to make visible is still
// finished, within moments (see lingering): idle is closed when nothing is left.
func (d *depot) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	for _, cancel := range d.uses {
		cancel(ErrOff)
	}
	d.restLocked()
}

func (d *depot) restLocked() {
	if !d.off || len(d.uses) > 0 {
		return
	}
	select {
	case <-d.idle:
	default:
		close(d.idle)
	}
}

// workOn attends to one inode while d is on. What is stopped when the store is
// switched off is taken once more: by then it is off, or another one.
func (c *Cache) workOn(ctx context.Context, d *depot, j *job) time.Time {
	ctx, done := d.use(ctx)
	defer done()
	if d.admit(ctx) != nil {
		return c.now()
	}
	settings := d.settings()
	retry := c.attend(ctx, d, j)
	if !retry.IsZero() && d.settings() != settings { // what failed, failed on former ones
		return c.now()
	}
	return retry
}

// removeOn deletes one object while d is on; see workOn.
func (c *Cache) removeOn(ctx context.Context, d *depot, key string) time.Time {
	ctx, done := d.use(ctx)
	defer done()
	if d.admit(ctx) != nil {
		return c.now()
	}
	settings := d.settings()
	retry, err := c.removeKey(ctx, d, key)
	switch {
	case err == nil:
		return retry
	case ctx.Err() != nil:
		return c.now()
	}
	if retry = c.removalFailed(key, err); d.settings() != settings {
		return c.now()
	}
	return retry
}

// SetStore switches the store on, or off with nil, for this run. Transfers under
// way on a former store are stopped; what they have achieved is on record, and
// they go on when a store is on again.
func (c *Cache) SetStore(s Store, info StoreInfo) {
	var d *depot
	if s != nil {
		d = newDepot(s, info, c.depotKey())
	}
	c.setDepot(d)
}

// setDepot puts d, or nil, in the place of the former depot and returns that.
func (c *Cache) setDepot(d *depot) *depot {
	old := c.depot.Swap(d)
	if old != nil {
		old.end()
	}
	if d != nil {
		c.problems.clearReason(ErrOff.Error())
	}
	select {
	case c.newDepot <- struct{}{}:
	default:
	}
	c.changed.wake()
	return old
}

// Enable switches the store on for good. With ask, the store is first asked whether
// it is the depot that this zone belongs to, and tried out: where that fails nothing
// is changed. It reports false when the store was on already.
func (c *Cache) Enable(ctx context.Context, s Store, info StoreInfo, ask bool) (bool, error) {
	unlock, err := c.lockSwitch(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if c.depot.Load() != nil {
		return false, nil
	}
	// Requests of the former depot end first: two would not know of each other's
	// locks of keys.
	if last := c.lastDepot; last != nil {
		select {
		case <-last.idle:
		case <-ctx.Done():
			return false, fmt.Errorf("requests from before the store was switched off still end: %w", ctx.Err())
		}
	}
	d := newDepot(s, info, c.depotKey())
	if ask {
		if err := c.join(ctx, d); err != nil {
			return false, err
		}
	}
	if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteSetting(settingDisabled) }); err != nil {
		return false, fmt.Errorf("record that the store is on: %w", err)
	}
	if err := c.cat.Sync(context.WithoutCancel(ctx)); err != nil {
		return false, fmt.Errorf("record that the store is on: %w", err)
	}
	c.setDepot(d)
	c.log.Info("store switched on", "bucket", info.Bucket, "prefix", c.cfg.Prefix)
	return true, nil
}

// Disable switches the store off for good, over restarts, and returns when nothing
// is under way to it any more. It reports false when the store was off already. When
// ctx ends first the store is off all the same.
func (c *Cache) Disable(ctx context.Context) (bool, error) {
	unlock, err := c.lockSwitch(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if c.depot.Load() == nil {
		return false, nil
	}
	// On record first: a crash in between leaves it off, as was asked for.
	if err := c.putSetting(settingDisabled, c.now().UTC().Format(time.RFC3339)); err != nil {
		return false, fmt.Errorf("record that the store is off: %w", err)
	}
	if err := c.cat.Sync(context.WithoutCancel(ctx)); err != nil {
		return false, fmt.Errorf("record that the store is off: %w", err)
	}
	old := c.setDepot(nil)
	c.lastDepot = old
	c.log.Info("store switched off", "bucket", old.named().Bucket, "prefix", c.cfg.Prefix)
	select {
	case <-old.idle:
		return true, nil
	case <-ctx.Done():
		return true, fmt.Errorf("the store is off, requests under way still end: %w", ctx.Err())
	}
}

// lockSwitch lets one caller at a time switch the store on or off.
func (c *Cache) lockSwitch(ctx context.Context) (unlock func(), err error) {
	select {
	case c.switching <- struct{}{}:
		return func() { <-c.switching }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Disabled says since when the store is off because a person said so.
func (c *Cache) Disabled() (since time.Time, yes bool, err error) {
	text, err := c.setting(settingDisabled)
	if err != nil || text == "" {
		return time.Time{}, false, err
	}
	since, err = time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, true, errors.Join(fmt.Errorf("setting %s: %w", settingDisabled, err), catalog.ErrDamaged)
	}
	return since, true, nil
}

// Away is what cannot be read in full while the store is off.
type Away struct {
	Remote  int64 // files of which no byte is here
	Partial int64 // files of which some bytes are here
	Bytes   int64 // sizes of both
	Listed  bool  // all names of the depot are known: there is nothing beyond these
}

// Away counts what is not here.
func (c *Cache) Away() Away {
	t := c.cat.Totals()
	return Away{
		Remote:  t.ByState[Remote],
		Partial: t.ByState[Partial] + t.ByState[PartialDirty],
		Bytes:   t.BytesByState[Remote] + t.BytesByState[Partial] + t.BytesByState[PartialDirty],
		Listed:  c.listed.Load(),
	}
}

// StoreOn says whether a store is on, be it in reach or not.
func (c *Cache) StoreOn() bool { return c.depot.Load() != nil }
