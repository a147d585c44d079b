package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// applyMove renames what another zone has renamed: one change of share and catalog,
// however much is below the name. What is later than the rename stays where it is, and
// what has the new name stays if it is later. Keys follow in the zone that renamed.
func (c *Cache) applyMove(ctx context.Context, r journal.Record) error {
	if err := c.learnTypes(&r); err != nil {
		return err
	}
	if r.Op == journal.Rename && !isOfDir(&r) {
		return c.applyMoveFile(ctx, r)
	}
	if err := c.movedAbove(&r); err != nil {
		return err
	}
	if below(r.From, r.Path) || below(r.Path, r.From) {
		return nil // by what was renamed since
	}
	if _, err := c.heldHears(r); err != nil {
		return err
	}
	if r.Op == journal.Exchange {
		if err := c.exchangeNames(ctx, r); err != nil {
			return err
		}
		return c.cat.Update(func(tx *catalog.Tx) error {
			return errors.Join(noteMoved(tx, r.Swapped, r.Path, r.From, momentOf(&r)), noteMoved(tx, r.Mode, r.From, r.Path, momentOf(&r)))
		})
	}
	g, err := c.buried(r.From)
	if err != nil {
		return err
	}
	if m := dirRename(g); m.to != "" && m.at > r.Time {
		// The name was given another place later on: what is told of this one goes there.
		if below(r.Path, m.to) || below(m.to, r.Path) {
			return nil
		}
		return c.cat.Update(func(tx *catalog.Tx) error { return noteMove(tx, r.Path, m.to, m.at, m.zone) })
	}
	from, err := c.movedBefore(r)
	if err != nil {
		return err
	}
	if below(from, r.Path) || below(r.Path, from) {
		return nil
	}
	if err := c.moveNamed(ctx, r, from); err != nil {
		return err
	}
	return c.cat.Update(func(tx *catalog.Tx) error {
		if from != r.From {
			if err := noteMove(tx, from, r.Path, r.Time, r.Zone); err != nil {
				return err
			}
		}
		return noteMove(tx, r.From, r.Path, r.Time, r.Zone)
	})
}

// noteMoved notes that another zone has renamed a file or a directory.
func noteMoved(tx *catalog.Tx, mode uint32, from, to string, m moment) error {
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		return noteMove(tx, from, to, m.at, m.zone)
	}
	return bury(tx, &catalog.Tombstone{Path: from, Time: m.at, Zone: m.zone, To: to})
}

// moveNamed moves the file, or the directory, that is at a path and that r renames.
func (c *Cache) moveNamed(ctx context.Context, r journal.Record, from string) error {
	rec, _, _, err := c.at(from)
	if err != nil || rec != nil && isDir(rec) != isOfDir(&r) {
		return err // what has the name is not what was renamed
	}
	if c.rules.Of(r.Path).Shown {
		err = c.moveTree(ctx, r, from, r.Path)
	} else {
		err = c.applyGone(journal.Record{Op: journal.Delete, Path: from, Time: r.Time, Zone: r.Zone})
	}
	if err != nil {
		return err
	}
	return c.fade(r.Path) // which may have been deleted since
}

// learnTypes has a rename say whether it is of files or of directories, by what has the names
// here, where its zone did not.
func (c *Cache) learnTypes(r *journal.Record) error {
	typeAt := func(path string) (uint32, error) {
		rec, _, _, err := c.at(path)
		if err != nil || rec == nil || !isDir(rec) {
			return syscall.S_IFREG, err
		}
		return syscall.S_IFDIR, nil
	}
	var err error
	if r.Mode&syscall.S_IFMT == 0 {
		if r.Mode, err = typeAt(r.From); err != nil {
			return err
		}
	}
	if r.Op == journal.Exchange && r.Swapped&syscall.S_IFMT == 0 {
		r.Swapped, err = typeAt(r.Path)
	}
	return err
}

