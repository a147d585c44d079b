package cache

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

// kickRemovals has the keys of an inode that lost them looked at.
func (c *Cache) kickRemovals(rec *catalog.Inode, path string) {
	if c.depot.Load() == nil {
		return
	}
	now := c.now()
	for _, o := range rec.Objects {
		c.removals.Add(o.Key, now)
	}
	key, _ := layout.Key(c.cfg.Prefix, path, isDir(rec)) // an upload may have been under way to it
	c.removals.Add(key, now)
}

// loadRemovals puts into memory what the catalog says is to be removed. What has not failed
// yet is due: a time in the future is of a clock that was set back since.
func (c *Cache) loadRemovals() {
	err := c.cat.View(func(tx *catalog.Tx) error {
		n := 0
		return tx.EachRemoval(func(r *catalog.Removal) bool {
			at := time.Unix(0, r.NotBefore)
			if now := c.now(); r.Attempts == 0 && at.After(now) {
				at = now
			}
			c.removals.Add(r.Key, at)
			n++
			return n < maxRemovals
		})
	})
	if err != nil {
		c.log.Error("read pending removals", "err", err)
	}
}

const (
	// maxRemovals bounds how many removals one look puts into memory; when they have
	// ended, the next look follows.
	maxRemovals = 10_000
	// removers is how many removals are under way at once: they are small requests
	// that wait for the store's answer.
	removers = 8
)

// removeLoop deletes objects that no file owns any more.
func (c *Cache) removeLoop(ctx context.Context) error {
	done := make(chan struct{}, removers)
	for range removers {
		if !c.spawn(func(ctx context.Context) {
			defer func() { done <- struct{}{} }()
			c.remover(ctx)
		}) {
			done <- struct{}{}
		}
	}
	for range removers {
		<-done
	}
	return ctx.Err()
}

func (c *Cache) remover(ctx context.Context) {
	for {
		key, err := c.removals.Take(ctx, 0)
		if err != nil {
			return
		}
		d := c.depot.Load()
		if d == nil {
			c.removals.Done(key, time.Time{})
			continue
		}
		if c.gone.Load() {
			c.removals.Done(key, c.now().Add(shareLook))
			continue
		}
		retry := c.removeOn(ctx, d, key)
		if ctx.Err() != nil {
			return
		}
		c.removals.Done(key, retry)
		if retry.IsZero() {
			c.changed.wake()
			if c.removals.Len() == 0 {
				c.loadRemovals()
			}
		}
	}
}

