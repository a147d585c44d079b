package cache

import (
	"context"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// SetOrigin says of a file or directory, and of all below it, which zone made it.
func SetOrigin(c *Cache, path, zone string) error {
	rec, err := c.resolve(context.Background(), path)
	if err != nil {
		return err
	}
	return c.walk(context.Background(), rec, path, func(rec *catalog.Inode, _ string) error {
		_, err := c.change(rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
			r.Origin, r.MadeAt = zone, 1000
			return nil
		})
		return err
	})
}

// HeldHears applies a change record of another zone to the names that are gone here.
func HeldHears(c *Cache, r journal.Record) (hidden bool, err error) { return c.heldHears(r) }

// Relist has the depot listed again when the store is switched on next.
func Relist(c *Cache) error {
	c.listed.Store(false)
	return c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteSetting(settingListed) })
}