// movedBefore is where what a record renames is here: renames before it, of the name or of
// a directory above, may have been unknown to its zone. What is under the old name again is
// what is meant.
func (c *Cache) movedBefore(r journal.Record) (string, error) {
	path, dir := r.From, isOfDir(&r)
	for range maxApplies {
		rec, _, _, err := c.at(path)
		if err != nil || rec != nil && isDir(rec) == dir {
			return path, err
		}
		next := ""
		if err := c.cat.View(func(tx *catalog.Tx) error {
			latest := int64(0)
			for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '/') {
				g, err := tombstone(tx, path[:end])
				if err != nil {
					return err
				}
				if m := dirRename(g); m.to != "" && (dir || end < len(path)) && m.at < r.Time && m.at > latest {
					next, latest = m.to+path[end:], m.at
				}
			}
			return nil
		}); err != nil {
			return "", err
		}
		if next == "" {
			return path, nil
		}
		path = next
	}
	return path, nil
}

// movedAbove gives both names of a rename the paths that they have by renames that its zone
// did not know of: of a directory above, and of what has the new name since.
func (c *Cache) movedAbove(r *journal.Record) error {
	to := journal.Record{Op: r.Op, Path: r.Path, Time: r.Time, Mode: r.Mode}
	if _, err := c.renamedSince(&to); err != nil {
		return err
	}
	from := journal.Record{Op: journal.Mkdir, Path: parentPath(r.From), Time: r.Time}
	if from.Path != "" {
		if _, err := c.renamedSince(&from); err != nil {
			return err
		}
		r.From = from.Path + r.From[len(parentPath(r.From)):]
	}
	r.Path, r.Time = to.Path, max(r.Time, from.Time, to.Time)
	return nil
}

// moveTree moves what is at one path to another.
func (c *Cache) moveTree(ctx context.Context, r journal.Record, from, to string) error {
	for try := 0; ; try++ {
		err := c.tryMoveTree(ctx, r, from, to)
		if !errors.Is(err, errMoved) {
			return err
		}
		if try == maxApplies || ctx.Err() != nil {
			return fmt.Errorf("%w: others keep changing it: %w", errHeld, err)
		}
	}
}

func (c *Cache) tryMoveTree(ctx context.Context, r journal.Record, from, to string) error {
	src, _, _, err := c.at(from)
	if err != nil || src == nil {
		return err
	}
	dst, _, _, err := c.at(to)
	if err != nil {
		return err
	}
	if isDir(src) {
		return c.moveDir(ctx, r, src, dst, from, to)
	}
	dirty := isRegular(src) && holdsOnlyCopy(src.State)
	made, err := c.madeAt(src)
	if err != nil || made.after(momentOf(&r)) && made != momentOf(&r) {
		return err // it is another file, made later
	}
	comes := moment{afterRename(made.at, r.Time), made.zone}
	g, err := c.buried(to)
	if err != nil {
		return err
	}
	if g != nil && !comes.after(timeOf(g)) && !dirty {
		return c.applyDelete(journal.Record{Op: journal.Delete, Path: from, Time: r.Time, Zone: r.Zone}) // under its new name
	}
	if dst != nil {
		there, err := c.changedAt(dst)
		if err != nil {
			return err
		}
		stays := isDir(dst) || isRegular(dst) && holdsOnlyCopy(dst.State) || !comes.after(there)
		switch {
		case stays && dirty:
			return nil // under its old name it is a new file to all
		case stays && isDir(dst):
			return c.yieldMove(src, from, r)
		case stays:
			return c.applyDelete(journal.Record{Op: journal.Delete, Path: from, Time: r.Time, Zone: r.Zone})
		}
	}
	return c.moveOne(r, src, dst, from, to, false)
}

