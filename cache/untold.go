package cache

import (
	"errors"

	"depotfs/cache/catalog"
)

// What the depot does not have yet no other zone knows of, and its renames are none of theirs.
// But what it was renamed over they have, until they hear of it as the next version of that name:
// so that they are told if it leaves the name before (FlagReplaces).

// renamedUntold notes a rename of a file that no other zone knows of, at a time. It is another
// one than what was deleted under its new name before, however old its bytes are.
func (c *Cache) renamedUntold(tx *catalog.Tx, m *move, at int64) error {
	src, err := inode(tx, m.src.Ino)
	if err != nil {
		return err
	}
	if m.exchange { // the flag is the name's
		dst, err := inode(tx, m.dst.Ino)
		if err != nil {
			return err
		}
		both := (src.Flags ^ dst.Flags) & catalog.FlagReplaces
		src.Flags, dst.Flags = src.Flags^both, dst.Flags^both
		if err := tx.PutInode(dst); err != nil {
			return err
		}
	} else {
		if src.Flags&catalog.FlagReplaces != 0 {
			if err := c.announceGone(tx, src, m.oldPath, nil); err != nil {
				return err
			}
			src.Flags &^= catalog.FlagReplaces
		}
		if d := m.dst; d != nil && c.shared(m.path) && (inDepot(d) || d.Flags&catalog.FlagReplaces != 0) {
			held, err := tx.HeldDelete(m.path)
			if err != nil && !errors.Is(err, catalog.ErrNotFound) {
				return err
			}
			if err != nil || held.Kind == catalog.DeleteTold { // else the others are to keep it
				src.Flags |= catalog.FlagReplaces
			}
		}
	}
	if isRegular(src) && holdsOnlyCopy(src.State) && !inDepot(src) {
		src.MadeAt = max(src.MadeAt, at)
	}
	return tx.PutInode(src)
}
