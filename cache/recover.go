package cache

import (
	"errors"
	"fmt"
	iofs "io/fs"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// recover finishes or undoes what an unclean stop interrupted. It runs before
// anything else uses share or catalog. Every step may itself be interrupted and
// repeated.
func (c *Cache) recover() error {
	if err := c.openProof(); err != nil {
		return fmt.Errorf("open the clean log: %w", err)
	}
	var intents []*catalog.Intent
	if err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachIntent(func(i *catalog.Intent) bool { intents = append(intents, i); return true })
	}); err != nil {
		return fmt.Errorf("read intents: %w", err)
	}
	for _, in := range intents {
		if err := c.redo(in); err != nil {
			return fmt.Errorf("recover from an interrupted change of %q: %w", in.From, err)
		}
	}
	if err := c.dropOrphans(); err != nil {
		return fmt.Errorf("remove files that were unlinked while open: %w", err)
	}
	if c.cat.Unclean() && !c.cat.New() {
		if err := c.recheckDirty(); err != nil {
			return fmt.Errorf("look for files that a crash took: %w", err)
		}
	}
	if err := c.adoptPartials(); err != nil {
		return fmt.Errorf("look through partial files: %w", err)
	}
	done, err := c.setting(settingListed)
	c.listed.Store(done != "")
	return err
}

// redo ends one intent: forwards when the share has already changed, else backwards.
func (c *Cache) redo(in *catalog.Intent) error {
	drop := func() error { return c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteIntent(in.Seq) }) }
	there := func(path string) (share.Stat, bool) {
		st, err := c.share.Stat(path)
		return st, err == nil
	}
	from, isFrom := there(in.From)
	to, isTo := share.Stat{}, false
	if in.To != "" {
		to, isTo = there(in.To)
	}
	switch in.Kind {
	case catalog.IntentUnlink:
		rec, err := c.record(in.Ino)
		if errors.Is(err, ErrStale) {
			return drop()
		}
		if err != nil {
			return err
		}
		if isFrom && (in.ShareIno == 0 || from.Ino == in.ShareIno) {
			return drop() // not done
		}
		d, err := c.lookDir(in.OldParent)
		if err != nil {
			return err
		}
		if isDir(rec) {
			return c.forgetDir(d, rec, in.OldName, in.From, in, author(in.Zone == ""))
		}
		return c.forgetName(d, in.Ino, in.OldName, in.From, false, in, byUs)
	case catalog.IntentOrphan:
		if isFrom && from.Ino == in.ShareIno || !isTo {
			return drop()
		}
		d, err := c.lookDir(in.OldParent)
		if errors.Is(err, ErrStale) {
			return drop()
		}
		if err != nil {
			return err
		}
		err = c.forgetName(d, in.Ino, in.OldName, in.From, false, in, byUs)
		if errors.Is(err, ErrStale) {
			return drop()
		}
		return err
	case catalog.IntentPromote:
		if isFrom && isTo && from.Ino == to.Ino {
			// A share without rename flags has both names for a moment.
			if err := c.share.Unlink(in.From); err != nil {
				return err
			}
			isFrom = false
		}
		if isFrom || !isTo {
			return drop()
		}
		_, err := c.change(in.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
			if !resident(r.State) {
				if err := becomeWhole(tx, r, to); err != nil {
					return err
				}
				if err := c.putQueue(tx, r, 0, false); err != nil {
					return err
				}
			}
			return tx.DeleteIntent(in.Seq)
		})
		if errors.Is(err, ErrStale) {
			return drop()
		}
		if err == nil {
			err = share.RemoveSidecar(c.share, uint64(in.Ino))
		}
		return err
	case catalog.IntentEvict:
		if isTo && !isFrom {
			if err := c.share.Rename(in.To, in.From, share.NoReplace); err != nil {
				return err
			}
			// The rename moved ctime: a clean file's stamp follows.
			if st, ok := there(in.From); ok {
				if _, err := c.change(in.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
					if s := st.Stamp(); s.Ino == r.Stamp.Ino && s.Size == r.Stamp.Size && s.Mtime == r.Stamp.Mtime {
						r.Stamp = s
					}
					return nil
				}); err != nil && !errors.Is(err, ErrStale) {
					return err
				}
			}
		}
		return drop()
	case catalog.IntentRename, catalog.IntentExchange:
		return c.redoMove(in, isFrom && from.Ino == in.ShareIno, isTo && to.Ino == in.ShareIno)
	}
	return fmt.Errorf("unknown kind %d of intent: %w", in.Kind, catalog.ErrNewer)
}

