package cache

import (
	"context"
	"fmt"

	"depotfs/cache/catalog"
)

// Setting returns what was stored under a name, "" where nothing was.
func (c *Cache) Setting(name string) (string, error) { return c.setting(name) }

// PutSettings stores settings, all or none, durably; an empty value removes one.
func (c *Cache) PutSettings(ctx context.Context, values map[string]string) error {
	err := c.cat.Update(func(tx *catalog.Tx) error {
		for name, value := range values {
			var err error
			if value == "" {
				err = tx.DeleteSetting(name)
			} else {
				err = tx.PutSetting(name, []byte(value))
			}
			if err != nil {
				return fmt.Errorf("setting %s: %w", name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.cat.Sync(ctx)
}
