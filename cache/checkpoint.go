package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// A checkpoint is what all journals up to some batches come to, in change records: so a zone
// that is new, or was away for long, need not read the journals from where they begin, and
// what is in front of those batches can go (trim.go). The zone that has the lease writes
// one when there is enough to sum up; others find it when they miss a batch (catchup.go).

const (
	// checkpointLook is how often a zone asks itself whether a checkpoint is due.
	checkpointLook = time.Minute
	// checkpointBatches is how many batches a checkpoint is worth, and checkpointAge after
	// how long one is made of any.
	checkpointBatches = 1000
	checkpointAge     = 24 * time.Hour
	// checkpointLease is how long nobody else writes one, by the store's clock.
	checkpointLease = time.Hour
	// tombstoneAge is for how long at least checkpoints say what was deleted (DESIGN 4).
	tombstoneAge = 90 * 24 * time.Hour
	// checkpointChunk is how many records one look into the catalog brings.
	checkpointChunk = 2000
)

// settingSummed says what the last checkpoint that is known had: how many batches of all
// journals together, and when that was looked at (summed).
const settingSummed = "checkpoint"

type summed struct {
	Batches uint64    `json:"batches"`
	At      time.Time `json:"at"`
}

// checkpointLoop writes checkpoints and trims the journals. While nothing happens it asks the
// store nothing.
func (c *Cache) checkpointLoop(ctx context.Context) error {
	for {
		t := time.NewTimer(jitter(checkpointLook)) // zones do not come at once
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		if err := c.checkpointOn(ctx, false); err != nil && ctx.Err() == nil {
			c.log.Warn("write a checkpoint of the journals", "err", err)
		}
	}
}

// checkpointOn writes a checkpoint while a store is on, if one is due or forced.
func (c *Cache) checkpointOn(ctx context.Context, force bool) error {
	d := c.depot.Load()
	if d == nil || !d.joined() || d.lost() != nil || !c.listed.Load() || c.gone.Load() {
		return nil
	}
	total := c.batchesKnown()
	text, err := c.setting(settingSummed)
	if err != nil {
		return err
	}
	var last summed
	if text == "" { // from here on it is counted
		last.At = c.now()
		if err := c.putSummed(last); err != nil {
			return err
		}
	} else if err := json.Unmarshal([]byte(text), &last); err != nil {
		return errors.Join(fmt.Errorf("setting %s: %w", settingSummed, err), catalog.ErrDamaged)
	}
	if !force && (total <= last.Batches || total < last.Batches+checkpointBatches && c.now().Sub(last.At) < checkpointAge) {
		return nil
	}
	ctx, done := d.use(ctx)
	defer done()
	if err := d.admit(ctx); err != nil {
		return err
	}
	return c.checkpoint(ctx, d, total, force)
}

func (c *Cache) putSummed(s summed) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return c.putSetting(settingSummed, string(b))
}

// batchesKnown is how many batches of all journals together this zone knows.
func (c *Cache) batchesKnown() (n uint64) {
	last, cursors := c.numbers()
	for _, m := range cursors {
		n += m
	}
	return n + last
}

// checkpoint writes one, unless another zone has, or is about to, and trims.
func (c *Cache) checkpoint(ctx context.Context, d *depot, total uint64, force bool) error {
	newest, x, err := c.newestCheckpoint(ctx, d)
	if err != nil {
		return err
	}
	if !force && newest > 0 {
		var has uint64
		for _, n := range x.Cursors {
			has += n
		}
		if has+checkpointBatches > total && c.storeNanos()-x.Made < int64(checkpointAge) {
			return c.putSummed(summed{has, c.now()})
		}
	}
	if mine, err := c.takeCheckpointLease(ctx, d); err != nil || !mine {
		return err
	}
	if newest, x, err = c.writeCheckpoint(ctx, d, newest); err != nil {
		return err
	}
	if err := c.putSummed(summed{total, c.now()}); err != nil {
		return err
	}
	return c.trim(ctx, d, newest, x)
}

