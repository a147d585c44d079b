package cache

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"depotfs/cache/catalog"
)

// brakeState is the live side of the brake; all that counts is in the catalog.
type brakeState struct {
	wake chan struct{} // a burst began, or the store is on
}

func (b *brakeState) init() { b.wake = make(chan struct{}, 1) }

func (b *brakeState) wakeUp() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// brakeTick is how often deletes that turned out to be no burst are forgotten, and a
// take-back that failed is tried again.
const brakeTick = 30 * time.Second

// brakeLoop makes of the first deletes of a burst, which the other zones were told of
// before there was one, deletes that are held like the others.
func (c *Cache) brakeLoop(ctx context.Context) error {
	tick := time.NewTicker(brakeTick)
	defer tick.Stop()
	said := map[uint64]bool{}
	for {
		if err := c.tendBrake(ctx, said); err != nil && ctx.Err() == nil {
			c.log.Error("look after held deletes", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-c.brake.wake:
		}
	}
}

// tendBrake does what is to be done now; said has the bursts that the log has.
func (c *Cache) tendBrake(ctx context.Context, said map[uint64]bool) error {
	bursts, err := c.bursts()
	for id, b := range bursts {
		if b.Reach == 0 || err != nil {
			continue
		}
		if err = c.reachBack(id, b.Reach); err == nil {
			bursts, err = c.bursts() // with what was found
		}
	}
	if err != nil {
		return fmt.Errorf("hold the first deletes of a burst: %w", err)
	}
	for id, b := range bursts {
		if id == 0 || said[id] {
			continue
		}
		said[id] = true
		level := slog.LevelError
		if b.Since < c.since.UnixNano() { // said when it began
			level = slog.LevelWarn
		}
		c.log.Log(ctx, level, "deletes of what other zones made are held", "first", b.First, "reason", b.text())
	}
	if err := c.forgetTold(); err != nil {
		return fmt.Errorf("forget deletes that were no burst: %w", err)
	}
	return c.takeAllBack(ctx)
}

// bursts reads what is on record of bursts. Who woke us may be within its transaction still:
// an Update waits for it.
func (c *Cache) bursts() (map[uint64]burst, error) {
	all := map[uint64]burst{}
	return all, c.cat.Update(func(tx *catalog.Tx) error {
		return eachBurst(tx, func(id uint64, b burst) { all[id] = b })
	})
}

// reachBack makes the deletes since a time, which were told, part of a burst.
func (c *Cache) reachBack(id uint64, since int64) error {
	for done := false; !done; {
		if err := c.cat.Update(func(tx *catalog.Tx) error {
			found, err := heldPage(tx, "", "", func(h *catalog.HeldDelete) bool { return h.Kind == catalog.DeleteTold && h.Time >= since })
			if err != nil {
				return err
			}
			for _, h := range found {
				now, err := inodeAt(tx, h.Path)
				if err == nil && now != nil { // made again meanwhile, here or by others
					err = c.dropHeld(tx, h.Path)
				} else if err == nil {
					h.Kind, h.Burst, h.Told = catalog.DeleteHeld, id, true
					err = c.putHeld(tx, h)
				}
				if err != nil {
					return err
				}
			}
			if done = len(found) < heldBatch; !done {
				return nil
			}
			b, err := getBurst(tx, id)
			if err != nil {
				return err
			}
			b.Reach = 0
			return b.put(tx, id)
		}); err != nil {
			return err
		}
	}
	return nil
}

// heldBatch is how many records one transaction takes: of any length, they fit.
const heldBatch = 200

// heldPage collects records below a path ("" = all) that come after another and that fit.
func heldPage(tx *catalog.Tx, prefix, after string, fits func(*catalog.HeldDelete) bool) (page []*catalog.HeldDelete, err error) {
	err = tx.EachHeldDelete(prefix, after, func(h *catalog.HeldDelete) bool {
		if fits(h) {
			page = append(page, h)
		}
		return len(page) < heldBatch
	})
	return page, err
}

// forgetTold drops what was kept of deletes that are no part of a burst any more.
func (c *Cache) forgetTold() error {
	for {
		n := 0
		if err := c.cat.Update(func(tx *catalog.Tx) error {
			old := c.nanos() - int64(c.cfg.Brake.Window)
			page, err := heldPage(tx, "", "", func(h *catalog.HeldDelete) bool { return h.Kind == catalog.DeleteTold && h.Time < old })
			if err != nil {
				return err
			}
			n = len(page)
			for _, h := range page {
				if err := c.dropHeld(tx, h.Path); err != nil {
					return err
				}
			}
			return nil
		}); err != nil || n < heldBatch {
			return err
		}
	}
}
