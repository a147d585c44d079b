package cache

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
	"depotfs/cache/layout"
)

// author says who changes names: users of this zone, of which the others are told, or
// another zone.
type author bool

const (
	byUs     author = true
	byOthers author = false
)

// storeNanos is now by the store's clock, as far as it is known.
func (c *Cache) storeNanos() int64 { return c.nanos() + c.skew.Load() }

// settingSkew is the store's clock minus ours, in ns: what is told of while the store cannot
// be reached has its time too.
const settingSkew = "clock-skew"

func (c *Cache) rememberSkew(skew time.Duration) error {
	if c.skew.Swap(int64(skew)) == int64(skew) {
		return nil
	}
	return c.putSetting(settingSkew, strconv.FormatInt(int64(skew), 10))
}

// loadTelling reads whether others are to be told, and by which clock.
func (c *Cache) loadTelling() error {
	id, err := c.setting(settingDepot)
	if err != nil {
		return err
	}
	c.told.Store(id != "")
	text, err := c.setting(settingSkew)
	if err != nil || text == "" {
		return err
	}
	skew, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return errors.Join(fmt.Errorf("setting %s: %w", settingSkew, err), catalog.ErrDamaged)
	}
	c.skew.Store(skew)
	return c.loadLatest()
}

// tells says whether there may be zones to be told: this one has belonged to a depot.
func (c *Cache) tells() bool { return c.told.Load() }

// announce has the other zones told of a change that tx makes. A zero Time is now, and
// no Zone is this one.
func (c *Cache) announce(tx *catalog.Tx, r journal.Record) error {
	if !c.tells() {
		return nil
	}
	if r.Time == 0 {
		r.Time = c.eventNanos()
	}
	if r.Zone == "" {
		r.Zone = c.zoneName()
	}
	c.learnTime(r.Time)
	b, err := journal.Encode(r)
	if err != nil {
		// The name is in this zone already: that no other one can be told is no reason to
		// fail what its user does.
		c.problems.add("zones", r.Path, "other zones cannot be told: "+err.Error(), c.now())
		return nil
	}
	c.wakeTeller()
	return tx.PutNews(b)
}

// wakeTeller has newsLoop look; the transaction that calls it may not have ended yet.
func (c *Cache) wakeTeller() {
	select {
	case c.newsWake <- struct{}{}:
	default:
	}
}

// shared says whether other zones may know the path.
func (c *Cache) shared(path string) bool {
	cl := c.rules.Of(path)
	return cl.Upload && cl.Shown
}

// inDepot says whether other zones may know the inode: it has an object, or is a directory,
// which the names in it make known.
func inDepot(r *catalog.Inode) bool {
	return isDir(r) || len(r.Objects) > 0
}

// made notes that this zone has finished the version that is r's base now. A version that
// was made from another one is later than that, whatever the clocks say.
func (c *Cache) made(tx *catalog.Tx, r *catalog.Inode, finished int64) error {
	at, err := doneIn(tx, r, c.whenDone(r, finished))
	if err != nil {
		return err
	}
	r.MadeAt, r.Origin = max(at, r.MadeAt+1), c.zoneName()
	r.Flags &^= catalog.FlagOthers
	if r.AttrAt >= r.MadeAt { // by a clock that was ahead: the version's mtime is later than what was told then
		r.AttrAt, r.AttrBy = r.AttrAt+1, c.zoneName()
	}
	return nil
}

// announceObject tells that an object is the file's, directory's or link's under its name.
func (c *Cache) announceObject(tx *catalog.Tx, r *catalog.Inode, o catalog.Object) error {
	if !c.tells() || len(r.Links) == 0 {
		return nil
	}
	_, paths, err := c.wantedIn(tx, r)
	if err != nil {
		return err
	}
	path := c.nameOf(r, paths, o)
	if !c.shared(path) {
		return nil
	}
	r.Flags &^= catalog.FlagReplaces
	// What was made where this zone knew of a delete is later than that, whatever the clocks say.
	if r.MadeAt, err = afterGrave(tx, path, r.MadeAt); err != nil {
		return err
	}
	if r.Origin == c.zoneName() {
		set := &r.MadeAt
		if r.AttrAt != 0 {
			set = &r.AttrAt
		}
		if *set, err = afterKept(tx, path, isDir(r), *set); err != nil {
			return err
		}
	}
	n := recordOf(r, path, o)
	if err := tellAttrTime(tx, r, &n); err != nil {
		return err
	}
	return c.announce(tx, n)
}

