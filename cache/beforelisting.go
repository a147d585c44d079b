package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
	"depotfs/cache/layout"
)

// A zone that is new takes its names from a listing of the depot, and reads the journals
// from where they begin, for what a listing does not have: deletes and renames that are
// under way, attributes, times. What they say of objects that were replaced or removed
// before the listing is older than what it showed, and nothing in the names' records says
// so: their times are not known.

// settingBehind has where each journal ended before the first listing began: zone -> number
// of its last batch. It is written once: whatever was listed, at whatever try, was listed
// after it.
const settingBehind = "listed-behind"

// settingNotTaken is there where not all that was listed could be taken in (notTaken).
const settingNotTaken = "listed-not-taken"

// noteEnds notes where the journals end, before anything is listed.
func (c *Cache) noteEnds(ctx context.Context, s Store) error {
	for _, name := range []string{settingListed, settingBehind} {
		if text, err := c.setting(name); err != nil || text != "" {
			return err
		}
	}
	ends := map[string]uint64{}
	if err := s.List(ctx, ListQuery{Prefix: journal.Root(c.cfg.Prefix)}, func(p ListPage) error {
		for _, o := range p.Objects {
			zone, seq, ok := journal.ParseKey(c.cfg.Prefix, o.Key)
			if _, known := ends[zone]; ok && (known || len(ends) < maxZones) {
				ends[zone] = max(ends[zone], seq)
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("list the journals: %w", err)
	}
	b, err := json.Marshal(ends)
	if err != nil {
		return err
	}
	return c.putSetting(settingBehind, string(b))
}

// beforeListing says whether a batch was there before anything was listed.
func (c *Cache) beforeListing(zone string, seq uint64) (bool, error) {
	text, err := c.setting(settingBehind)
	if err != nil || text == "" {
		return false, err
	}
	ends := map[string]uint64{}
	if err := json.Unmarshal([]byte(text), &ends); err != nil {
		return false, errors.Join(fmt.Errorf("setting %s: %w", settingBehind, err), catalog.ErrDamaged)
	}
	return seq <= ends[zone], nil
}

// applyTold is applyRecord for a record that may be older than what a listing showed.
// before: it was told before anything was listed.
func (c *Cache) applyTold(ctx context.Context, d *depot, r journal.Record, before bool) error {
	if r.Op == journal.Put || r.Op == journal.Delete || before && (r.Op == journal.Mkdir || r.Op == journal.Rmdir) {
		passed, err := c.passedByListing(ctx, d, r, before)
		if err != nil {
			return err
		}
		if passed {
			c.log.Debug("what a listing showed is later", "path", r.Path, "op", r.Op, "zone", r.Zone)
			return c.applyPassed(r)
		}
	}
	if r.Op == journal.Rename && !isOfDir(&r) {
		return c.applyToldMove(ctx, d, r)
	}
	return c.applyRecord(ctx, d, r)
}

// applyToldMove is applyTold for the rename of a file: of each of the two names, what the
// listing showed may be later.
func (c *Cache) applyToldMove(ctx context.Context, d *depot, r journal.Record) error {
	gone := journal.Record{Op: journal.Delete, Path: r.From, Time: r.Time, Zone: r.Zone}
	comes := movedPut(r)
	stays, err := c.listedLater(ctx, d, gone)
	if err != nil {
		return err
	}
	passed, err := c.listedLater(ctx, d, comes)
	switch {
	case err != nil || stays && (passed || comes.Key == ""):
		return err
	case stays:
		return c.applyRecord(ctx, d, comes)
	case passed:
		return c.applyRecord(ctx, d, gone)
	}
	return c.applyRecord(ctx, d, r)
}

// passedByListing says whether the object that a record is about is not there any more, and
// what is there is known already. The store is asked only about a name of which nothing but
// the listing is known.
func (c *Cache) passedByListing(ctx context.Context, d *depot, r journal.Record, before bool) (bool, error) {
	if r.Op == journal.Mkdir || r.Op == journal.Rmdir {
		rec, _, _, err := c.at(r.Path)
		return rec != nil && isRegular(rec) && rec.Origin == "" && !holdsOnlyCopy(rec.State), err
	}
	if r.Op == journal.Delete && r.Key == "" {
		return c.listedLater(ctx, d, r)
	}
	if r.Key == "" || r.ETag == "" {
		return false, nil
	}
	var rec *catalog.Inode
	if err := c.cat.View(func(tx *catalog.Tx) (err error) {
		rec, err = keyHolder(tx, r.Key)
		return err
	}); err != nil {
		return false, err
	}
	if rec == nil {
		return c.unlistedPut(ctx, d, r, before)
	}
	if rec.Origin != "" || !isRegular(rec) || holdsOnlyCopy(rec.State) {
		return false, nil // the times decide, or its upload
	}
	cur, ok := currentObject(rec)
	if !ok || cur.Key != r.Key || cur.ETag == r.ETag || r.Op == journal.Put && c.isVersion(rec, r) {
		return false, nil
	}
	if before {
		return true, nil
	}
	info, err := d.store.Head(ctx, r.Key)
	d.report(err)
	switch {
	case errors.Is(err, ErrNotFound):
		return r.Op == journal.Put, nil // who removed it tells of that
	case err != nil:
		return false, fmt.Errorf("ask for %s: %w", r.Key, err)
	}
	return info.ETag != r.ETag, nil
}

// listedLater says whether a delete that names no object is older than the one of which
// nothing but the listing is known.
func (c *Cache) listedLater(ctx context.Context, d *depot, r journal.Record) (bool, error) {
	rec, _, _, err := c.at(r.Path)
	if err != nil || rec == nil || rec.Origin != "" || !isRegular(rec) || holdsOnlyCopy(rec.State) {
		return false, err
	}
	cur, ok := currentObject(rec)
	if !ok {
		return false, nil
	}
	info, err := d.store.Head(ctx, cur.Key)
	d.report(err)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	return momentOfObject(info).after(momentOf(&r)), nil
}

// unlistedPut says whether a record makes a name that the listing did not have, of an object
// that was there before it: it was removed since, or has another key.
func (c *Cache) unlistedPut(ctx context.Context, d *depot, r journal.Record, before bool) (bool, error) {
	if _, _, err := layout.Path(c.cfg.Prefix, r.Key); !before || r.Op != journal.Put || err != nil {
		return false, nil // what is put aside for a moment is not listed
	}
	if _, err := c.renamedSince(&r); err != nil {
		return false, err
	}
	rec, _, _, err := c.at(r.Path)
	if err != nil || rec != nil {
		return false, err
	}
	if some, err := c.setting(settingNotTaken); err != nil || some == "" {
		return true, err
	}
	info, err := d.store.Head(ctx, r.Key)
	d.report(err)
	switch {
	case errors.Is(err, ErrNotFound):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("ask for %s: %w", r.Key, err)
	}
	return info.ETag != r.ETag, nil
}

// notTaken notes that a listing showed what could not be taken in: a file of this zone is
// where it has a directory.
func (c *Cache) notTaken() error {
	if some, err := c.setting(settingNotTaken); err != nil || some != "" {
		return err
	}
	return c.putSetting(settingNotTaken, "yes")
}

// applyPassed takes from a record that a listing has passed what still counts: that what is
// older than the delete is gone, and what attributes a directory had.
func (c *Cache) applyPassed(r journal.Record) error {
	if r.Op == journal.Put {
		return nil
	}
	if err := c.checkRecord(&r); err != nil {
		return nil // it would have been refused
	}
	if r.Op == journal.Mkdir {
		return c.keepAttrs(r)
	}
	c.applying.Lock()
	defer c.applying.Unlock()
	if _, err := c.renamedSince(&r); err != nil {
		return err
	}
	return c.cat.Update(func(tx *catalog.Tx) error { return bury(tx, graveOf(r)) })
}
