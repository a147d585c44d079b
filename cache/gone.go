package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"time"

	"depotfs/cache/share"
)

// shareLook is how often the share is looked for: what is unmounted or cannot be
// reached is left alone within seconds.
const shareLook = 5 * time.Second

// watchShare looks for the share.
func (c *Cache) watchShare(ctx context.Context) error {
	t := time.NewTicker(min(shareLook, c.cfg.ScanInterval))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		_ = c.checkMarker() // which says in status and log what is wrong
	}
}

// checkMarker makes sure that the share is still the one that we know, and at its
// place. Without its marker an empty directory would pass for a share whose files
// were all removed. While it is gone nothing is changed and nothing is opened; what
// is open goes on, on the files that it has.
func (c *Cache) checkMarker() error {
	c.marker.Lock()
	err := c.shareIsHere()
	c.marker.Unlock()
	if err != nil {
		if !c.gone.Swap(true) {
			c.log.Error("the share is gone: nothing is changed until it is back", "dir", c.cfg.CacheDir, "err", err)
		}
		c.problems.add("share", share.MarkerPath, err.Error()+": nothing is changed until it is back", c.now())
		return fmt.Errorf("%w (%v)", ErrMarker, err)
	}
	if c.gone.Load() {
		c.shareIsBack()
	}
	return nil
}

// shareIsHere says why the share cannot be used.
func (c *Cache) shareIsHere() error {
	inPlace, err := c.share.InPlace()
	if err != nil {
		return fmt.Errorf("the share cannot be reached (%w)", err)
	}
	if !inPlace {
		return c.mountedAgain()
	}
	return c.hasMarker(c.share)
}

// hasMarker says why a directory is not the share that we know.
func (c *Cache) hasMarker(s *share.Share) error {
	m, err := share.ReadMarker(s)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return fmt.Errorf("the share is not mounted (%s has no %s)", c.cfg.CacheDir, share.MarkerPath)
	case err != nil:
		return fmt.Errorf("the share cannot be read (%w)", err)
	case m.ShareID != c.shareID:
		return fmt.Errorf("another share is mounted (%s is share %s, this zone's is %s)", c.cfg.CacheDir, m.ShareID, c.shareID)
	}
	return nil
}

// mountedAgain is called when the path of the share leads to another directory than
// the one that we hold: where that is the same share, mounted again, it is used.
func (c *Cache) mountedAgain() error {
	s, err := share.Open(c.cfg.CacheDir, share.Options{Log: c.log, Fault: c.cfg.ShareFault})
	if err != nil {
		return fmt.Errorf("the share cannot be reached (%w)", err)
	}
	if err := c.hasMarker(s); err != nil {
		return errors.Join(err, s.Close())
	}
	// The lock is the server's or the file system's: ours may be on what was unmounted.
	if err := c.lock.Close(); err != nil {
		c.log.Warn("give back the lock of the share as it was mounted before", "err", err)
	}
	lock, err := s.Lock(share.LockPath)
	if err != nil {
		return errors.Join(fmt.Errorf("lock the share (%w)", err), s.Close())
	}
	c.lock = lock
	if err := c.share.Become(s); err != nil {
		return err
	}
	c.log.Info("the share was mounted again", "dir", c.cfg.CacheDir)
	c.dirSeen.Clear()
	return nil
}

// shareIsBack takes up again what waited.
func (c *Cache) shareIsBack() {
	c.dirSeen.Clear() // others may have worked on it
	c.scans.mu.Lock()
	clear(c.scans.missing)
	c.scans.mu.Unlock()
	c.gone.Store(false)
	c.problems.clear("share", share.MarkerPath)
	c.log.Info("the share is back", "dir", c.cfg.CacheDir)
	if c.depot.Load() != nil {
		c.loadQueue()
	}
	c.changed.wake()
}