// nameOf is the path, of those that an inode has, under which an object is.
func (c *Cache) nameOf(r *catalog.Inode, paths []string, o catalog.Object) string {
	for _, p := range paths {
		if k, _ := layout.Key(c.cfg.Prefix, p, isDir(r)); k == o.Key {
			return p
		}
	}
	return paths[0]
}

// tellAttrTime has a record say when the attributes were set that it tells of.
func tellAttrTime(in inodes, r *catalog.Inode, n *journal.Record) error {
	set, err := dressedIn(in, r)
	switch {
	case err != nil:
		return err
	case isDir(r) && set.at == 0:
		n.Mode, n.UID, n.GID, n.Mtime = 0, 0, 0, 0 // they are guesses
	case isDir(r) && set != momentOf(n), journal.Later(set.at, set.zone, n.Time, n.Zone):
		n.AttrTime, n.AttrZone = set.at, set.zone
	}
	return nil
}

// recordOf says that an object is a file's, directory's or link's under one of its names.
func recordOf(r *catalog.Inode, path string, o catalog.Object) journal.Record {
	n := journal.Record{Op: journal.Put, Path: path, Time: r.MadeAt, Zone: r.Origin, Key: o.Key, ETag: o.ETag, VersionID: o.VersionID,
		Mode: r.Mode, UID: r.UID, GID: r.GID, Mtime: r.Mtime}
	switch {
	case isDir(r):
		n.Op = journal.Mkdir
	case isSymlink(r):
		n.Op, n.Target = journal.Symlink, r.Target
	default:
		n.Size, n.CRC64, n.HasCRC, n.Zeros = r.Base.Size, r.Base.CRC64, r.Base.HasCRC, r.Zeros
	}
	return n
}

// announceAttrs tells of attributes of something whose bytes the depot has. Those of what
// is dirty go with its next version.
func (c *Cache) announceAttrs(tx *catalog.Tx, r *catalog.Inode, path string) error {
	if !inDepot(r) || !c.shared(path) {
		return nil
	}
	return c.announce(tx, journal.Record{Op: journal.Attr, Path: path, Time: r.AttrAt, Zone: r.AttrBy,
		Mode: r.Mode, UID: r.UID, GID: r.GID, Mtime: r.Mtime})
}

// dressed notes that a user of this zone has set attributes: later than all that is known
// of them, whatever the clocks say.
func (c *Cache) dressed(tx *catalog.Tx, r *catalog.Inode) error {
	if !c.tells() {
		return nil
	}
	before, err := dressedIn(tx, r)
	if err != nil {
		return err
	}
	at, err := doneIn(tx, r, c.eventNanos())
	if err != nil {
		return err
	}
	r.AttrAt, r.AttrBy = max(at, before.at+1), c.zoneName()
	return nil
}

// announceGone tells that a name is gone, and remembers that for what others may still
// tell of it.
func (c *Cache) announceGone(tx *catalog.Tx, r *catalog.Inode, path string, del *deletion) error {
	if !c.tells() || !inDepot(r) && r.Flags&catalog.FlagReplaces == 0 {
		return nil
	}
	if !c.shared(path) { // the others still have what was renamed to a name that they are not shown
		o, ok := currentObject(r)
		if path = c.keyPath(o.Key); !ok || isDir(r) || !c.shared(path) {
			return nil
		}
	}
	n := journal.Record{Op: journal.Delete, Path: path, Time: max(c.eventNanos(), r.MadeAt+1)}
	if isDir(r) {
		n.Op = journal.Rmdir
	}
	if del != nil {
		n.Time = max(n.Time, del.at)
		del.at = n.Time
		n.Trash = c.keptAs(r, del)
	}
	if o, ok := currentObject(r); ok && !isDir(r) && !c.isKept(o.Key) { // which others have deleted, and keep
		n.Key, n.ETag = o.Key, o.ETag
	}
	n.Zone = c.zoneName()
	if err := bury(tx, graveOf(n)); err != nil {
		return err
	}
	return c.announce(tx, n)
}

