package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// catchUp applies a checkpoint that has the batches of a zone's journal up to one before
// seq, which are missing: this zone is new, or was away for long. ok is false where there is
// none. The cursors follow when all of it was applied; who ends before applies it again.
func (c *Cache) catchUp(ctx context.Context, d *depot, zone string, seq uint64) (ok bool, err error) {
	number, x, err := c.newestCheckpoint(ctx, d)
	if err != nil || number == 0 || x.Cursors[zone] < seq-1 {
		return false, err
	}
	ends := map[string]uint64{}
	for z, n := range x.Cursors {
		// The last batch of a journal is never removed: one that claims more is not true, and
		// would make this zone deaf.
		if ends[z], err = c.journalEnd(ctx, d, z, n); err != nil {
			return false, err
		}
		if n > ends[z] {
			c.problems.add("zones", "", fmt.Sprintf("checkpoint %d claims batch %d of the journal of zone %s, which ends at %d: it is not used", number, n, z, ends[z]), c.now())
			return false, nil
		}
	}
	c.log.Info("this zone starts from a checkpoint of the journals", "number", number, "zone", zone, "pages", x.Pages)
	for _, learn := range []bool{true, false} {
		for page := 1; page <= x.Pages; page++ {
			if learn && page <= x.Graves {
				continue
			}
			if err := c.applyPage(ctx, d, number, x, page, learn); err != nil {
				return false, err
			}
		}
	}
	// Deletes that are older than what checkpoints keep of them a listing finds.
	c.relistWanted.Store(true)
	return true, c.cat.Update(func(tx *catalog.Tx) error {
		for z, n := range x.Cursors {
			now, err := cursorIn(tx, z)
			if err != nil {
				return err
			}
			if n > now {
				if err := tx.PutSetting(settingCursor+z, []byte(strconv.FormatUint(n, 10))); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// journalEnd is the number of the last batch of a zone's journal from one on; 0: it has none.
func (c *Cache) journalEnd(ctx context.Context, d *depot, zone string, from uint64) (last uint64, err error) {
	q := ListQuery{Prefix: journal.Prefix(c.cfg.Prefix, zone)}
	if from > 1 {
		q.StartAfter = journal.Key(c.cfg.Prefix, zone, from-1)
	}
	err = d.store.List(ctx, q, func(p ListPage) error {
		for _, o := range p.Objects {
			if _, seq, ok := journal.ParseKey(c.cfg.Prefix, o.Key); ok {
				last = seq
			}
		}
		return nil
	})
	d.report(err)
	if err != nil {
		return 0, fmt.Errorf("list the journal of zone %s: %w", zone, err)
	}
	return last, nil
}

func cursorIn(tx *catalog.Tx, zone string) (uint64, error) {
	v, err := tx.Setting(settingCursor + zone)
	if errors.Is(err, catalog.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("setting %s%s: %w", settingCursor, zone, err), catalog.ErrDamaged)
	}
	return n, nil
}

// applyPage applies a page of a checkpoint. learn: only what it says of versions that this
// zone knows from a listing, so that what was renamed or deleted before is not taken for
// them.
func (c *Cache) applyPage(ctx context.Context, d *depot, number uint64, x journal.Index, page int, learn bool) error {
	key := journal.PageKey(c.cfg.Prefix, number, page)
	b, _, err := readSmall(ctx, d.store, key, "", journal.MaxBatch)
	d.report(err)
	if err != nil {
		return err
	}
	h, records, bad, err := journal.DecodeBatch(b)
	if errors.Is(err, journal.ErrNewer) {
		return fmt.Errorf("%s: %w: use a newer depotfs: %w", key, err, ErrRejected)
	}
	if err == nil && !x.Has(h, page) {
		err = fmt.Errorf("it is page %d of a checkpoint of zone %q: %w", h.Seq, h.Zone, journal.ErrInvalid)
	}
	if err != nil {
		c.damagedBatch(x.Zone, key, err)
		return nil
	}
	for _, err := range bad {
		c.damagedBatch(x.Zone, key, err)
	}
	for _, r := range records {
		wanted, err := c.takesFrom(r, learn)
		if err != nil {
			return err
		}
		if !wanted {
			continue
		}
		if err := c.applyTold(ctx, d, r, false); err != nil {
			return fmt.Errorf("apply %s of %q: %w", r.Op, r.Path, err)
		}
	}
	return nil
}

// takesFrom says whether a record of a checkpoint is applied, or learned from.
func (c *Cache) takesFrom(r journal.Record, learn bool) (bool, error) {
	if !learn {
		return true, nil
	}
	switch r.Op {
	case journal.Put, journal.Mkdir, journal.Symlink:
	default:
		return false, nil
	}
	rec, _, _, err := c.at(r.Path)
	if err != nil || rec == nil {
		return false, err
	}
	same := ownsKey(rec, r.Key) && (c.isVersion(rec, r) || isDir(rec) && r.Op == journal.Mkdir) || r.Key == "" && isDir(rec)
	return same && rec.Origin == "", nil
}