// redoMove finishes a rename that the share has done, and undoes one that it has not.
// atFrom and atTo say where in the share the inode that was to move is.
func (c *Cache) redoMove(in *catalog.Intent, atFrom, atTo bool) error {
	drop := func() error { return c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteIntent(in.Seq) }) }
	m := move{oldName: in.OldName, name: in.NewName, oldPath: in.From, path: in.To, exchange: in.Kind == catalog.IntentExchange,
		by: author(in.Zone == ""), at: in.Time, zone: in.Zone, remade: in.Remade}
	var err error
	if m.src, err = c.record(in.Ino); err == nil {
		if m.from, err = c.lookDir(in.OldParent); err == nil {
			m.to, err = c.lookDir(in.NewParent)
		}
	}
	if err == nil && in.Victim != 0 {
		m.dst, err = c.record(in.Victim)
	}
	if errors.Is(err, ErrStale) {
		return drop()
	}
	if err != nil {
		return err
	}
	if m.exchange && !inShare(m.src) { // the other side was to move, the other way
		atFrom, atTo = atTo, atFrom
	}
	if in.ShareIno != 0 && (atFrom || !atTo) {
		return drop()
	}
	if in.ShareIno == 0 && m.dst != nil && !m.exchange && inShare(m.dst) {
		// A remote file over one in the share: done when that one is gone.
		if _, err := c.share.Stat(in.To); err == nil {
			return drop()
		}
	}
	return c.moveInCatalog(&m, false, in)
}

// dropOrphans removes what was unlinked while it was open.
func (c *Cache) dropOrphans() error {
	var orphans []Ino
	next := catalog.Root
	for more := true; more; {
		more = false
		if err := c.cat.View(func(tx *catalog.Tx) error {
			n := 0
			return tx.EachInode(next, func(r *catalog.Inode) bool {
				next, more = r.Ino+1, true
				if r.Flags&catalog.FlagOrphan != 0 {
					orphans = append(orphans, r.Ino)
				}
				n++
				return n < 10_000
			})
		}); err != nil {
			return err
		}
	}
	for _, ino := range orphans {
		if err := c.cat.Update(func(tx *catalog.Tx) error {
			r, err := inode(tx, ino)
			if err != nil {
				return err
			}
			if err := c.bequeath(tx, r); err != nil {
				return err
			}
			if err := c.disownOrphan(tx, r); err != nil {
				return err
			}
			return tx.DeleteInode(ino)
		}); err != nil && !errors.Is(err, ErrStale) {
			return err
		}
		for _, p := range []string{share.PartialPath(uint64(ino)), share.SidecarPath(uint64(ino))} {
			if err := c.share.Unlink(p); err != nil && !errors.Is(err, iofs.ErrNotExist) {
				return err
			}
		}
	}
	for _, dir := range []string{share.OpenDir, share.EvictDir} { // intents are ended: nobody claims these
		if err := c.share.ReadDir(dir, func(name string, _ uint64, _ uint32) error {
			return c.share.Unlink(dir + "/" + name)
		}); err != nil {
			return err
		}
	}
	return nil
}

// recheckDirty looks, after an unclean stop, at what the catalog says is only here.
// A file that the share does not have was never fsynced: its name goes. One that
// has another stamp than we noted is as its last writer left it. What was adopted,
// a whole share perhaps, is looked at when its turn comes, unless it was open for writing.
func (c *Cache) recheckDirty() error {
	var dirty []*catalog.Inode
	if err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachQueue(func(it *catalog.QueueItem) bool {
			if r, err := tx.Inode(it.Ino); err == nil && holdsOnlyCopy(r.State) && len(r.Links) > 0 && r.Flags&(catalog.FlagAdopted|catalog.FlagWriting) != catalog.FlagAdopted {
				dirty = append(dirty, r)
			}
			return true
		})
	}); err != nil {
		return err
	}
	for _, r := range dirty {
		path, err := c.pathOf(r)
		if err != nil {
			continue
		}
		if r.State == PartialDirty {
			if err := c.recheckPartial(r, path); err != nil {
				return err
			}
			continue
		}
		st, err := c.share.Stat(path)
		switch {
		case err == nil && st.IsRegular():
			if _, err := c.change(r.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
				wasWritten(r, st)
				setAttrs(r, st)
				if r.Stamp != st.Stamp() {
					r.Stamp = st.Stamp()
					c.noteFinished(r, c.nanos())
				}
				return nil
			}); err != nil {
				return err
			}
		case errors.Is(err, iofs.ErrNotExist) && r.Base.Gen == 0 && r.Flags&catalog.FlagAdopted == 0:
			d, err := c.lookDir(r.Links[0].Parent)
			if err != nil {
				return err
			}
			c.log.Warn("a file was never made durable before the crash and is gone", "path", path)
			if err := c.forgetName(d, r.Ino, r.Links[0].Name, path, false, nil, byUs); err != nil {
				return err
			}
		case err != nil && !errors.Is(err, iofs.ErrNotExist):
			return err
		}
	}
	return nil
}

// recheckPartial brings the record of a file that was being written in part in
// line with its sidecar.
func (c *Cache) recheckPartial(r *catalog.Inode, path string) error {
	n := c.acquire(r.Ino)
	defer c.drop(n) // saves the extents
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := c.loadPartial(n, r, path); err != nil {
		return err
	}
	n.p.fresh = max(n.p.fresh, 1)
	return nil
}
