package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
	"depotfs/cache/layout"
)

const (
	// settingRelisted is when the depot was last listed whole (RFC 3339). Zones tell each
	// other what they do: a listing is for what other tools put there, or took away.
	settingRelisted = "relisted"
	// settingMissing begins the name of the setting that says since when an object that is
	// on record was missing in a listing (RFC 3339).
	settingMissing = "missing/"
	// relistLook is how often it is asked whether a listing is due.
	relistLook = time.Minute
	// relistSoonest is the least time between two listings, whatever asks for one.
	relistSoonest = 10 * time.Minute
	// relistFresh is how old an object must be to be news: of younger ones the journals
	// tell, and our own are recorded.
	relistFresh = 15 * time.Minute
	// massLoss and massShare are from when on missing objects are an accident with the
	// bucket and not somebody's wish: their names stay.
	massLoss  = 20
	massShare = 10 // per cent of the objects on record
)

// relistLoop lists the depot now and then.
func (c *Cache) relistLoop(ctx context.Context) error {
	look := time.NewTicker(relistLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		if err := c.relistOn(ctx); err != nil && ctx.Err() == nil {
			c.problems.add("import", "", "list the depot: "+err.Error(), c.now())
			c.log.Warn("list the depot", "err", err)
		}
	}
}

func (c *Cache) relistOn(ctx context.Context) error {
	d := c.depot.Load()
	if d == nil || !d.joined() || !c.listed.Load() || c.gone.Load() {
		return nil
	}
	at, err := c.setting(settingRelisted)
	if err != nil {
		return err
	}
	if at == "" {
		at, err = c.setting(settingListed)
	}
	last, perr := time.Parse(time.RFC3339, at)
	age := c.now().Sub(last)
	if err != nil || perr == nil && (age < relistSoonest || age < c.cfg.ListInterval && !c.relistWanted.Load()) {
		return err
	}
	ctx, done := d.use(ctx)
	defer done()
	if err := d.admit(ctx); err != nil {
		return err
	}
	err = c.relist(ctx, d)
	if errors.Is(context.Cause(ctx), ErrOff) {
		return nil
	}
	return err
}

// relisting is one listing that is compared with what is on record.
type relisting struct {
	began   time.Time
	fresh   time.Time // objects that are younger are none of its business
	last    string    // key up to which both were compared
	objects int
	missing []string
	before  map[string]bool // keys that the listing before lacked
}

// relist compares the depot with what is on record of it.
func (c *Cache) relist(ctx context.Context, d *depot) error {
	f, err := readDepotFile(ctx, d.store, c.cfg.Prefix)
	if err == nil {
		_, err = c.checkDepot(f)
	}
	if err != nil { // emptied, or another one: what it lacks says nothing
		return err
	}
	c.relistWanted.Store(false)
	l := &relisting{began: c.now(), before: map[string]bool{}}
	if err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachSetting(settingMissing, func(name string, _ []byte) bool {
			l.before[strings.TrimPrefix(name, settingMissing)] = true
			return true
		})
	}); err != nil {
		return err
	}
	l.fresh = time.Unix(0, c.storeNanos()).Add(-relistFresh)
	err = d.store.List(ctx, ListQuery{Prefix: c.cfg.Prefix}, func(p ListPage) error { return c.relistPage(ctx, d, l, p.Objects, false) })
	if err == nil {
		err = c.relistPage(ctx, d, l, nil, true)
	}
	d.report(err)
	if err != nil {
		return err
	}
	if err := c.missedObjects(ctx, d, l); err != nil {
		return err
	}
	c.log.Info("depot listed again", "objects", l.objects, "missing", len(l.missing), "dur", c.now().Sub(l.began))
	c.problems.clear("import", "")
	return c.putSetting(settingRelisted, l.began.UTC().Format(time.RFC3339))
}

// relistPage compares one page, and what is on record between it and the one before; end
// is behind the last page.
func (c *Cache) relistPage(ctx context.Context, d *depot, l *relisting, objects []ObjectInfo, end bool) error {
	if len(objects) == 0 && !end {
		return nil
	}
	owners, err := c.ownersBetween(l, objects, end)
	if err != nil {
		return err
	}
	for _, o := range objects {
		ino, owned := owners[o.Key]
		delete(owners, o.Key)
		l.objects++
		if o.Modified.After(l.fresh) {
			continue
		}
		if !owned {
			err = c.foundObject(ctx, d, o)
		} else {
			if l.before[o.Key] {
				if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteSetting(settingMissing + o.Key) }); err != nil {
					return err
				}
			}
			err = c.compareObject(ctx, d, ino, o)
		}
		if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
	}
	for key := range owners {
		l.missing = append(l.missing, key)
	}
	return nil
}

// ownersBetween returns the keys on record that a page of the listing should have.
func (c *Cache) ownersBetween(l *relisting, objects []ObjectInfo, end bool) (map[string]Ino, error) {
	owners := map[string]Ino{}
	first := l.last
	if !end {
		l.last = objects[len(objects)-1].Key
	}
	err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachKeyOwner(first, func(key string, ino Ino) bool {
			if !end && key > l.last {
				return false
			}
			owners[key] = ino
			return true
		})
	})
	return owners, err
}

