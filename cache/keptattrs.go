package cache

import (
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// Attributes outlast what has them in the catalog. Where a directory was deleted, or a file
// had its name, another zone's file may make it again, and it is to be the one that the zones
// show in which it never went. And attributes of a file may be later than the delete of it
// and than the next file of that name, by clocks that are wrong: a zone that hears of them
// last would give them to that one.

// keepAttrs remembers what a record says of the attributes of what is not here, or may go,
// unless later ones are known.
func (c *Cache) keepAttrs(r journal.Record) error {
	if r.Mode == 0 {
		return nil
	}
	if r.Op == journal.Mkdir {
		r.Mode = r.Mode&^syscall.S_IFMT | syscall.S_IFDIR
	}
	return c.cat.Update(func(tx *catalog.Tx) error { return putKeptAttrs(tx, r) })
}

// leaveAttrs remembers the attributes of what loses the name path: those of a file only if
// they were set after it was made, and told of. It is part of the transaction that takes the
// name.
func leaveAttrs(tx *catalog.Tx, rec *catalog.Inode, path string) error {
	told := rec.AttrAt != 0 && rec.Base.Gen != 0 && !holdsOnlyCopy(rec.State)
	if !isDir(rec) && (!isRegular(rec) || !told) {
		return nil
	}
	set, err := dressedIn(tx, rec)
	if err != nil || set.at == 0 {
		return err
	}
	return putKeptAttrs(tx, journal.Record{Path: path, Time: set.at, Zone: set.zone, Mode: rec.Mode, UID: rec.UID, GID: rec.GID, Mtime: rec.Mtime})
}

func putKeptAttrs(tx *catalog.Tx, r journal.Record) error {
	dir := r.Mode&syscall.S_IFMT == syscall.S_IFDIR
	old, err := keptAttrs(tx, r.Path, dir)
	set := attrsAt(&r)
	if err != nil || old != nil && !set.after(momentOf(old)) {
		return err
	}
	b, err := journal.Encode(journal.Record{Op: journal.Attr, Path: r.Path, Time: set.at, Zone: set.zone,
		Mode: r.Mode, UID: r.UID, GID: r.GID, Mtime: r.Mtime})
	if err != nil {
		return nil // a zone of another time told of it: then it has the usual ones
	}
	return tx.PutKeptAttrs(r.Path, dir, b)
}

// keptAttrs is what is remembered of the attributes of a file or directory, nil for nothing.
func keptAttrs(tx *catalog.Tx, path string, dir bool) (*journal.Record, error) {
	return storedRecord(tx.KeptAttrs(path, dir))
}

// takeKept gives a file that is new here the attributes that are remembered of its name, if
// they are later than its own.
func takeKept(tx *catalog.Tx, rec *catalog.Inode, path string) error {
	kept, err := keptAttrs(tx, path, false)
	if err != nil || kept == nil {
		return err
	}
	if set, err := dressedIn(tx, rec); err != nil || !momentOf(kept).after(set) {
		return err
	}
	setRecordAttrs(rec, *kept)
	return nil
}

// afterKept is a time, or one that is later than when the attributes were set that are
// remembered of a path.
func afterKept(tx *catalog.Tx, path string, dir bool, at int64) (int64, error) {
	kept, err := keptAttrs(tx, path, dir)
	if kept != nil {
		at = max(at, kept.Time+1)
	}
	return at, err
}
