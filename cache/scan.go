package cache

import (
	"context"
	"errors"
	iofs "io/fs"
	"strings"
	"sync"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
	"depotfs/cache/share"
)

// ShareDeletes says what a file that vanished from the share without us means.
type ShareDeletes string

const (
	// RestoreDeleted: the depot has it, so it is there, remote again.
	RestoreDeleted ShareDeletes = "restore"
	// FollowDeleted: whoever works on the share directly meant it, except for
	// templates; it is deleted everywhere once two scans have missed it.
	FollowDeleted ShareDeletes = "delete"
)

const (
	// scanInterval is the period of the 2012 reaper, which operators know.
	scanInterval = time.Minute
	// hotTime is for how long a directory that was used or changed is looked at in
	// every scan.
	hotTime = 24 * time.Hour
	// maxHot bounds those; the others have to wait for their turn in the rotation.
	maxHot = 50_000
	// outsideSettle is the quiet time of files that others write: NFS clients hold
	// dirty pages back for 30 s.
	outsideSettle = 60 * time.Second
	// missingTime is how long a file must have been missing before its deletion is
	// followed: a rename on another host may show its old end first.
	missingTime = 10 * time.Minute
)

// scans is what the scanner remembers between its looks at the share. Losing it
// at a restart only makes it look again.
type scans struct {
	mu      sync.Mutex // guards below; held for moments
	hot     map[Ino]time.Time
	missing map[Ino]time.Time // when a file that the catalog has was first missed
	round   time.Time         // when the round that is under way began
	oldest  time.Time         // when the last whole round began; zero: there was none
	next    Ino               // where the rotation goes on
}

func (s *scans) init() {
	s.hot, s.missing = map[Ino]time.Time{}, map[Ino]time.Time{}
}

// heat has a directory looked at in every scan for a day.
func (s *scans) heat(dir Ino, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.hot[dir]; ok || len(s.hot) < maxHot {
		s.hot[dir] = now
	}
}

// hotDirs returns the directories of the last day and forgets older ones.
func (s *scans) hotDirs(now time.Time) []Ino {
	s.mu.Lock()
	defer s.mu.Unlock()
	var dirs []Ino
	for d, at := range s.hot {
		if now.Sub(at) > hotTime {
			delete(s.hot, d)
			continue
		}
		dirs = append(dirs, d)
	}
	return dirs
}

// scanLoop looks at the share behind the mount: every minute at what was used or
// changed within a day, and at everything else in turn within ScanFull.
func (c *Cache) scanLoop(ctx context.Context) error {
	c.warmScan()
	t := time.NewTicker(c.cfg.ScanInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if err := c.Scan(ctx, false); err != nil && ctx.Err() == nil {
			c.log.Warn("look at the share", "err", err)
		}
	}
}

// warmScan finds what was used within a day before this start.
func (c *Cache) warmScan() {
	now := c.now()
	since := now.Add(-hotTime).UnixNano()
	for next := catalog.Root; ; {
		n := 0
		if err := c.cat.View(func(tx *catalog.Tx) error {
			return tx.EachInode(next, func(r *catalog.Inode) bool {
				next = r.Ino + 1
				n++
				if len(r.Links) > 0 && max(r.LastUsed, r.Mtime, r.FinishedAt) > since {
					c.scans.heat(r.Links[0].Parent, now)
				}
				return n < 10_000
			})
		}); err != nil {
			c.log.Warn("find what was used lately", "err", err)
			return
		}
		if n == 0 {
			return
		}
	}
}

// Scan looks at the share now: at the directories of the last day and the next
// ones of the rotation, or at all.
func (c *Cache) Scan(ctx context.Context, all bool) error {
	if err := c.checkMarker(); err != nil {
		return err
	}
	start := c.now()
	dirs := c.scans.hotDirs(start)
	turn, err := c.nextDirs(all)
	if err != nil {
		return err
	}
	done := map[Ino]bool{}
	for _, d := range turn {
		c.dirSeen.Delete(d) // a change within one tick of the share's clock is found by reading
	}
	dirs = append(dirs, turn...)
	for len(dirs) > 0 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d := dirs[0]
		dirs = dirs[1:]
		if done[d] {
			continue
		}
		done[d] = true
		fresh, err := c.scanDir(ctx, d)
		dirs = append(dirs, fresh...)
		if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, iofs.ErrNotExist) {
			c.log.Warn("look at a directory of the share", "dir", d, "err", err)
		}
	}
	return nil
}

