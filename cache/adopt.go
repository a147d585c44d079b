package cache

import (
	"fmt"
	iofs "io/fs"
	"strings"

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
	c.entryChanged(d.rec.Ino, name)
	c.adoption.counted(st)
	c.moves.arrive(rec)
	c.log.Debug("adopted", "path", path, "size", st.Size)
	c.kickRec(rec)
	return rec, nil
}

// sillyRenamed says whether a name is an NFS client's stand-in for a file that it
// has open and that was unlinked: it goes away by itself.
func sillyRenamed(name string) bool { return strings.HasPrefix(name, ".nfs") && len(name) > 12 }