// writeCheckpoint writes what this zone has applied, its pages first.
func (c *Cache) writeCheckpoint(ctx context.Context, d *depot, before uint64) (uint64, journal.Index, error) {
	made := max(c.storeNanos(), int64(before)+1)
	last, cursors := c.numbers() // first: what is read afterwards may be later
	cursors[c.zoneName()] = last
	for zone, n := range cursors {
		if n == 0 {
			delete(cursors, zone)
		}
	}
	w := &checkpointWriter{c: c, d: d, number: uint64(made),
		index: journal.Index{Zone: c.zoneName(), Made: made, Epoch: c.instance(), Cursors: cursors}}
	since := made - int64(max(c.TrashRetention(), tombstoneAge))
	err := w.graves(ctx, since)
	if err == nil {
		err = w.page(ctx)
		w.index.Graves = w.index.Pages
	}
	if err == nil {
		err = w.tree(ctx)
	}
	if err == nil {
		err = w.held(ctx)
	}
	if err == nil {
		err = w.page(ctx)
	}
	if err != nil {
		return 0, journal.Index{}, err // its pages go with a later trim
	}
	b, err := journal.EncodeIndex(w.index)
	if err == nil {
		err = w.put(ctx, journal.IndexKey(c.cfg.Prefix, w.number), b, "application/json")
	}
	if err != nil {
		return 0, journal.Index{}, err
	}
	c.log.Info("checkpoint of the journals written", "number", w.number, "pages", w.index.Pages, "records", w.records)
	return w.number, w.index, nil
}

// checkpointFile is checkpoint/lease.json, by which one zone at a time writes them.
type checkpointFile struct {
	Format int    `json:"format"`
	Zone   string `json:"zone"`
	Run    string `json:"run"`
}

// takeCheckpointLease says whether it is this zone that writes checkpoints. Two that do, on a
// store without conditions, write two.
func (c *Cache) takeCheckpointLease(ctx context.Context, d *depot) (bool, error) {
	key := journal.CheckpointRoot(c.cfg.Prefix) + "lease.json"
	var o PutOptions
	conditions := d.capabilities().ConditionalPut
	b, info, err := readSmall(ctx, d.store, key, "", maxZoneFile)
	d.report(err)
	switch {
	case errors.Is(err, ErrNotFound):
		o.IfNoneMatch = conditions
	case err != nil:
		return false, err
	default:
		var f checkpointFile
		if err := json.Unmarshal(b, &f); err == nil && f.Format > 1 {
			return false, fmt.Errorf("%s has format %d: use a newer depotfs: %w", key, f.Format, ErrRejected)
		}
		if f.Zone != c.zoneName() && c.zoneTime(info.Date).Sub(info.Modified) < checkpointLease {
			return false, nil
		}
		if conditions {
			o.IfMatch = info.ETag
		}
	}
	if b, err = json.Marshal(checkpointFile{Format: 1, Zone: c.zoneName(), Run: c.zones.run}); err != nil {
		return false, err
	}
	o.ContentType, o.CRC64, o.HasCRC64 = "application/json", crcOf(b), true
	_, err = d.store.Put(ctx, key, bytesAt(b), int64(len(b)), o)
	if errors.Is(err, ErrChanged) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("put %s: %w", key, err)
	}
	return true, nil
}

// newestCheckpoint finds the last one that is complete and can be read; 0: there is none.
func (c *Cache) newestCheckpoint(ctx context.Context, d *depot) (uint64, journal.Index, error) {
	var numbers []uint64
	err := d.store.List(ctx, ListQuery{Prefix: journal.CheckpointRoot(c.cfg.Prefix), Delimiter: "/"}, func(p ListPage) error {
		for _, dir := range p.Prefixes {
			if n, _, ok := journal.ParseCheckpointKey(c.cfg.Prefix, dir+"index.json"); ok {
				numbers = append(numbers, n)
			}
		}
		return nil
	})
	d.report(err)
	if err != nil {
		return 0, journal.Index{}, fmt.Errorf("list the checkpoints: %w", err)
	}
	for i := len(numbers) - 1; i >= max(0, len(numbers)-maxCheckpoints); i-- {
		b, _, err := readSmall(ctx, d.store, journal.IndexKey(c.cfg.Prefix, numbers[i]), "", journal.MaxIndex)
		if errors.Is(err, ErrNotFound) {
			continue // it is being written, or its writer ended
		}
		if err != nil {
			return 0, journal.Index{}, err
		}
		x, err := journal.DecodeIndex(b)
		if errors.Is(err, journal.ErrNewer) {
			return 0, journal.Index{}, fmt.Errorf("checkpoint %d: %w: use a newer depotfs: %w", numbers[i], err, ErrRejected)
		}
		if err != nil {
			c.log.Warn("a checkpoint that cannot be read", "number", strconv.FormatUint(numbers[i], 10), "err", err)
			continue
		}
		return numbers[i], x, nil
	}
	return 0, journal.Index{}, nil
}

// maxCheckpoints is of how many of the last checkpoints the indexes are looked for.
const maxCheckpoints = 20
