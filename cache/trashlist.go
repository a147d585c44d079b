package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"depotfs/cache/layout"
)

// TrashEntry is one deleted version that can be brought back.
type TrashEntry struct {
	Entry   string     `json:"entry"` // its name: <time>/<zone>/<path>
	Path    string     `json:"path"`  // below the mount point, when it was deleted
	Deleted time.Time  `json:"deleted"`
	Zone    string     `json:"zone"` // that deleted it
	Size    int64      `json:"size"`
	Expires *time.Time `json:"expires,omitempty"` // nil: another zone's, which sees to that itself
}

// trashed is an entry with what it takes to work on it.
type trashed struct {
	TrashEntry
	key, etag string
	modified  time.Time // when it came into the trash, by the store's clock
}

// EntryTime says of a name of the trash's entries when the deletion was; false for what
// is no such name.
func EntryTime(entry string) (time.Time, bool) {
	stamp, rest, ok := strings.Cut(entry, "/")
	zone, path, more := strings.Cut(rest, "/")
	at, err := time.Parse(keyTime, stamp)
	return at, ok && more && err == nil && zone != "" && path != ""
}

// eachTrashed calls fn for the entries of the trash, the oldest deletion first. What in
// the trash is no entry is left out.
func (c *Cache) eachTrashed(ctx context.Context, d *depot, fn func(trashed) error) error {
	return d.store.List(ctx, ListQuery{Prefix: c.trashRoot()}, func(p ListPage) error {
		for _, o := range p.Objects {
			e, ok, err := c.trashedAs(ctx, d, o)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if err := fn(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// trashedAs is the entry that an object of the trash is. The key of one whose path is no
// key has its hash, and the object the path.
func (c *Cache) trashedAs(ctx context.Context, d *depot, o ObjectInfo) (trashed, bool, error) {
	e := trashed{key: o.Key, etag: o.ETag, modified: o.Modified}
	e.Entry = strings.TrimPrefix(o.Key, c.trashRoot())
	at, ok := EntryTime(e.Entry)
	if !ok {
		return e, false, nil
	}
	_, rest, _ := strings.Cut(e.Entry, "/")
	e.Zone, _, _ = strings.Cut(rest, "/")
	e.Deleted, e.Size = at, o.Size
	path, ok, err := c.keptPath(ctx, d, o.Key)
	if err != nil || !ok {
		return e, false, err
	}
	e.Path = path
	if e.Zone == c.zoneName() {
		expires := o.Modified.Add(c.TrashRetention())
		e.Expires = &expires
	}
	return e, true, nil
}

// keptPath is the path that a key of the trash or the conflicts stands for; false where
// it is none that could be shown.
func (c *Cache) keptPath(ctx context.Context, d *depot, key string) (string, bool, error) {
	prefix := c.entryPrefix(key)
	path, dir, err := layout.Path(prefix, key)
	if prefix == "" {
		return "", false, nil
	}
	if errors.Is(err, layout.ErrPrivate) {
		if !c.isHashed(key) {
			return "", false, nil // a companion of one
		}
		path, dir, err = c.namedPathBelow(ctx, d, prefix, key)
		if errors.Is(err, ErrNotFound) {
			return "", false, nil // gone meanwhile
		}
	}
	if errors.Is(err, layout.ErrNotShowable) || err == nil && (dir || path == "") {
		return "", false, nil
	}
	return path, err == nil, err
}

// TrashList calls fn for what can be brought back, the latest deletion first: all of it,
// or what was deleted at paths and below them.
func (c *Cache) TrashList(ctx context.Context, paths []string, fn func(TrashEntry) error) error {
	d, done, err := c.using(ctx, "look into the trash")
	if err != nil {
		return err
	}
	defer done()
	all, err := c.trashAt(d.ctx, d.depot, paths)
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(all) {
		if err := fn(e.TrashEntry); err != nil {
			return err
		}
	}
	return nil
}

// trashAt are the entries at paths and below them, the oldest deletion first; of all
// where no path is given.
func (c *Cache) trashAt(ctx context.Context, d *depot, paths []string) ([]trashed, error) {
	var all []trashed
	err := c.eachTrashed(ctx, d, func(e trashed) error {
		if len(paths) == 0 || slices.ContainsFunc(paths, func(p string) bool { return atOrBelow(e.Path, p) }) {
			all = append(all, e)
		}
		return ctx.Err()
	})
	d.report(err)
	if err != nil {
		return nil, fmt.Errorf("list the trash: %w", err)
	}
	return all, nil
}

// atOrBelow says whether path is top or in it; "" is the root.
func atOrBelow(path, top string) bool {
	top = strings.Trim(top, "/")
	rest, ok := strings.CutPrefix(path, top)
	return ok && (top == "" || rest == "" || rest[0] == '/')
}

// inUse is a depot while a person's command works on it.
type inUse struct {
	*depot
	ctx context.Context
}

// using begins work on the depot for a person, who is told what to do where it cannot be
// used. The caller must call done.
func (c *Cache) using(ctx context.Context, what string) (u inUse, done func(), err error) {
	d := c.depot.Load()
	if d == nil {
		return u, nil, fmt.Errorf("cannot %s: %w: say depotfs enable, or mount with a bucket", what, ErrOff)
	}
	ctx, done = d.use(ctx)
	patience := time.NewTimer(c.cfg.Limits.ColdTimeout)
	defer patience.Stop()
	select {
	case <-d.ready:
	case <-ctx.Done():
		done()
		return u, nil, context.Cause(ctx)
	case <-patience.C: // just mounted, perhaps; no longer
		done()
		if why := c.storeTrouble(); why != "" {
			return u, nil, fmt.Errorf("cannot %s: %s", what, why)
		}
		return u, nil, fmt.Errorf("cannot %s: the store has not answered yet: try again in a moment", what)
	}
	return inUse{d, ctx}, done, nil
}
