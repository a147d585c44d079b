package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
	"depotfs/cache/layout"
)

// Files that other zones made and that are to be here before anybody asks: those of eager
// classes, small ones, and properties files, these first. That such a file is not here, and
// was never used here, is what is on record: at a start, and when the list in memory was
// full, the catalog is looked through.

const (
	// maxEager bounds the list in memory.
	maxEager = 2000
	// eagerFiles is how many of them are fetched at once.
	eagerFiles = 2
	// eagerLook is how often the catalog is looked through for those that the list had no
	// room for, or that failed.
	eagerLook = 10 * time.Minute
)

// eager is the list of files to be fetched.
type eager struct {
	mu     sync.Mutex // a leaf; guards below
	first  []Ino      // properties and small files
	rest   []Ino
	listed map[Ino]struct{}
	more   bool // there was no room for all
	wake   chan struct{}
}

func (e *eager) init() { e.listed, e.wake = map[Ino]struct{}{}, make(chan struct{}, 1) }

// add puts a file on the list.
func (e *eager) add(ino Ino, first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, there := e.listed[ino]; there {
		return
	}
	if len(e.listed) >= maxEager {
		e.more = true
		return
	}
	e.listed[ino] = struct{}{}
	if first {
		e.first = append(e.first, ino)
	} else {
		e.rest = append(e.rest, ino)
	}
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// take is the next file; 0 for none. full says that others had no room.
func (e *eager) take() (ino Ino, full bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := &e.first
	if len(*list) == 0 {
		list = &e.rest
	}
	if len(*list) == 0 {
		full, e.more = e.more, false
		return 0, full
	}
	ino = (*list)[0]
	*list = (*list)[1:]
	return ino, false
}

// done takes a file that was taken off the list for good.
func (e *eager) done(ino Ino) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.listed, ino)
}

// wantsEagerly says whether a file is to be fetched before anybody asks, and before others.
func (c *Cache) wantsEagerly(rec *catalog.Inode, path string) (yes, first bool) {
	if !isRegular(rec) || rec.State != Remote && rec.State != Partial || len(rec.Links) == 0 ||
		rec.Origin == "" || rec.Origin == c.zoneName() {
		return false, false
	}
	first = layout.AlwaysResident(path, rec.Size)
	return first || c.rules.Of(path).Eager && rec.LastUsed == 0, first
}

// wantEagerly puts a file that another zone made on the list, if it is to be here.
func (c *Cache) wantEagerly(rec *catalog.Inode, path string) {
	if yes, first := c.wantsEagerly(rec, path); yes {
		c.eager.add(rec.Ino, first)
	}
}

// findEager looks through the catalog.
func (c *Cache) findEager() error {
	for next := catalog.Root; ; {
		n := 0
		if err := c.cat.View(func(tx *catalog.Tx) error {
			return tx.EachInode(next, func(r *catalog.Inode) bool {
				next = r.Ino + 1
				n++
				if isRegular(r) && (r.State == Remote || r.State == Partial) && len(r.Links) > 0 {
					if dir, err := dirPath(tx, r.Links[0].Parent); err == nil {
						c.wantEagerly(r, join(dir, r.Links[0].Name))
					}
				}
				return n < 5000
			})
		}); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

// eagerLoop fetches what is on the list, a few files at a time.
func (c *Cache) eagerLoop(ctx context.Context) error {
	if err := c.findEager(); err != nil {
		c.log.Error("look for files to fetch", "err", err)
	}
	slots := make(chan struct{}, eagerFiles)
	look := time.NewTicker(eagerLook)
	defer look.Stop()
	for {
		ino, full := c.eager.take()
		if ino == 0 {
			if full {
				if err := c.findEager(); err != nil {
					c.log.Error("look for files to fetch", "err", err)
				}
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.eager.wake:
			case <-look.C:
				if err := c.findEager(); err != nil {
					c.log.Error("look for files to fetch", "err", err)
				}
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !c.spawn(func(ctx context.Context) {
			defer func() { <-slots }()
			c.fetchEagerly(ctx, ino)
		}) {
			return ctx.Err()
		}
	}
}

// fetchEagerly brings one file here, or puts it back on the list after a while.
func (c *Cache) fetchEagerly(ctx context.Context, ino Ino) {
	for failed := uint32(0); ; {
		err := c.bringEagerly(ctx, ino)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrStale) || errors.Is(err, ErrGone) || isNotExist(err) {
			c.eager.done(ino)
			return
		}
		failed++
		if failed > 3 { // others go first; the next look finds it
			c.eager.done(ino)
			return
		}
		select {
		case <-time.After(backoff(failed, time.Minute)):
		case <-ctx.Done():
			return
		}
	}
}

func (c *Cache) bringEagerly(ctx context.Context, ino Ino) error {
	d := c.depot.Load()
	if d == nil {
		return ErrOff
	}
	if err := d.admit(ctx); err != nil {
		return err
	}
	n := c.acquire(ino)
	defer c.drop(n)
	wanted := false
	for try := 0; ; try++ {
		err := c.withName(ino, false, func(rec *catalog.Inode, path string) error {
			var small bool
			if wanted, small = c.wantsEagerly(rec, path); !wanted {
				return nil
			}
			if !small && c.excess() > 0 {
				wanted = false // what is in use here is worth more
				return nil
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			return c.load(n, rec, path)
		})
		if errors.Is(err, errOutside) && try < maxLooks {
			if err := c.lookAtInode(ino); err != nil {
				return err
			}
			continue
		}
		if err != nil || !wanted {
			return err
		}
		break
	}
	if n.whole.Load() {
		return nil
	}
	if err := c.fetchWhole(ctx, n, fetch.Background, true); err != nil {
		return err
	}
	c.used.Store(ino, c.nanos())
	return nil
}