// nextDirs are the directories whose turn it is in the rotation.
func (c *Cache) nextDirs(all bool) ([]Ino, error) {
	total := c.cat.Totals().Dirs + 1
	want := int(total*int64(c.cfg.ScanInterval)/int64(c.cfg.ScanFull)) + 1
	if all {
		want = int(total) + 1
	}
	c.scans.mu.Lock()
	next := c.scans.next
	if next == 0 {
		c.scans.round = c.now()
	}
	c.scans.mu.Unlock()
	var dirs []Ino
	err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachInode(max(next, catalog.Root), func(r *catalog.Inode) bool {
			next = r.Ino + 1
			if isDir(r) && r.Flags&catalog.FlagHere != 0 && r.Flags&catalog.FlagOrphan == 0 {
				dirs = append(dirs, r.Ino)
			}
			return len(dirs) < want
		})
	})
	c.scans.mu.Lock()
	defer c.scans.mu.Unlock()
	c.scans.next = next
	if len(dirs) < want { // the end: the round is over, the next one begins
		c.scans.next, c.scans.oldest = 0, c.scans.round
	}
	return dirs, err
}

// scanDir compares one directory of the share, and the files in it, with the
// catalog. It returns the directories in it that nobody has looked at yet.
func (c *Cache) scanDir(ctx context.Context, dir Ino) (fresh []Ino, err error) {
	rec, err := c.record(dir)
	if err != nil {
		return nil, err
	}
	if !isDir(rec) {
		return nil, nil
	}
	if err := c.agree(rec); err != nil {
		return nil, err
	}
	for cookie := uint64(0); ; {
		var batch []*catalog.Inode
		n := 0
		if err := c.cat.View(func(tx *catalog.Tx) error {
			return tx.ReadDir(dir, cookie, func(e catalog.Dirent) bool {
				cookie = e.Cookie
				n++
				if r, err := tx.Inode(e.Ino); err == nil && (isDir(r) || isRegular(r)) && inShare(r) {
					batch = append(batch, r)
				}
				return n < 500
			})
		}); err != nil {
			return fresh, err
		}
		if n == 0 {
			return fresh, nil
		}
		for _, r := range batch {
			if ctx.Err() != nil {
				return fresh, ctx.Err()
			}
			if _, seen := c.dirSeen.Load(r.Ino); isDir(r) && !seen {
				fresh = append(fresh, r.Ino)
			}
			if err := c.scanFile(r); err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, iofs.ErrNotExist) {
				c.log.Warn("look at a file of the share", "path", c.pathText(r), "err", err)
			}
		}
	}
}

// scanFile compares one file or directory that should be in the share with the catalog.
func (c *Cache) scanFile(r *catalog.Inode) error {
	return c.withName(r.Ino, true, func(rec *catalog.Inode, path string) error {
		if !inShare(rec) {
			return nil
		}
		n := c.peek(rec.Ino)
		if n != nil {
			defer c.drop(n)
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.handles > 0 || n.file != nil {
				return nil // what is open, release looks at
			}
		}
		st, err := c.share.StatSync(path)
		if errors.Is(err, iofs.ErrNotExist) {
			return c.missed(rec, path)
		}
		c.scans.mu.Lock()
		delete(c.scans.missing, rec.Ino)
		c.scans.mu.Unlock()
		if err != nil || isDir(rec) {
			return err
		}
		if !st.IsRegular() {
			c.problems.add("share", path, "others put something here that is no regular file", c.now())
			return nil
		}
		if st.Stamp() == rec.Stamp {
			return nil
		}
		if rec.State == Clean {
			c.scans.heat(rec.Links[0].Parent, c.now())
			return c.touchedOutside(rec, path, st)
		}
		return c.writtenOutside(rec, path, st)
	})
}

