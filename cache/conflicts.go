package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"depotfs/cache/layout"
	"depotfs/cache/share"
)

// ConflictEntry is a version that lost its name to another one and was kept.
type ConflictEntry struct {
	Entry  string    `json:"entry"` // its name: <zone>/<time>/<path>; of one in the cache directory share:<time>/<path>
	Path   string    `json:"path"`  // below the mount point
	Kept   time.Time `json:"kept"`  // since when
	Zone   string    `json:"zone"`  // that kept it
	Size   int64     `json:"size"`
	Where  string    `json:"where"`  // depot, share
	Reason string    `json:"reason"` // why it lost
}

// conflict is an entry with what it takes to work on it.
type conflict struct {
	ConflictEntry
	key      string // of the depot; "" = in the share
	modified time.Time
}

// shareEntry begins the names of entries that are in the share: no zone's name has a colon.
const shareEntry = "share:"

// headers is how many entries are asked at once for what their keys do not say.
const headers = 16

// ConflictList calls fn for what all zones have kept in the depot and this one in the
// share, the latest first.
func (c *Cache) ConflictList(ctx context.Context, fn func(ConflictEntry) error) error {
	all, err := c.shareConflicts()
	if err != nil {
		return err
	}
	if c.depot.Load() != nil { // without one those in the share are all that there are
		d, done, err := c.using(ctx, "list conflicts")
		if err != nil {
			return err
		}
		defer done()
		inDepot, err := c.depotConflicts(d.ctx, d.depot)
		if err == nil {
			err = c.readReasons(d.ctx, d.depot, inDepot)
		}
		if err != nil {
			return fmt.Errorf("list conflicts: %w", err)
		}
		all = append(all, inDepot...)
	}
	slices.SortFunc(all, func(a, b conflict) int { return cmp.Or(b.Kept.Compare(a.Kept), cmp.Compare(a.Entry, b.Entry)) })
	for _, e := range all {
		if err := fn(e.ConflictEntry); err != nil {
			return err
		}
	}
	return nil
}

// depotConflicts lists what is kept in the depot, reasons apart.
func (c *Cache) depotConflicts(ctx context.Context, d *depot) ([]conflict, error) {
	var all []conflict
	err := d.store.List(ctx, ListQuery{Prefix: c.conflictRoot()}, func(p ListPage) error {
		for _, o := range p.Objects {
			e := conflict{key: o.Key, modified: o.Modified}
			e.Entry, e.Size, e.Where = strings.TrimPrefix(o.Key, c.conflictRoot()), o.Size, "depot"
			zone, rest, _ := strings.Cut(e.Entry, "/")
			stamp, _, ok := strings.Cut(rest, "/")
			at, err := time.Parse(keyTime, stamp)
			if !ok || err != nil {
				continue // not put there by depotfs
			}
			path, ok, err := c.keptPath(ctx, d, o.Key)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			e.Zone, e.Kept, e.Path = zone, at, path
			all = append(all, e)
		}
		return ctx.Err()
	})
	d.report(err)
	return all, err
}

// readReasons asks the objects why they lost.
func (c *Cache) readReasons(ctx context.Context, d *depot, all []conflict) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(headers)
	var mu sync.Mutex // guards all
	for i := range all {
		g.Go(func() error {
			info, err := d.store.Head(ctx, all[i].key)
			d.report(err)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			all[i].Reason = info.Metadata[metaConflict]
			return nil
		})
	}
	return g.Wait()
}

// shareConflicts lists what is kept in the share.
func (c *Cache) shareConflicts() ([]conflict, error) {
	var all []conflict
	err := c.share.ReadDir(share.ConflictDir, func(stamp string, _ uint64, _ uint32) error {
		at, err := time.Parse(keyTime, stamp)
		if err != nil {
			return nil
		}
		top := share.ConflictDir + "/" + stamp
		return c.shareConflictsIn(top, func(path string, st share.Stat) {
			path = strings.TrimPrefix(path, top+"/")
			e := conflict{ConflictEntry: ConflictEntry{Entry: shareEntry + stamp + "/" + path, Path: path, Kept: at,
				Zone: c.zoneName(), Size: st.Size, Where: "share", Reason: lostHere}}
			all = append(all, e)
		})
	})
	if errors.Is(notThere(err), iofs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("list conflicts in the cache directory: %w", err)
	}
	return all, nil
}

func (c *Cache) shareConflictsIn(dir string, fn func(path string, st share.Stat)) error {
	return c.share.ReadDir(dir, func(name string, _ uint64, typ uint32) error {
		path := join(dir, name)
		if typ == syscall.S_IFDIR {
			return c.shareConflictsIn(path, fn)
		}
		st, err := c.share.Stat(path)
		if errors.Is(err, iofs.ErrNotExist) {
			return nil
		}
		if err == nil {
			fn(path, st)
		}
		return err
	})
}