// removeKey deletes one object, unless somebody owns its key again.
func (c *Cache) removeKey(ctx context.Context, d *depot, key string) (time.Time, error) {
	unlock, err := d.keys.lock(ctx, key)
	if err != nil {
		return time.Time{}, err
	}
	defer unlock()
	var rm *catalog.Removal
	var owner Ino
	err = c.cat.View(func(tx *catalog.Tx) error {
		if rm, err = tx.Removal(key); err != nil {
			return err
		}
		owner, err = tx.KeyOwner(key)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	if wait := time.Duration(rm.NotBefore - c.nanos()); rm.Untold && rm.Attempts == 0 && wait > 0 && wait <= passedGrace {
		return c.now().Add(wait), nil
	}
	switch {
	case rm.UploadID != "":
		err = d.store.AbortMultipart(ctx, rm.Key, rm.UploadID)
		d.report(err)
	case rm.Version != "":
		err = c.abortLost(ctx, d, rm.Key, rm.Since)
		d.report(err)
	}
	if err != nil {
		return time.Time{}, err
	}
	if owner != 0 && rm.Version != "" && rm.Trash != "" {
		if err := c.clearUntold(ctx, d, rm); err != nil {
			return time.Time{}, err
		}
	}
	if owner == 0 {
		if err := c.deleteObject(ctx, d, rm); err != nil {
			return time.Time{}, err
		}
	}
	c.problems.clear("remove", rm.Path)
	return c.removed(rm)
}

// removed forgets a removal that was made. Where it asks for more by now, since a change
// record told of what is there after all, it is due again.
func (c *Cache) removed(rm *catalog.Removal) (again time.Time, _ error) {
	err := c.cat.Update(func(tx *catalog.Tx) error {
		again = time.Time{}
		now, err := tx.Removal(rm.Key)
		switch {
		case errors.Is(err, catalog.ErrNotFound):
			return nil
		case err != nil:
			return err
		case !reflect.DeepEqual(now, rm):
			again = c.now()
			return nil
		}
		return tx.DeleteRemoval(rm.Key)
	})
	return again, err
}

// deleteObject removes what is under the key of a removal, if it is one of the versions that are
// to go.
func (c *Cache) deleteObject(ctx context.Context, d *depot, rm *catalog.Removal) error {
	if err := c.deleteVersion(ctx, d, rm); err != nil {
		return err
	}
	for _, f := range rm.Former {
		one := catalog.Removal{Key: rm.Key, ETag: f.ETag, Trash: f.Trash, Path: f.Path, Size: f.Size, Untold: f.Untold}
		if err := c.deleteVersion(ctx, d, &one); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache) deleteVersion(ctx context.Context, d *depot, rm *catalog.Removal) error {
	etag, size, ours, err := c.ours(ctx, d, rm)
	if err != nil || !ours {
		return err
	}
	if err := c.tellReplaced(rm); err != nil { // first: a removal that is made is not made again
		return err
	}
	if err := c.keepDeleted(ctx, d, rm, etag, size); err != nil {
		return err
	}
	err = d.store.Delete(ctx, rm.Key, etag)
	d.report(err)
	if errors.Is(err, ErrChanged) && rm.Version == "" {
		// Others replaced it, or an attempt of ours did whose answer was lost and whose
		// record a later one has taken the place of.
		info, herr := d.store.Head(ctx, rm.Key)
		d.report(herr)
		switch {
		case errors.Is(herr, ErrNotFound):
			return nil
		case herr != nil:
			return herr
		case c.leftover(info):
			err = d.store.Delete(ctx, rm.Key, info.ETag)
			d.report(err)
		}
	}
	if errors.Is(err, ErrChanged) || errors.Is(err, ErrNotFound) {
		c.log.Info("an object was replaced by others and stays", "key", rm.Key, "err", err)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", rm.Key, err)
	}
	if dir, ok := layout.IsNameKey(c.cfg.Prefix, rm.Key); ok && !dir {
		return d.store.Delete(ctx, layout.PathKey(rm.Key), "")
	}
	if c.isHashed(rm.Key) { // of the trash: it was brought back
		return d.store.Delete(ctx, layout.PathKey(rm.Key), "")
	}
	return nil
}

// ours finds out which object under the key of a removal is to go; false for none.
func (c *Cache) ours(ctx context.Context, d *depot, rm *catalog.Removal) (etag string, size int64, _ bool, err error) {
	if rm.Version == "" {
		later, err := c.laterMarker(ctx, d, rm)
		return rm.ETag, rm.Size, err == nil && !later, err
	}
	info, err := d.store.Head(ctx, rm.Key)
	d.report(err)
	switch {
	case errors.Is(err, ErrNotFound):
		return "", 0, false, nil
	case err != nil:
		return "", 0, false, err
	case info.Metadata[metaVersion] == rm.Version, c.leftover(info): // nobody owns it: left by an attempt before the last
	case rm.ETag == "" || info.ETag != rm.ETag:
		c.log.Info("an object is not ours and stays", "key", rm.Key)
		return "", 0, false, nil
	}
	return info.ETag, info.Size, true, nil
}

// laterMarker says whether a removal is of a directory's marker, and another zone has put its
// own there since: all markers have one tag. What a tombstone says may be about a directory
// of the name before, so our own ones go whenever they were made.
func (c *Cache) laterMarker(ctx context.Context, d *depot, rm *catalog.Removal) (bool, error) {
	// A new zone is known a minute late (otherZones): so one alone asks, too.
	if !c.tells() || !strings.HasSuffix(rm.Key, "/") {
		return false, nil
	}
	g, err := c.buried(c.keyPath(rm.Key))
	if err != nil || g == nil || g.RmdirAt == 0 {
		return false, err
	}
	info, err := d.store.Head(ctx, rm.Key)
	d.report(err)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	made, ok := madeOf(info)
	return ok && made.zone != c.zoneName() && made.after(rmdirOf(g)), nil
}

func (c *Cache) removalFailed(key string, cause error) time.Time {
	var at time.Time
	path := key
	err := c.cat.Update(func(tx *catalog.Tx) error {
		rm, err := tx.Removal(key)
		if err != nil {
			return err
		}
		path = rm.Path
		at = c.now().Add(100 * time.Millisecond)
		if !errors.Is(cause, ErrUnavailable) {
			rm.Attempts++
			at = c.now().Add(backoff(rm.Attempts, maxBackoff))
		}
		rm.LastError, rm.NotBefore = clip(cause.Error(), 500), at.UnixNano()
		return tx.PutRemoval(rm)
	})
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		c.log.Error("record a failed removal", "key", key, "err", err)
		at = c.now().Add(time.Second)
	}
	c.problems.add("remove", path, cause.Error(), c.now())
	c.changed.wake()
	return at
}
