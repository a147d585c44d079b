package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// hides says whether a name that the depot has is not shown here, since its delete is held
// or hides it. Another version than the deleted one is shown.
func (c *Cache) hides(path string, o ObjectInfo) (hides bool, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		h, err := heldAt(tx, path)
		if err != nil || h == nil {
			return err
		}
		hides = o.ETag == "" || h.Told || slices.ContainsFunc(h.Inode.Objects, func(own catalog.Object) bool { return own.Key == o.Key && own.ETag == o.ETag })
		return nil
	})
	return hides, err
}

// heldAt is the delete of a path that hides it here, nil for none.
func heldAt(tx *catalog.Tx, path string) (*catalog.HeldDelete, error) {
	h, err := tx.HeldDelete(path)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && h.Kind == catalog.DeleteTold {
		return nil, nil
	}
	return h, err
}

// keyTaken ends the held delete whose object an inode takes over, or replaces.
func (c *Cache) keyTaken(tx *catalog.Tx, key string) error {
	h, err := tx.HeldKey(key)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.dropHeld(tx, h.Path)
}

// overHeld is guard for a key with the object of a held delete: a new file of the same path
// replaces it, once it was copied to the conflicts. held is false where there is none.
func (c *Cache) overHeld(ctx context.Context, d *depot, key string, rec *catalog.Inode) (opts PutOptions, held bool, err error) {
	var h *catalog.HeldDelete
	var paths []string
	if err := c.cat.View(func(tx *catalog.Tx) error {
		h, err = tx.HeldKey(key)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && h.Kind == catalog.DeleteTold {
			h = nil
			return nil
		}
		if err == nil {
			_, paths, err = c.wantedIn(tx, rec)
		}
		return err
	}); err != nil || h == nil {
		return opts, false, err
	}
	if !slices.Contains(paths, h.Path) {
		return opts, true, fmt.Errorf("the delete of %q is held, whose object is still under %s: say depotfs deletes approve or discard: %w", h.Path, key, ErrBusy)
	}
	info, err := d.store.Head(ctx, key)
	d.report(err)
	if errors.Is(err, ErrNotFound) {
		return PutOptions{IfNoneMatch: true}, true, nil
	}
	if err != nil {
		return opts, true, err
	}
	own := slices.ContainsFunc(h.Inode.Objects, func(o catalog.Object) bool { return o.Key == key && o.ETag == info.ETag })
	switch {
	case !own: // of others, by now: a clash, which is resolved as one
		return PutOptions{IfNoneMatch: true}, true, nil
	case h.Saved || isDir(h.Inode):
		return PutOptions{IfMatch: info.ETag}, true, nil
	}
	if err := c.keepTheirs(ctx, d, key, h.Path, info, "it was deleted here, which is held, and a new file has its name"); err != nil {
		return opts, true, err
	}
	err = c.cat.Update(func(tx *catalog.Tx) error {
		now, err := tx.HeldDelete(h.Path)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		now.Saved = true
		return c.putHeld(tx, now)
	})
	return PutOptions{IfMatch: info.ETag}, true, err
}

// maxHeldMoves bounds what one rename of a directory takes along.
const maxHeldMoves = 2000

// moveHeld has the deletes below a directory follow its rename. Those below the new name,
// where both swap, go the other way. A rename that another zone made at a time (ns; 0: we)
// leaves what is later where it is, and so may be heard twice.
func (c *Cache) moveHeld(tx *catalog.Tx, from, to string, swap bool, at int64) error {
	there, err := heldTree(tx, from, at)
	if err != nil {
		return err
	}
	var back []*catalog.HeldDelete
	if swap {
		if back, err = heldTree(tx, to, at); err != nil {
			return err
		}
	}
	for _, h := range slices.Concat(there, back) {
		if err := c.dropHeld(tx, h.Path); err != nil {
			return err
		}
	}
	for _, h := range there {
		if err := c.heldTo(tx, h, to+strings.TrimPrefix(h.Path, from), at); err != nil {
			return err
		}
	}
	for _, h := range back {
		if err := c.heldTo(tx, h, from+strings.TrimPrefix(h.Path, to), at); err != nil {
			return err
		}
	}
	return nil
}

// heldTo gives a delete another path; what it had is forgotten.
func (c *Cache) heldTo(tx *catalog.Tx, h *catalog.HeldDelete, path string, at int64) error {
	h.Path = path
	h.Inode.MadeAt = max(h.Inode.MadeAt, at) // under this name
	return c.putHeld(tx, h)
}

