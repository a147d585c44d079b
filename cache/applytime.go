package cache

import (
	"errors"
	iofs "io/fs"
	"math/bits"
	"slices"
	"strings"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// What holds for a path is decided by when it was made, and by whom, alone: so all zones
// come to the same, in whatever order they hear of it. A rename at the time t makes a
// name that others change before t, not knowing of it, another one: what they did counts
// as done to the new name, just after the rename (afterRename), and in the order in which
// they did it.

// moment is when something was done, by which zone.
type moment struct {
	at   int64
	zone string
}

// after says whether m is later than o. What one zone does comes in its order, so that of
// two moments of a zone that are the same the later one to come counts.
func (m moment) after(o moment) bool {
	return m == o || journal.Later(m.at, m.zone, o.at, o.zone)
}

func momentOf(r *journal.Record) moment { return moment{r.Time, r.Zone} }

// attrsAt is when the attributes of a record were set. Those of a directory are its own,
// whenever it was made again.
func attrsAt(r *journal.Record) moment {
	if r.Op == journal.Mkdir && r.AttrTime != 0 || journal.Later(r.AttrTime, r.AttrZone, r.Time, r.Zone) {
		return moment{r.AttrTime, r.AttrZone}
	}
	return momentOf(r)
}

const (
	renameWindow = 1 << 46 // ns, some 19 hours: earlier changes that meet a rename count as simultaneous
	// renameDigits is how many bits of the time before a rename count. So what is done within
	// some 30 ms before it keeps its distances, and what was moved by several renames its order.
	renameDigits = 25
	renameRanks  = (46 - renameDigits + 2) << (renameDigits - 1) // more than any rank
	// renameSpan is how long after a rename all is over that was done before it, in ns: 0.39 s.
	renameSpan = 2 + renameRanks
)

// afterRename is the time of what was done at t to a name that was given up by a rename
// at the later time moved: within renameSpan after it, in the order of t.
func afterRename(t, moved int64) int64 {
	return moved + 1 + renameRanks - rank(max(0, min(moved-t, renameWindow-1)))
}

// rank is a growing function of a time before a rename: the time itself, in ns, as long as it
// has no more than renameDigits bits, and then the number of bits and the highest ones.
func rank(before int64) int64 {
	more := bits.Len64(uint64(before)) - renameDigits
	if more <= 0 {
		return before
	}
	return int64(more)<<(renameDigits-1) + before>>more
}

// renamedSince gives a record the path that its name has by renames that its zone did not
// know of. ours says that the last of them is this zone's, which brings objects to their keys.
func (c *Cache) renamedSince(r *journal.Record) (ours bool, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		for range maxDepth {
			m, rest, err := renameOf(tx, r.Path, isOfDir(r), r.Time)
			if m.to == "" || err != nil {
				return err
			}
			r.Path, r.Time = m.to+rest, afterRename(r.Time, m.at)
			if r.AttrTime != 0 && r.AttrTime < m.at {
				r.AttrTime = afterRename(r.AttrTime, m.at)
			}
			ours = m.zone == c.zoneName()
		}
		return nil
	})
	return ours, err
}

// renamed is a rename as a tombstone has it; to is "" for none.
type renamed struct {
	moment
	to string
}

// dirRename is the rename of the directory of a name, by its tombstone. What is done to a
// file's name stays with the name.
func dirRename(g *catalog.Tombstone) renamed {
	if g == nil {
		return renamed{}
	}
	return renamed{rmdirOf(g), g.RmdirTo}
}

// isOfDir says whether a record is about a directory.
func isOfDir(r *journal.Record) bool {
	switch r.Op {
	case journal.Mkdir, journal.Rmdir:
		return true
	case journal.Attr, journal.Rename, journal.Exchange:
		return r.Mode&syscall.S_IFMT == syscall.S_IFDIR
	}
	return false
}

// renameOf is the earliest rename after a time of the directory of a path, where dir says that
// it is one, or of one that it is below; rest is the end of path that follows its name.
func renameOf(tx *catalog.Tx, path string, dir bool, since int64) (found renamed, rest string, err error) {
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		g, err := tombstone(tx, path[:end])
		if err != nil {
			return renamed{}, "", err
		}
		if m := dirRename(g); m.to != "" && (dir || end < len(path)) && m.at > since && (found.to == "" || m.at < found.at) {
			found, rest = m, path[end:]
		}
	}
	return found, rest, nil
}