// moveDir moves a directory: as a whole, or name by name where something in it is later
// than the rename, or the new name has names in it.
func (c *Cache) moveDir(ctx context.Context, r journal.Record, src, dst *catalog.Inode, from, to string) error {
	if dst != nil && !isDir(dst) {
		if err := c.clearName(to, r); err != nil {
			return err
		}
		return errMoved
	}
	made, err := c.changedAt(src)
	if err != nil {
		return err
	}
	later := made.after(momentOf(&r)) && made != momentOf(&r) // another directory, made since
	whole := false
	if !later {
		if whole, err = c.movesWhole(src.Ino, momentOf(&r), 0); err == nil && whole {
			whole, err = c.noneBuriedSince(to, r.Time)
		}
		if err != nil {
			return err
		}
	}
	if whole && dst != nil {
		err := c.emptyDir(dst, to)
		if whole = err == nil; !whole && !isNotEmpty(err) {
			return err
		}
	}
	if whole {
		return c.moveOne(r, src, dst, from, to, false)
	}
	if dst == nil && !later {
		if err := c.applyMkdir(journal.Record{Op: journal.Mkdir, Path: to, Time: r.Time, Zone: r.Zone, Mode: src.Mode, UID: src.UID, GID: src.GID, Mtime: src.Mtime}); err != nil {
			return err
		}
	}
	names, err := c.namesIn(src.Ino)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.moveTree(ctx, r, from+"/"+name, to+"/"+name); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if later {
		return nil
	}
	_, dir, name, err := c.at(from)
	if err != nil || dir == 0 {
		return err
	}
	_, err = c.dropDir(dir, name, src.Ino)
	return err
}

// movesWhole says whether nothing in a directory is later than a rename of it.
func (c *Cache) movesWhole(dir Ino, renamed moment, depth int) (whole bool, err error) {
	if depth > maxDepth {
		return false, fmt.Errorf("inode %d: %w: endless directories", dir, catalog.ErrDamaged)
	}
	whole = true
	var subdirs []Ino
	err = c.cat.View(func(tx *catalog.Tx) error {
		var ierr error
		err := tx.ReadDir(dir, 0, func(e catalog.Dirent) bool {
			rec, err := tx.Inode(e.Ino)
			if err != nil {
				ierr = err
				return errors.Is(err, catalog.ErrNotFound)
			}
			if isDir(rec) {
				subdirs = append(subdirs, rec.Ino)
			}
			made := moment{rec.MadeAt, rec.Origin}
			whole = made == renamed || !made.after(renamed)
			return whole
		})
		if err == nil && ierr != nil && !errors.Is(ierr, catalog.ErrNotFound) {
			err = ierr
		}
		return err
	})
	for i := 0; i < len(subdirs) && whole && err == nil; i++ {
		whole, err = c.movesWhole(subdirs[i], renamed, depth+1)
	}
	return whole, err
}

// noneBuriedSince says whether nothing below a path was deleted after a time.
func (c *Cache) noneBuriedSince(path string, since int64) (none bool, err error) {
	none = true
	err = c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachTombstoneBelow(path, func(g *catalog.Tombstone) bool {
			none = g.Time < since && g.RmdirAt < since
			return none
		})
	})
	return none, err
}

// namesIn lists a directory.
func (c *Cache) namesIn(dir Ino) (names []string, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		return tx.ReadDir(dir, 0, func(e catalog.Dirent) bool {
			names = append(names, strings.Clone(e.Name))
			return true
		})
	})
	return names, err
}

// exchangeNames swaps two names, where both are here and neither is later.
func (c *Cache) exchangeNames(ctx context.Context, r journal.Record) error {
	for range maxApplies {
		src, _, _, err := c.at(r.From)
		if err != nil {
			return err
		}
		dst, _, _, err := c.at(r.Path)
		if err != nil {
			return err
		}
		if src != nil && isDir(src) != isOfDir(&r) {
			src = nil
		}
		if dst != nil && isDir(dst) != (r.Swapped&syscall.S_IFMT == syscall.S_IFDIR) {
			dst = nil
		}
		switch {
		case dst == nil && src != nil && isDir(src):
			return c.moveTree(ctx, r, r.From, r.Path)
		case src == nil && dst != nil && isDir(dst):
			return c.moveTree(ctx, r, r.Path, r.From)
		case src == nil || dst == nil:
			return nil // put records say what is where
		}
		for _, rec := range []*catalog.Inode{src, dst} {
			made, err := c.madeAt(rec)
			if err != nil || made.after(momentOf(&r)) {
				return err // exchanged already, or later: put records say what is where
			}
		}
		if err = c.moveOne(r, src, dst, r.From, r.Path, true); !errors.Is(err, errMoved) {
			return err
		}
	}
	return errHeld
}