// announceMove tells of a rename; what the depot does not have yet is told of when it has
// it, and replaces then what others have under the new name.
func (c *Cache) announceMove(tx *catalog.Tx, m *move) error {
	if !c.tells() {
		return nil
	}
	src, err := inode(tx, m.src.Ino)
	if err != nil {
		return err
	}
	known := inDepot(src) && c.shared(m.oldPath) && c.shared(m.path)
	other := false
	if m.exchange {
		dst, err := inode(tx, m.dst.Ino)
		if err != nil {
			return err
		}
		other = inDepot(dst) && c.shared(m.oldPath) && c.shared(m.path)
	}
	n := journal.Record{Op: journal.Rename, From: m.oldPath, Path: m.path, Time: c.eventNanos()}
	movers := []Ino{m.src.Ino}
	switch {
	case known && other:
		n.Op = journal.Exchange
		movers = append(movers, m.dst.Ino)
	case other:
		n.From, n.Path = n.Path, n.From
		movers[0] = m.dst.Ino
	case !known:
		return c.renamedUntold(tx, m, n.Time)
	}
	var moved []*catalog.Inode // one, or both of an exchange: n.From first
	for _, ino := range movers {
		r, err := inode(tx, ino)
		if err != nil {
			return err
		}
		n.Time = max(n.Time, r.MadeAt+1)
		moved = append(moved, r)
	}
	n.Mode = moved[0].Mode & syscall.S_IFMT
	if n.Op == journal.Exchange {
		n.Swapped = moved[1].Mode & syscall.S_IFMT
		if err := c.movedHere(tx, moved[1], n.Path, n.From, n.Time); err != nil {
			return err
		}
	}
	if err := c.movedHere(tx, moved[0], n.From, n.Path, n.Time); err != nil {
		return err
	}
	return c.announce(tx, c.withVersion(n, moved[0]))
}

// withVersion has a rename of a file say of which version it is: who has another one under
// the old name does not give that the new one. What is in the trash by now no record names.
func (c *Cache) withVersion(n journal.Record, r *catalog.Inode) journal.Record {
	if n.Op != journal.Rename || isDir(r) || len(r.Objects) == 0 {
		return n
	}
	o, ok := currentObject(r)
	if !ok {
		if isRegular(r) {
			return n
		}
		o = r.Objects[0]
	}
	if c.isKept(o.Key) {
		return n
	}
	v := recordOf(r, n.Path, o)
	v.Op, v.From, v.Time, v.Zone = n.Op, n.From, n.Time, n.Zone
	return v
}

// announceFound tells of a rename that others made in the share: to has what the depot
// has of old, or bytes of its own.
func (c *Cache) announceFound(tx *catalog.Tx, old, to *catalog.Inode, path string) error {
	if !c.tells() || len(to.Links) == 0 {
		return nil
	}
	if len(to.Objects) == 0 {
		return c.announceGone(tx, old, path, nil)
	}
	_, paths, err := c.wantedIn(tx, to)
	if err != nil {
		return err
	}
	if !c.shared(path) || !c.shared(paths[0]) {
		return nil
	}
	n := journal.Record{Op: journal.Rename, From: path, Path: paths[0], Time: max(c.eventNanos(), old.MadeAt+1)}
	to.MadeAt, to.Origin = old.MadeAt, old.Origin
	if err := c.movedHere(tx, to, n.From, n.Path, n.Time); err != nil {
		return err
	}
	n.Mode = to.Mode & syscall.S_IFMT
	return c.announce(tx, c.withVersion(n, to))
}

// movedHere gives what this zone has renamed the time that it has under its new name, as the
// other zones do (movedElsewhere), and notes the rename for what others still do under the
// old one.
func (c *Cache) movedHere(tx *catalog.Tx, r *catalog.Inode, from, to string, at int64) error {
	if isDir(r) {
		r.MadeAt, r.MovedAt = afterRename(r.MadeAt, at), at
		attrsMoved(r, at)
		return errors.Join(tx.PutInode(r), noteMove(tx, from, to, at, c.zoneName()))
	}
	set, err := dressedIn(tx, r)
	if err != nil {
		return err
	}
	made, err := madeIn(tx, r)
	if err != nil {
		return err
	}
	if r.Origin != c.zoneName() {
		r.Flags |= catalog.FlagOthers
	}
	r.MadeAt, r.Origin, r.AttrAt, r.AttrBy = at, c.zoneName(), 0, ""
	return errors.Join(tx.PutInode(r), bury(tx, &catalog.Tombstone{Path: from, Time: at, Zone: c.zoneName(), To: to,
		MadeAt: made.at, MadeBy: made.zone, AttrAt: set.at, AttrBy: set.zone}))
}

// attrsMoved gives the attributes of what was renamed the time that they have under its
// new name.
func attrsMoved(r *catalog.Inode, at int64) {
	if r.AttrAt != 0 && r.AttrAt < at {
		r.AttrAt = afterRename(r.AttrAt, at)
	}
}
