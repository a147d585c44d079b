package cache

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// The rename of a file says two things of two names, and no more: at its time the old one is
// gone, and the new one has that version. What others do to either counts by its own time.
// So all zones come to the same in whatever order they hear of it; that the file is moved
// here, with its bytes, only saves fetching it. What others did to the old name before the
// rename, not knowing of it, the zone that renamed sees to (passed.go).

// passedGrace is how long the object of a version stays under a name that was given up by a
// rename whose zone did not know of it: long enough for that zone to hear of it, if it can be
// reached, and to take from there what it has lost by it (versionLost).
const passedGrace = 30 * time.Second

// applyMoveFile takes in a rename of a file that another zone made.
func (c *Cache) applyMoveFile(ctx context.Context, r journal.Record) error {
	gone := journal.Record{Op: journal.Delete, Path: r.From, Time: r.Time, Zone: r.Zone}
	comes := movedPut(r)
	for _, half := range []*journal.Record{&gone, &comes} { // by what was renamed above them since
		if _, err := c.renamedSince(half); err != nil {
			return err
		}
	}
	r.From, r.Path = gone.Path, comes.Path
	if r.From != r.Path {
		if _, err := c.heldHears(r); err != nil {
			return err
		}
		from, err := c.movedBefore(journal.Record{Op: r.Op, From: gone.Path, Mode: r.Mode, Time: gone.Time})
		if err != nil {
			return err
		}
		if err := c.trying(from, func() error { return c.leaveName(r, from, gone, comes) }); err != nil {
			return err
		}
		if err := c.cat.Update(func(tx *catalog.Tx) error {
			for _, path := range []string{from, gone.Path} {
				if err := bury(tx, &catalog.Tombstone{Path: path, Time: gone.Time, Zone: r.Zone, To: comes.Path}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		if err := c.fade(parentPath(from)); err != nil {
			return err
		}
	}
	err := c.takeMoved(comes)
	if errors.Is(err, errHeld) {
		err = c.holdMoved(comes)
	}
	return errors.Join(err, ctx.Err())
}

// holdMoved has what a rename says of the new name wait, unless what waits there says the same
// and where the object is by now.
func (c *Cache) holdMoved(comes journal.Record) error {
	old, err := c.heldAt(comes.Path)
	if err != nil || old != nil && momentOf(old) == momentOf(&comes) {
		return err
	}
	return c.hold(comes)
}

// movedPut is what a rename of a file says of the new name.
func movedPut(r journal.Record) journal.Record {
	r.Op, r.From = journal.Put, ""
	if r.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		r.Op = journal.Symlink
	}
	return r
}

// trying does what others' doings at a path may make to be done again.
func (c *Cache) trying(path string, do func() error) error {
	for try := 0; ; try++ {
		again, err := c.tryAgain(do(), path, try)
		if err != nil || !again {
			return err
		}
	}
}

// leaveName takes the old name from what is older than the rename: to the new name if that is
// the version which was renamed, or has bytes that only this zone has.
func (c *Cache) leaveName(r journal.Record, from string, gone, comes journal.Record) error {
	src, _, _, err := c.at(from)
	if err != nil || src == nil || isDir(src) {
		return err
	}
	made, err := c.madeAt(src)
	if err != nil || made != momentOf(&gone) && made.after(momentOf(&gone)) {
		return err // it is another file, made later
	}
	dirty := isRegular(src) && holdsOnlyCopy(src.State)
	if dirty && src.Base.Gen == 0 {
		return nil // a new file, which this zone tells of when the depot has it
	}
	if c.rules.Of(comes.Path).Shown && (dirty || c.isMoved(src, comes)) {
		dst, _, _, err := c.at(comes.Path)
		if err != nil {
			return err
		}
		free, err := c.freeFor(dst, comes)
		if err != nil {
			return err
		}
		if free {
			if err := c.moveOne(r, src, dst, from, comes.Path, false); err != nil || dirty {
				return err
			}
			// What was set here since is the old name's, if who renamed does not say otherwise.
			if set := (moment{src.AttrAt, src.AttrBy}); src.AttrAt != 0 && set.after(momentOf(&gone)) {
				return c.takeAttrs(src.Ino, comes)
			}
			return nil
		}
	}
	if dirty {
		return nil // under its old name it is a new file to all
	}
	gone.Path, gone.ETag = from, comes.ETag
	return c.takeName(gone, passedGrace)
}

// isMoved says whether a file is what a rename is about.
func (c *Cache) isMoved(src *catalog.Inode, comes journal.Record) bool {
	switch {
	case comes.Key == "": // a rename of an older zone, or a checkpoint's
		return true
	case isSymlink(src):
		return comes.Op == journal.Symlink && src.Target == comes.Target
	}
	return comes.Op == journal.Put && c.isVersion(src, comes)
}

// freeFor says whether a name, which dst has, nil for nothing, is that of a renamed file: it was not
// deleted since, and what has it is older and in the depot.
func (c *Cache) freeFor(dst *catalog.Inode, comes journal.Record) (bool, error) {
	g, err := c.buried(comes.Path)
	if err != nil || g != nil && !momentOf(&comes).after(timeOf(g)) {
		return false, err
	}
	if dst == nil {
		return true, nil
	}
	if isDir(dst) || isRegular(dst) && holdsOnlyCopy(dst.State) {
		return false, nil
	}
	there, err := c.changedAt(dst)
	return there != momentOf(&comes) && momentOf(&comes).after(there), err // the same: it has the version, and its key, already
}

// takeMoved gives the new name the version of the rename, where it does not have it yet.
func (c *Cache) takeMoved(comes journal.Record) error {
	if comes.Key == "" && comes.Op == journal.Put || comes.Op == journal.Symlink && comes.Target == "" || !c.rules.Of(comes.Path).Shown {
		return nil
	}
	if hidden, err := c.heldHears(comes); hidden || err != nil {
		return err
	}
	if err := c.cat.View(func(tx *catalog.Tx) error { return stillUnder(tx, comes) }); err != nil {
		return err
	}
	return c.trying(comes.Path, func() error {
		if comes.Op == journal.Symlink {
			return c.applySymlink(comes)
		}
		if err := c.applyPut(comes); err != nil {
			return err
		}
		return c.dressMoved(comes.Path)
	})
}

// dressMoved gives a file that came to a name by a rename the attributes that are remembered of
// that name, where they were set later. Who set them tells of them again: another zone may
// have passed over them while it had a version of its own.
func (c *Cache) dressMoved(path string) error {
	var kept *journal.Record
	err := c.cat.View(func(tx *catalog.Tx) (err error) {
		kept, err = keptAttrs(tx, path, false)
		return err
	})
	if err != nil || kept == nil {
		return err
	}
	rec, _, _, err := c.at(path)
	if err != nil || rec == nil || !isRegular(rec) {
		return err
	}
	set, err := c.dressedAt(rec)
	if err != nil || !momentOf(kept).after(set) {
		return err
	}
	if err := c.applyAttr(*kept); err != nil || kept.Zone != c.zoneName() {
		return err
	}
	return c.cat.Update(func(tx *catalog.Tx) error { return c.tellAttrs(tx, rec.Ino, path, *kept) })
}

// tellAttrs tells of the attributes of a file that has those of a record, and has its object follow.
func (c *Cache) tellAttrs(tx *catalog.Tx, ino Ino, path string, r journal.Record) error {
	n, err := inode(tx, ino)
	if err != nil || n.AttrAt != r.Time || n.AttrBy != r.Zone {
		return err
	}
	n.Flags |= catalog.FlagAttrDirty
	return errors.Join(c.announceAttrs(tx, n, path), c.putQueue(tx, n, 0, false), tx.PutInode(n))
}

// stillUnder is errHeld where the key of a version that was renamed has another object by now, as
// far as is known here: one that a file of this zone has, or that this zone is to remove. A record
// of the new key follows.
func stillUnder(tx *catalog.Tx, comes journal.Record) error {
	if comes.Key == "" {
		return nil
	}
	taken := fmt.Errorf("key %q has another object: %w", comes.Key, errHeld)
	rm, err := tx.Removal(comes.Key)
	switch {
	case err == nil && rm.ETag != comes.ETag:
		return taken
	case err != nil && !errors.Is(err, catalog.ErrNotFound):
		return err
	}
	rec, err := keyHolder(tx, comes.Key)
	if err != nil || rec == nil {
		return err
	}
	for _, o := range rec.Objects {
		if o.Key == comes.Key && o.ETag != comes.ETag {
			return taken
		}
	}
	return nil
}
