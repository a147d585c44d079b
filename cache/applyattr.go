package cache

import (
	"errors"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// applyAttr gives a file or directory the attributes that another zone set. Those of a
// file that was changed here go with its next version; who set later ones tells of them
// again then.
func (c *Cache) applyAttr(r journal.Record) error {
	if r.Path == "" {
		return c.setRest(catalog.Root, attrsOf(r))
	}
	rec, _, _, err := c.at(r.Path)
	if err == nil && (rec == nil || isDir(rec)) && r.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		if moved, err := c.attrOfRenamed(r); moved || err != nil {
			return err
		}
	}
	if err == nil && (rec == nil || isDir(rec) != (r.Mode&syscall.S_IFMT == syscall.S_IFDIR)) {
		err = c.keepAttrs(r)
	}
	if err != nil || rec == nil {
		return err
	}
	if r.Mode&syscall.S_IFMT != 0 && r.Mode&syscall.S_IFMT != rec.Mode&syscall.S_IFMT {
		return nil
	}
	if isDir(rec) {
		return c.dressDir(rec, r)
	}
	if g, err := c.buried(r.Path); err != nil || g != nil && !momentOf(&r).after(timeOf(g)) {
		return err
	}
	set, err := c.dressedAt(rec)
	if err != nil || !attrsAt(&r).after(set) {
		return err // of a version before, or others were set since
	}
	return c.takeAttrs(rec.Ino, r)
}

func attrsOf(r journal.Record) SetAttr {
	s := SetAttr{Valid: SetUID | SetGID | SetMtime, UID: r.UID, GID: r.GID, Mtime: r.Mtime}
	if r.Mode != 0 {
		s.Valid |= SetMode
		s.Mode = r.Mode & 0o7777
	}
	return s
}

// takeAttrs gives an inode the attributes of a record, in the share too where it is
// there. The stamp follows: it is not changed by that, nor is the depot to be told.
func (c *Cache) takeAttrs(ino Ino, r journal.Record) error {
	rec, err := c.record(ino)
	if err != nil {
		if errors.Is(err, ErrStale) {
			return nil
		}
		return err
	}
	if len(rec.Links) == 0 || isSymlink(rec) {
		return nil
	}
	return c.withDir(rec.Links[0].Parent, func(d lockedDir) error { return c.takeAttrsIn(d, rec.Links[0].Name, ino, r) })
}

// takeAttrsIn is takeAttrs of a name in a locked directory. A record of a directory that was
// known by what is in it has no attributes.
func (c *Cache) takeAttrsIn(d lockedDir, name string, ino Ino, r journal.Record) error {
	if r.Mode == 0 {
		return nil
	}
	n := c.peek(ino)
	if n != nil {
		defer c.drop(n)
	}
	now, err := c.record(ino)
	if err != nil || len(now.Links) == 0 || now.Links[0] != (catalog.Link{Parent: d.rec.Ino, Name: name}) {
		return err
	}
	if isRegular(now) && holdsOnlyCopy(now.State) {
		return nil // who set them tells again when it hears of the version
	}
	next := now.Clone()
	if setRecordAttrs(next, r); sameAttrs(next, now) {
		if next.AttrAt == now.AttrAt && next.AttrBy == now.AttrBy {
			return nil
		}
		_, err := c.change(ino, func(_ *catalog.Tx, now *catalog.Inode) error {
			setAttrTime(now, r)
			return nil
		})
		return err
	}
	if err := c.dress(n, now, join(d.path, name), r); err != nil {
		return err
	}
	c.inodeChanged(ino)
	return nil
}

// dress is takeAttrs with the name kept in place; n may be nil.
func (c *Cache) dress(n *node, rec *catalog.Inode, path string, r journal.Record) error {
	if n != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.writers > 0 && inShare(rec) {
			return nil // it is being changed, and its next version has its own
		}
		if n.p != nil {
			n.p.mu.Lock()
			n.p.mtime = r.Mtime
			n.p.mu.Unlock()
		}
	}
	if !inShare(rec) {
		_, err := c.change(rec.Ino, func(_ *catalog.Tx, now *catalog.Inode) error {
			setRecordAttrs(now, r)
			now.Ctime = c.nanos()
			return nil
		})
		return err
	}
	before, err := c.share.StatSync(path)
	if isNotExist(notThere(err)) {
		return nil // the next look notices
	}
	if err != nil {
		return err
	}
	if otherFile(rec, before) || isRegular(rec) && before.Stamp() != rec.Stamp {
		return errOutside
	}
	s := attrsOf(r)
	if isRegular(rec) {
		s.Mode &= 0o1777
	}
	if err := c.setInShare(path, before, s); err != nil {
		return err
	}
	after, err := c.share.Stat(path)
	if err != nil {
		return err
	}
	_, err = c.change(rec.Ino, func(_ *catalog.Tx, now *catalog.Inode) error {
		if now.Stamp == before.Stamp() {
			now.Stamp = after.Stamp()
		}
		if isDir(now) {
			now.Mode, now.UID, now.GID = after.Mode, after.UID, after.GID
			now.Atime, now.Mtime, now.Ctime = after.Atime, after.Mtime, after.Ctime
		} else {
			setAttrs(now, after)
			now.Ctime = after.Ctime
		}
		setAttrTime(now, r)
		return nil
	})
	return err
}
