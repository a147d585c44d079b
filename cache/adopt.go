package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// adopt takes a file that others made in the share into the catalog. Its
// directory is locked exclusively and the catalog does not have the name. What
// the clean log proves to be the depot's version is clean; the rest is dirty and
// compared with the depot before it is uploaded.
func (c *Cache) adopt(d lockedDir, name string, st share.Stat) (*catalog.Inode, error) {
	if hidden(d.rec.Ino, name) || sillyRenamed(name) {
		return nil, iofs.ErrNotExist
	}
	path := join(d.path, name)
	rec, err := c.found(d, name, path, st)
	if err != nil {
		return nil, err
	}
	if err := c.addName(d, rec, path, st); err != nil {
		return nil, fmt.Errorf("adopt %q: %w", path, err)
	}
	c.moves.arrive(rec)
	c.log.Debug("adopted", "path", path, "size", st.Size)
	c.kickRec(rec)
	return rec, nil
}

// wasOn says whether this zone ever belonged to a depot.
func (c *Cache) wasOn() bool {
	id, err := c.setting(settingDepot)
	return err == nil && id != ""
}

// sillyRenamed says whether a name is an NFS client's stand-in for a file that it
// has open and that was unlinked: it goes away by itself.
func sillyRenamed(name string) bool { return strings.HasPrefix(name, ".nfs") && len(name) > 12 }

// adoptTree walks a share that depotfs has not known before, so that what is in
// it reaches the depot without anybody looking at it.
func (c *Cache) adoptTree(ctx context.Context) error {
	dirs := []Ino{catalog.Root}
	for len(dirs) > 0 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		rec, err := c.record(dir)
		if err == nil {
			err = c.agree(rec)
		}
		if err != nil && !errors.Is(err, ErrStale) {
			c.log.Warn("look through the share", "dir", dir, "err", err)
			continue
		}
		for cookie := uint64(0); ; {
			n := 0
			if err := c.ReadDir(ctx, dir, cookie, func(e DirEntry) bool {
				if e.Type == syscall.S_IFDIR {
					dirs = append(dirs, e.Ino)
				}
				cookie = e.Cookie
				n++
				return n < 1000
			}); err != nil || n == 0 {
				break
			}
		}
	}
	c.log.Info("share looked through")
	return nil
}