// writtenOutside notes that others go on writing a file that is dirty anyway.
func (c *Cache) writtenOutside(rec *catalog.Inode, path string, st share.Stat) error {
	now := c.nanos()
	r, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		setAttrs(r, st)
		r.Stamp, r.FinishedAt = st.Stamp(), now
		r.Flags |= catalog.FlagAdopted
		return c.enqueue(tx, r, path)
	})
	if err != nil {
		return err
	}
	c.kickRec(r)
	c.inodeChanged(rec.Ino)
	return nil
}

// missed is called when the share, whose marker is there, does not have what the
// catalog says is there.
func (c *Cache) missed(rec *catalog.Inode, path string) error {
	if isDir(rec) {
		return c.missedDir(rec, path)
	}
	// Where the directory is missing too, nobody has said anything about the file.
	_, err := c.share.StatSync(parentPath(path))
	follow := err == nil && c.cfg.ShareDeletes == FollowDeleted && !strings.HasPrefix(path, "template/")
	lost := len(rec.Objects) == 0 || rec.Base.Gen == 0
	if !follow && !lost {
		_, err := c.vanished(rec, path)
		return err
	}
	now := c.now()
	c.scans.mu.Lock()
	since, ok := c.scans.missing[rec.Ino]
	if !ok {
		c.scans.missing[rec.Ino] = now
	}
	c.scans.mu.Unlock()
	c.scans.heat(rec.Links[0].Parent, now)
	if !ok || now.Sub(since) < missingTime {
		return nil
	}
	if lost {
		c.log.Error("a file that was not uploaded yet was removed from the share", "path", path, "size", rec.Size)
	} else {
		c.log.Info("a file was removed from the share; it is deleted everywhere", "path", path)
	}
	d, err := c.lookDir(rec.Links[0].Parent)
	if err != nil {
		return err
	}
	intent := &catalog.Intent{}
	if err := c.forgetName(d, rec.Ino, rec.Links[0].Name, path, false, intent); err != nil {
		return err
	}
	c.kickRemovals(rec, path)
	c.entryChanged(d.rec.Ino, rec.Links[0].Name)
	c.changed.wake()
	return nil
}

// missedDir notes that a directory is not in the share any more; what the depot
// has in it is remote, and the directory is made again when it is needed.
func (c *Cache) missedDir(rec *catalog.Inode, path string) error {
	_, err := c.change(rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		r.Flags &^= catalog.FlagHere
		return nil
	})
	c.dirSeen.Delete(rec.Ino) // what is in it is looked at next
	if err == nil {
		c.log.Warn("a directory vanished from the share", "path", path)
	}
	return err
}

// checkMarker makes sure that the share is still the one that we know. Without
// it an empty directory would pass for a share whose files were all removed.
func (c *Cache) checkMarker() error {
	m, err := share.ReadMarker(c.share)
	known, serr := c.setting(settingShare)
	if serr != nil {
		return serr
	}
	switch {
	case errors.Is(err, iofs.ErrNotExist), err == nil && m.ShareID != known:
		c.gone.Store(true)
		c.problems.add("share", share.MarkerPath, "the share is not mounted, or is another one: nothing is changed until it is back", c.now())
		return ErrMarker
	case err != nil:
		return err
	}
	if c.gone.Swap(false) {
		c.problems.clear("share", share.MarkerPath)
		c.log.Info("the share is back")
	}
	return nil
}

// settleFor is the quiet time of one file.
func (c *Cache) settleFor(rec *catalog.Inode, cl layout.Class) time.Duration {
	if c.cfg.Settle == nil && rec.Flags&catalog.FlagAdopted != 0 {
		return max(cl.Settle, outsideSettle)
	}
	return c.settle(cl)
}

// oldestCheck is for how many seconds some part of the share may not have been
// looked at.
func (c *Cache) oldestCheck() float64 {
	c.scans.mu.Lock()
	oldest := c.scans.oldest
	c.scans.mu.Unlock()
	if oldest.IsZero() {
		oldest = c.since
	}
	return c.now().Sub(oldest).Seconds()
}
