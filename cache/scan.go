package cache

import (
	"context"
	"errors"
	iofs "io/fs"
	"sync"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
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
		if err := c.Scan(ctx, false); err != nil && !errors.Is(err, ErrMarker) && ctx.Err() == nil {
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
	defer func() {
		if err := c.followMoves(); err != nil {
			c.log.Warn("follow what others renamed", "err", err)
		}
	}()
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
		var batch []scanned
		n := 0
		if err := c.cat.View(func(tx *catalog.Tx) error {
			return tx.ReadDir(dir, cookie, func(e catalog.Dirent) bool {
				cookie = e.Cookie
				n++
				if r, err := tx.Inode(e.Ino); err == nil && (inShare(r) || c.scans.misses(r.Ino)) {
					batch = append(batch, scanned{e.Name, isDir(r), r.Ino})
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
			if err := c.lookAtName(dir, r.name); err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, iofs.ErrNotExist) && !errors.Is(err, errUnsettled) {
				c.log.Warn("look at a file of the share", "path", join(c.pathText(rec), r.name), "err", err)
			}
			if _, seen := c.dirSeen.Load(r.ino); r.dir && !seen {
				fresh = append(fresh, r.ino)
			}
		}
	}
}

// scanned is one name that the scanner looks at.
type scanned struct {
	name string
	dir  bool
	ino  Ino
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