// madeAt is when what has a name came to have it: a directory above may have been renamed
// since, which its own record does not say.
func (c *Cache) madeAt(rec *catalog.Inode) (m moment, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		m, err = madeIn(tx, rec)
		return err
	})
	return m, err
}

func madeIn(in inodes, rec *catalog.Inode) (moment, error) {
	return renamedIn(in, rec, moment{rec.MadeAt, rec.Origin})
}

// dressedIn is when what has a name got its attributes; never for a directory that was made
// here for what is in it.
func dressedIn(in inodes, rec *catalog.Inode) (moment, error) {
	if isDir(rec) && rec.AttrAt != 0 {
		return renamedIn(in, rec, moment{rec.AttrAt, rec.AttrBy})
	}
	if isDir(rec) && rec.Flags&catalog.FlagNoAttr != 0 {
		return moment{}, nil
	}
	made, err := madeIn(in, rec)
	if err != nil || rec.AttrAt == 0 {
		return made, err
	}
	set, err := renamedIn(in, rec, moment{rec.AttrAt, rec.AttrBy})
	if err != nil || !set.after(made) {
		return made, err
	}
	return set, nil
}

// dressedAt is dressedIn, or when what the depot lacks of it was changed.
func (c *Cache) dressedAt(rec *catalog.Inode) (moment, error) {
	changed, err := c.changedAt(rec)
	if err != nil {
		return changed, err
	}
	var set moment
	err = c.cat.View(func(tx *catalog.Tx) error {
		set, err = dressedIn(tx, rec)
		return err
	})
	if err != nil || !isDir(rec) && !set.after(changed) || isDir(rec) && set.at == 0 && rec.Flags&catalog.FlagAttrDirty != 0 {
		return changed, err
	}
	return set, nil
}

// renamedIn is the time of what was done to rec at m, now that the directories above have
// the names that they have.
func renamedIn(in inodes, rec *catalog.Inode, m moment) (moment, error) {
	renames, err := renamesAbove(in, rec)
	for _, t := range renames {
		if t > m.at {
			m.at = afterRename(m.at, t)
		}
	}
	return m, err
}

// renamesAbove is when the directories above rec got the names that they have, in order.
func renamesAbove(in inodes, rec *catalog.Inode) (renames []int64, _ error) {
	if len(rec.Links) == 0 {
		return nil, nil
	}
	for dir := rec.Links[0].Parent; dir != catalog.Root; {
		r, err := inode(in, dir)
		if err != nil {
			return nil, err
		}
		if r.MovedAt != 0 {
			renames = append(renames, r.MovedAt)
		}
		if len(r.Links) == 0 {
			break
		}
		dir = r.Links[0].Parent
	}
	slices.Sort(renames)
	return renames, nil
}

// doneIn is the time, under the name that rec has, of what this zone did to it at t by the
// store's clock: what was done after a rename is later than all that others did before it.
func doneIn(in inodes, rec *catalog.Inode, t int64) (int64, error) {
	at := t
	if rec.MovedAt > t {
		at = afterRename(t, rec.MovedAt)
	}
	renames, err := renamesAbove(in, rec)
	for _, renamed := range append(renames, rec.MovedAt) {
		if renamed != 0 && renamed <= t {
			at = max(at, renamed+renameSpan)
		}
	}
	return at, err
}

// buried is when a path was deleted or given up, as far as is known.
func (c *Cache) buried(path string) (g *catalog.Tombstone, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		g, err = tombstone(tx, path)
		return err
	})
	return g, err
}

// tombstone is that of a path, nil for none.
func tombstone(tx *catalog.Tx, path string) (*catalog.Tombstone, error) {
	g, err := tx.Tombstone(path)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, nil
	}
	return g, err
}

func timeOf(g *catalog.Tombstone) moment { return moment{g.Time, g.Zone} }

func rmdirOf(g *catalog.Tombstone) moment { return moment{g.RmdirAt, g.RmdirBy} }

// afterGrave is a time, or one that is later than all deletes that are known of a path.
func afterGrave(tx *catalog.Tx, path string, at int64) (int64, error) {
	g, err := tombstone(tx, path)
	if g != nil {
		at = max(at, g.Time+1, g.RmdirAt+1)
	}
	return at, err
}

