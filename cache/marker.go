package cache

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	iofs "io/fs"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

const settingShare = "share-id"

// preparePrivate makes .depotfs and its folders, unless the marker says that this
// is a share that a newer depotfs owns.
func (c *Cache) preparePrivate() error {
	if _, err := share.ReadMarker(c.share); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("cache directory %s: %w", c.cfg.CacheDir, err)
	}
	if err := c.share.MakePrivate(); err != nil {
		return fmt.Errorf("prepare %s in cache directory %s (is it writable?): %w", share.Private, c.cfg.CacheDir, err)
	}
	return nil
}

func (c *Cache) readMarker() (share.Marker, error) {
	m, err := share.ReadMarker(c.share)
	if errors.Is(err, iofs.ErrNotExist) {
		return share.Marker{}, nil
	}
	return m, err
}

// matchMarker refuses a share that is not the one that the catalog knows: most
// likely it is not mounted, and its empty mount point must not pass for a share
// whose files were all deleted.
func (c *Cache) matchMarker(m share.Marker) error {
	known, err := c.setting(settingShare)
	if err != nil {
		return err
	}
	switch {
	case known != "" && m.ShareID == "":
		return fmt.Errorf("%s/%s is missing: is the share mounted? (state directory %s belongs to share %s): %w",
			c.cfg.CacheDir, share.MarkerPath, c.cfg.StateDir, known, ErrMarker)
	case known != "" && m.ShareID != known:
		return fmt.Errorf("%s is share %s, but state directory %s belongs to share %s: %w",
			c.cfg.CacheDir, m.ShareID, c.cfg.StateDir, known, ErrMarker)
	}
	if m.ShareID == "" {
		var id [16]byte
		rand.Read(id[:])
		m.ShareID = hex.EncodeToString(id[:])
	}
	c.marker.Lock()
	defer c.marker.Unlock()
	m.Zone = c.zoneName()
	if cur, err := share.ReadMarker(c.share); err == nil { // opening the catalog may have raised it
		m.InoHighWater = max(m.InoHighWater, cur.InoHighWater)
	}
	if err := share.WriteMarker(c.share, m); err != nil {
		return fmt.Errorf("mark the cache directory as ours: %w", err)
	}
	c.shareID = m.ShareID
	if known != "" {
		return nil
	}
	if err := c.putSetting(settingShare, m.ShareID); err != nil {
		return err
	}
	return c.syncCatalog()
}

// raiseHighWater keeps the highest inode number in the share, so that numbers are
// not used again after the state directory was lost. The catalog calls it.
func (c *Cache) raiseHighWater(upTo Ino) error {
	c.marker.Lock()
	defer c.marker.Unlock()
	m, err := c.readMarker()
	if err != nil {
		return err
	}
	if c.shareID != "" && m.ShareID != c.shareID { // no marker: never make a new one for a share that is gone
		return fmt.Errorf("raise the inode number in %s: %w", share.MarkerPath, ErrMarker)
	}
	if m.InoHighWater >= uint64(upTo) {
		return nil
	}
	m.InoHighWater = uint64(upTo)
	return share.WriteMarker(c.share, m)
}

// rememberDepot ties zone and share to a depot, for good.
func (c *Cache) rememberDepot(id string) error {
	c.marker.Lock()
	defer c.marker.Unlock()
	m, err := c.readMarker()
	if err != nil {
		return err
	}
	if m.ShareID != c.shareID {
		return fmt.Errorf("note the depot in %s: %w", share.MarkerPath, ErrMarker)
	}
	if m.DepotID != "" && m.DepotID != id {
		return fmt.Errorf("the cache directory belongs to the depot %s, bucket and prefix hold %s: %w", m.DepotID, id, ErrRejected)
	}
	if m.DepotID == "" {
		m.DepotID = id
		if err := share.WriteMarker(c.share, m); err != nil {
			return err
		}
	}
	if err := c.putSetting(settingDepot, id); err != nil {
		return err
	}
	c.told.Store(true)
	return c.syncCatalog()
}

// ensureRoot makes or refreshes the record of the root directory.
func (c *Cache) ensureRoot() error {
	st, err := c.share.Stat("")
	if err != nil {
		return err
	}
	return c.cat.Update(func(tx *catalog.Tx) error {
		rec, err := tx.Inode(catalog.Root)
		if errors.Is(err, catalog.ErrNotFound) {
			rec = &catalog.Inode{Ino: catalog.Root, Nlink: 2, Flags: catalog.FlagHere}
		} else if err != nil {
			return err
		}
		rec.Flags |= catalog.FlagHere
		rec.Mode, rec.UID, rec.GID = st.Mode, st.UID, st.GID
		rec.Size, rec.Blocks = st.Size, st.Blocks
		rec.Atime, rec.Mtime, rec.Ctime = st.Atime, st.Mtime, st.Ctime
		return tx.PutInode(rec)
	})
}