// foundObject takes in what another tool put into the bucket.
func (c *Cache) foundObject(ctx context.Context, d *depot, o ObjectInfo) error {
	path, dir, err := layout.Path(c.cfg.Prefix, o.Key)
	if err == nil && path != "" {
		dead := false
		if err := c.cat.View(func(tx *catalog.Tx) error {
			t, err := tx.Tombstone(path)
			dead = err == nil && (!dir && t.Time >= o.Modified.UnixNano() || dir && t.RmdirAt >= o.Modified.UnixNano())
			if errors.Is(err, catalog.ErrNotFound) {
				return nil
			}
			return err
		}); err != nil || dead {
			return err
		}
	}
	return c.importObject(ctx, d, o)
}

// compareObject looks for an object that another tool has replaced.
func (c *Cache) compareObject(ctx context.Context, d *depot, ino Ino, o ObjectInfo) error {
	rec, err := c.record(ino)
	if err != nil || !isRegular(rec) || holdsOnlyCopy(rec.State) || len(rec.Links) == 0 {
		return err
	}
	cur, ok := currentObject(rec)
	if !ok || cur.Key != o.Key || cur.ETag == o.ETag {
		return nil
	}
	info, err := d.store.Head(ctx, o.Key)
	d.report(err)
	if err != nil || info.ETag == cur.ETag || isOneOf(info, c.versionMark(rec.Base.Gen)) {
		return ignoreNotFound(err)
	}
	a, err := layout.Decode(info.Metadata)
	if err != nil {
		c.log.Warn("metadata that is not understood", "key", o.Key, "err", err)
	}
	r := journal.Record{Op: journal.Put, Path: c.pathText(rec), Time: info.Modified.UnixNano(), Key: o.Key, ETag: info.ETag, VersionID: info.VersionID,
		Size: info.Size, CRC64: info.CRC64, HasCRC: info.HasCRC64, Mode: rec.Mode, UID: rec.UID, GID: rec.GID, Mtime: info.Modified.UnixNano()}
	if a.Mode != 0 {
		r.Mode = a.Mode&0o1777 | rec.Mode&^0o7777
	}
	if a.HasOwner {
		r.UID, r.GID = a.UID, a.GID
	}
	if a.HasMtime {
		r.Mtime = a.Mtime
	}
	c.log.Info("an object was replaced by another tool", "key", o.Key, "size", info.Size)
	return c.applyRecord(ctx, d, r)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// missedObjects decides about objects that are on record and were not listed. While their bytes
// are here, they stay; names whose bytes are nowhere go when two listings lacked them.
func (c *Cache) missedObjects(ctx context.Context, d *depot, l *relisting) error {
	if n := len(l.missing); n > massLoss && n*100 > massShare*(l.objects+n) {
		why := fmt.Sprintf("%d of %d objects that are on record are missing in the bucket: nothing is deleted here for that; if somebody emptied it, bring them back", n, l.objects+n)
		c.problems.add("held", "", why, c.now())
		c.log.Error("the bucket lacks much of the depot", "missing", n, "there", l.objects)
		return nil
	}
	c.problems.clear("held", "")
	for _, key := range l.missing {
		if err := c.missedObject(ctx, d, key, l.began); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache) missedObject(ctx context.Context, d *depot, key string, now time.Time) error {
	_, err := d.store.Head(ctx, key)
	d.report(err)
	if !errors.Is(err, ErrNotFound) {
		return err // there after all
	}
	var ino Ino
	if err := c.cat.View(func(tx *catalog.Tx) error {
		ino, err = tx.KeyOwner(key)
		return err
	}); err != nil {
		if errors.Is(err, catalog.ErrNotFound) {
			return nil // moved or removed meanwhile
		}
		return err
	}
	rec, err := c.record(ino)
	if err != nil || len(rec.Links) == 0 || !isRegular(rec) || holdsOnlyCopy(rec.State) {
		if errors.Is(err, ErrStale) {
			return nil
		}
		return err
	}
	path := c.pathText(rec)
	if rec.State == Clean {
		c.problems.add("lost", path, "its object was removed from the bucket by somebody else; the bytes are here alone, until it is written to or removed here", now)
		return nil
	}
	since, err := c.setting(settingMissing + key)
	if err != nil {
		return err
	}
	c.problems.add("lost", path, "its object was removed from the bucket by somebody else; the name goes when another listing lacks it too", now)
	if since == "" {
		return c.putSetting(settingMissing+key, now.UTC().Format(time.RFC3339))
	}
	c.log.Warn("an object was removed by another tool; its name goes", "path", path)
	c.problems.clear("lost", path)
	return c.applyRecord(ctx, d, journal.Record{Op: journal.Delete, Path: path, Time: max(now.UnixNano()+c.skew.Load(), rec.MadeAt+1)})
}