// bury notes that a file, or a directory, of a path is gone, unless something later is known.
func bury(tx *catalog.Tx, g *catalog.Tombstone) error {
	old, err := tombstone(tx, g.Path)
	if err != nil {
		return err
	}
	if old == nil {
		return tx.PutTombstone(g)
	}
	now := *old
	if g.Time != 0 && timeOf(g).after(timeOf(old)) && (timeOf(g) != timeOf(old) || old.To == "") { // of a rename more is known
		now = fileGrave(g, g.Path, g.Time)
		now.RmdirAt, now.RmdirBy, now.RmdirTo = old.RmdirAt, old.RmdirBy, old.RmdirTo
	}
	if g.RmdirAt != 0 && rmdirOf(g).after(rmdirOf(old)) {
		now.RmdirAt, now.RmdirBy, now.RmdirTo = g.RmdirAt, g.RmdirBy, g.RmdirTo
	}
	if now == *old {
		return nil
	}
	return tx.PutTombstone(&now)
}

// noteMove notes a rename of a directory for what others still tell of it, and has the
// tombstones of what was deleted there, and below, follow. It is part of the transaction that
// renames.
func noteMove(tx *catalog.Tx, from, to string, at int64, zone string) error {
	own, err := tombstone(tx, from)
	if err != nil {
		return err
	}
	if err := moveGrave(tx, own, to, at, false); err != nil {
		return err
	}
	var graves []*catalog.Tombstone
	if err := tx.EachTombstoneBelow(from, func(g *catalog.Tombstone) bool {
		graves = append(graves, g)
		return len(graves) < maxGraves
	}); err != nil {
		return err
	}
	for _, g := range graves {
		if err := moveGrave(tx, g, to+g.Path[len(from):], at, true); err != nil {
			return err
		}
	}
	return bury(tx, &catalog.Tombstone{Path: from, RmdirAt: at, RmdirBy: zone, RmdirTo: to})
}

// moveGrave has what was deleted before a rename of a directory follow it: a directory, and
// below it a file of that name.
func moveGrave(tx *catalog.Tx, g *catalog.Tombstone, to string, at int64, file bool) error {
	if g == nil {
		return nil
	}
	moved, stays := catalog.Tombstone{Path: to}, *g
	if file && g.Time != 0 && g.Time < at {
		moved = fileGrave(g, to, afterRename(g.Time, at))
		stays = catalog.Tombstone{Path: g.Path, RmdirAt: g.RmdirAt, RmdirBy: g.RmdirBy, RmdirTo: g.RmdirTo}
	}
	if g.RmdirTo == "" && g.RmdirAt != 0 && g.RmdirAt < at { // who follows a rename comes by there
		moved.RmdirAt, moved.RmdirBy = afterRename(g.RmdirAt, at), g.RmdirBy
		stays.RmdirAt, stays.RmdirBy = 0, ""
	}
	if moved.Time == 0 && moved.RmdirAt == 0 {
		return nil
	}
	if err := bury(tx, &moved); err != nil {
		return err
	}
	if stays.Time == 0 && stays.RmdirAt == 0 {
		return tx.DeleteTombstone(g.Path)
	}
	return tx.PutTombstone(&stays)
}

// fileGrave is what a tombstone says of a file, for another path or time.
func fileGrave(g *catalog.Tombstone, path string, at int64) catalog.Tombstone {
	f := *g
	f.Path, f.Time = path, at
	f.RmdirAt, f.RmdirBy, f.RmdirTo = 0, "", ""
	return f
}

// maxGraves bounds how many tombstones follow a rename: one transaction has room for them.
const maxGraves = 5000

// at finds what has a path; rec is nil where nothing has. dir is the directory with the
// last name of the path, 0 where there is none.
func (c *Cache) at(path string) (rec *catalog.Inode, dir Ino, name string, err error) {
	dir = catalog.Root
	for {
		head, rest, more := strings.Cut(path, "/")
		rec, err = c.find(dir, head)
		if errors.Is(err, iofs.ErrNotExist) {
			if more {
				return nil, 0, "", nil
			}
			return nil, dir, head, nil
		}
		if err != nil || !more {
			return rec, dir, head, err
		}
		if !isDir(rec) {
			return nil, 0, "", nil
		}
		dir, path = rec.Ino, rest
	}
}
