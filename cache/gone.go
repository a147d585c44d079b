package cache

import (
	"errors"
	iofs "io/fs"

	"depotfs/cache/share"
)

// checkMarker makes sure that the share is still the one that we know. Without
// it an empty directory would pass for a share whose files were all removed.
func (c *Cache) checkMarker() error {
	m, err := share.ReadMarker(c.share)
	known, serr := c.setting(settingShare)
	if serr != nil {
		return serr
	}
	switch {
	case errors.Is(err, iofs.ErrNotExist), err == nil && m.ShareID != known:
		c.gone.Store(true)
		c.problems.add("share", share.MarkerPath, "the share is not mounted, or is another one: nothing is changed until it is back", c.now())
		return ErrMarker
	case err != nil:
		return err
	}
	if c.gone.Swap(false) {
		c.problems.clear("share", share.MarkerPath)
		c.log.Info("the share is back")
	}
	return nil
}