// heldTree lists the deletes below a directory that are earlier than a rename of it.
func heldTree(tx *catalog.Tx, dir string, at int64) (all []*catalog.HeldDelete, err error) {
	err = tx.EachHeldDelete(dir+"/", "", func(h *catalog.HeldDelete) bool {
		if at == 0 || h.Inode.MadeAt < at {
			all = append(all, h)
		}
		return len(all) <= maxHeldMoves
	})
	if err == nil && len(all) > maxHeldMoves {
		err = fmt.Errorf("rename %q: more than %d deletes below it are held; decide about them first: %w", dir, maxHeldMoves, syscall.EBUSY)
	}
	return all, err
}

// heldHears applies a change record of another zone to what is gone here: whoever keeps
// the name changes it. hidden says that nothing of it is to be shown here: the record is of
// the version that was deleted, or of a name that is gone here alone. A later version is
// shown, and ends the delete.
func (c *Cache) heldHears(r journal.Record) (hidden bool, err error) {
	err = c.cat.Update(func(tx *catalog.Tx) error {
		if r.Op == journal.Rename || r.Op == journal.Exchange {
			return c.heldRenamed(tx, r)
		}
		h, err := heldAt(tx, r.Path)
		if err == nil && h != nil {
			hidden, err = c.heldChanged(tx, h, r)
		}
		return err
	})
	return hidden, err
}

func (c *Cache) heldChanged(tx *catalog.Tx, h *catalog.HeldDelete, r journal.Record) (hidden bool, err error) {
	was := h.Inode
	later := journal.Later(r.Time, r.Zone, was.MadeAt, was.Origin)
	switch r.Op {
	case journal.Delete, journal.Rmdir:
		if !later {
			return false, nil
		}
		return false, c.dropHeld(tx, r.Path)
	case journal.Attr:
		was.Mode = was.Mode&syscall.S_IFMT | r.Mode&0o7777
		was.UID, was.GID, was.Mtime = r.UID, r.GID, r.Mtime
		return true, c.putHeld(tx, h)
	case journal.Mkdir:
		if isDir(was) { // it has no version: what is made in it shows it again
			return true, nil
		}
	}
	switch {
	case r.Op == journal.Put && isRegular(was) && isHeldVersion(was, r): // told once more: its object follows a rename, or was brought back
		was.Objects = []catalog.Object{{Key: r.Key, ETag: r.ETag, VersionID: r.VersionID, Gen: was.Base.Gen}}
		was.MadeAt = max(was.MadeAt, r.Time)
		return true, c.putHeld(tx, h)
	case later:
		return false, c.dropHeld(tx, r.Path)
	}
	return true, nil
}

// isHeldVersion says whether a record tells of the version that was deleted.
func isHeldVersion(was *catalog.Inode, r journal.Record) bool {
	switch {
	case r.Time < was.MadeAt:
		return false
	case was.Base.HasCRC && r.HasCRC:
		return r.Size == was.Base.Size && r.CRC64 == was.Base.CRC64
	case r.Time == was.MadeAt && r.Zone == was.Origin:
		return true
	}
	return r.Size == was.Base.Size && slices.ContainsFunc(was.Objects, func(o catalog.Object) bool { return o.Key == r.Key && o.ETag == r.ETag })
}

// heldRenamed has deletes follow a rename that another zone made of a name that it has.
func (c *Cache) heldRenamed(tx *catalog.Tx, r journal.Record) error {
	swap := r.Op == journal.Exchange
	if err := c.moveHeld(tx, r.From, r.Path, swap, r.Time); err != nil {
		return err
	}
	var both [2]*catalog.HeldDelete
	for i, path := range []string{r.From, r.Path} {
		h, err := heldAt(tx, path)
		if err != nil {
			return err
		}
		if h == nil || h.Inode.MadeAt >= r.Time {
			continue
		}
		if err := c.dropHeld(tx, path); err != nil {
			return err
		}
		both[i] = h
	}
	if both[0] != nil {
		if err := c.heldTo(tx, both[0], r.Path, r.Time); err != nil {
			return err
		}
	}
	if both[1] != nil && swap { // else it was replaced there
		return c.heldTo(tx, both[1], r.From, r.Time)
	}
	return nil
}