// noConflict is the answer for names that the conflicts do not have.
const noConflict = "there is no such conflict: see depotfs conflicts list"

// conflictPlace is where an entry is: a key of the depot, or a path of the share.
func (c *Cache) conflictPlace(entry string) (key, rel string, err error) {
	name, inShare := strings.CutPrefix(entry, shareEntry)
	if path, dir, perr := layout.ParsePath(name); perr != nil || dir || strings.Count(path, "/") < 1 {
		return "", "", fmt.Errorf("%q: %s", entry, noConflict)
	}
	if inShare {
		return "", share.ConflictDir + "/" + name, nil
	}
	return c.conflictRoot() + name, "", nil
}

// ConflictOpen opens the bytes of an entry; the caller closes them.
func (c *Cache) ConflictOpen(ctx context.Context, entry string) (body io.ReadCloser, size int64, err error) {
	key, rel, err := c.conflictPlace(entry)
	if err != nil {
		return nil, 0, err
	}
	if rel != "" {
		f, err := c.share.OpenFile(rel, syscall.O_RDONLY, 0)
		if err != nil {
			if errors.Is(err, iofs.ErrNotExist) {
				err = fmt.Errorf("%q: %s", entry, noConflict)
			}
			return nil, 0, err
		}
		st, err := c.share.StatFile(f, true)
		if err != nil {
			f.Close()
		}
		return f, st.Size, err
	}
	d, done, err := c.using(ctx, "get a conflict's version")
	if err != nil {
		return nil, 0, err
	}
	body, info, err := d.store.Get(d.ctx, key, 0, -1, "")
	d.report(err)
	if err != nil {
		done()
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%q: %s", entry, noConflict)
		}
		return nil, 0, err
	}
	return &usedBody{body, done}, info.Size, nil
}

// usedBody ends the use of the depot when it is closed.
type usedBody struct {
	io.ReadCloser
	done func()
}

// Close implements io.Closer.
func (b *usedBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

// ConflictDrop deletes entries for good: those named, or all that were kept for at least
// olderThan.
func (c *Cache) ConflictDrop(ctx context.Context, entries []string, olderThan time.Duration) (Purged, []NotDone, error) {
	var sum Purged
	all, err := c.shareConflicts()
	if err != nil {
		return sum, nil, err
	}
	needsDepot := olderThan > 0 || slices.ContainsFunc(entries, func(e string) bool { return !strings.HasPrefix(e, shareEntry) })
	var d inUse
	if needsDepot && (c.depot.Load() != nil || olderThan == 0) {
		var done func()
		if d, done, err = c.using(ctx, "drop conflicts"); err != nil {
			return sum, nil, err
		}
		defer done()
		inDepot, err := c.depotConflicts(d.ctx, d.depot)
		if err != nil {
			return sum, nil, fmt.Errorf("list conflicts: %w", err)
		}
		all = append(all, inDepot...)
	}
	named := map[string]bool{}
	for _, e := range entries {
		named[e] = true
	}
	before := time.Unix(0, c.storeNanos()).Add(-olderThan)
	var keys []string
	for _, e := range all {
		if !named[e.Entry] && (olderThan == 0 || e.Kept.After(before)) {
			continue
		}
		delete(named, e.Entry)
		if e.key != "" {
			keys = append(keys, e.key)
		} else if err := c.dropShareConflict(e.Entry); err != nil {
			return sum, nil, err
		}
		sum.Entries++
		sum.Bytes += e.Size
		c.problems.clear("conflict", e.Path)
	}
	var left []NotDone
	for _, e := range entries {
		if named[e] {
			left = append(left, NotDone{Path: e, Reason: noConflict})
		}
	}
	if len(keys) > 0 {
		if err := c.deleteKept(d.ctx, d.depot, keys); err != nil {
			return sum, left, fmt.Errorf("drop conflicts: %w", err)
		}
	}
	c.trash.conflicts(-sum.Entries, -sum.Bytes)
	return sum, left, nil
}

// dropShareConflict removes one file, and the directories that were made for it.
func (c *Cache) dropShareConflict(entry string) error {
	rel := share.ConflictDir + "/" + strings.TrimPrefix(entry, shareEntry)
	if err := c.share.Unlink(rel); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("drop %s: %w", entry, err)
	}
	for rel = parentPath(rel); rel != share.ConflictDir; rel = parentPath(rel) {
		if c.share.Rmdir(rel) != nil {
			return nil // another one is in it
		}
	}
	return nil
}
