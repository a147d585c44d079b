package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// checkpointWriter puts the pages of one checkpoint.
type checkpointWriter struct {
	c       *Cache
	d       *depot
	number  uint64
	index   journal.Index
	on      []journal.Record // the page that is being filled
	size    int
	records int
}

// add has records be part of the checkpoint. What no zone could read is left out.
func (w *checkpointWriter) add(ctx context.Context, records []journal.Record) error {
	for _, r := range records {
		b, err := journal.Encode(r)
		if err != nil || r.Zone == "" || r.Time <= 0 {
			continue // who made it is not known: a listing has it
		}
		if len(w.on) > 0 && !journal.Fits(len(w.on)+1, w.size+len(b)) {
			if err := w.page(ctx); err != nil {
				return err
			}
		}
		w.on = append(w.on, r)
		w.size += len(b)
	}
	return ctx.Err()
}

// page puts what was added, if anything was.
func (w *checkpointWriter) page(ctx context.Context) error {
	if len(w.on) == 0 {
		return nil
	}
	x := &w.index
	if x.Pages == journal.MaxPages {
		return fmt.Errorf("a checkpoint of more than %d pages: %w", journal.MaxPages, journal.ErrTooLarge)
	}
	b, err := journal.EncodeBatch(journal.Header{Zone: x.Zone, Seq: uint64(x.Pages + 1), Made: x.Made, Epoch: x.Epoch}, w.on)
	if err != nil {
		return err
	}
	if err := w.put(ctx, journal.PageKey(w.c.cfg.Prefix, w.number, x.Pages+1), b, "text/plain"); err != nil {
		return err
	}
	x.Pages++
	w.records += len(w.on)
	w.on, w.size = w.on[:0], 0
	return nil
}

func (w *checkpointWriter) put(ctx context.Context, key string, b []byte, kind string) error {
	_, err := w.d.store.Put(ctx, key, bytesAt(b), int64(len(b)), PutOptions{ContentType: kind, IfNoneMatch: true, CRC64: crcOf(b), HasCRC64: true})
	w.d.report(err)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// graves adds what was renamed since a time, in the order in which it was, and then what was
// deleted: that has the name that it got by the renames.
func (w *checkpointWriter) graves(ctx context.Context, since int64) error {
	var moves []journal.Record
	if err := w.eachGrave(ctx, since, func(g *catalog.Tombstone) {
		if g.To != "" && g.Time >= since {
			moves = append(moves, journal.Record{Op: journal.Rename, From: g.Path, Path: g.To, Time: g.Time, Zone: g.Zone, Mode: syscall.S_IFREG})
		}
		if m := dirRename(g); m.to != "" && m.at >= since {
			moves = append(moves, journal.Record{Op: journal.Rename, From: g.Path, Path: m.to, Time: m.at, Zone: m.zone, Mode: syscall.S_IFDIR})
		}
	}, func() error { return nil }); err != nil {
		return err
	}
	slices.SortStableFunc(moves, func(a, b journal.Record) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Zone, b.Zone))
	})
	if err := w.add(ctx, moves); err != nil {
		return err
	}
	var gone []journal.Record
	return w.eachGrave(ctx, since, func(g *catalog.Tombstone) {
		if g.To == "" && g.Time >= since {
			gone = append(gone, journal.Record{Op: journal.Delete, Path: g.Path, Time: g.Time, Zone: g.Zone})
		}
		if g.RmdirTo == "" && g.RmdirAt >= since {
			gone = append(gone, journal.Record{Op: journal.Rmdir, Path: g.Path, Time: g.RmdirAt, Zone: g.RmdirBy})
		}
	}, func() error {
		err := w.add(ctx, gone)
		gone = gone[:0]
		return err
	})
}

// eachGrave calls fn for all tombstones since a time, and then, after every few, with no
// transaction open.
func (w *checkpointWriter) eachGrave(ctx context.Context, since int64, fn func(*catalog.Tombstone), then func() error) error {
	for next, more := "", true; more; {
		seen := 0
		more = false
		if err := w.c.cat.View(func(tx *catalog.Tx) error {
			return tx.EachTombstoneFrom(next, func(g *catalog.Tombstone) bool {
				if seen++; seen > checkpointChunk {
					next, more = g.Path, true
					return false
				}
				if max(g.Time, g.RmdirAt) >= since {
					fn(g)
				}
				return true
			})
		}); err != nil {
			return err
		}
		if err := errors.Join(then(), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// tree adds what has a name and is in the depot.
func (w *checkpointWriter) tree(ctx context.Context) error {
	for next, more := catalog.Root+1, true; more; {
		var there []journal.Record
		more = false
		if err := w.c.cat.View(func(tx *catalog.Tx) error {
			var all []*catalog.Inode
			if err := tx.EachInode(next, func(r *catalog.Inode) bool {
				if len(all) == checkpointChunk {
					more = true
					return false
				}
				next = r.Ino + 1
				all = append(all, r)
				return true
			}); err != nil {
				return err
			}
			for _, r := range all {
				records, err := w.c.toldOf(tx, r)
				if err != nil {
					return err
				}
				there = append(there, records...)
			}
			return nil
		}); err != nil {
			return err
		}
		if err := w.add(ctx, there); err != nil {
			return err
		}
	}
	return nil
}

// held adds what other zones did and waits here for files of this one: it is behind the cursor.
func (w *checkpointWriter) held(ctx context.Context) error {
	var waits []journal.Record
	if err := w.c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachHeld(func(_ string, b []byte) bool {
			if r, err := journal.Decode(b); err == nil {
				waits = append(waits, r)
			}
			return true
		})
	}); err != nil {
		return err
	}
	return w.add(ctx, waits)
}

// toldOf says what the depot has of an inode, as its zone would tell it now.
func (c *Cache) toldOf(tx *catalog.Tx, r *catalog.Inode) ([]journal.Record, error) {
	if len(r.Links) == 0 || r.Origin == "" || !isDir(r) && !isRegular(r) && !isSymlink(r) {
		return nil, nil
	}
	_, paths, err := c.wantedIn(tx, r)
	if err != nil {
		if errors.Is(err, ErrStale) || isNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	made, err := madeIn(tx, r)
	if err != nil {
		return nil, err
	}
	objects := r.Objects
	if isDir(r) && len(objects) == 0 {
		objects = []catalog.Object{{}} // known by what is in it
	}
	var out []journal.Record
	for _, o := range objects {
		if isRegular(r) && o.Gen != r.Base.Gen {
			continue
		}
		path := c.nameOf(r, paths, o)
		if !c.shared(path) {
			continue
		}
		n := recordOf(r, path, o)
		n.Time = made.at
		if err := tellAttrTime(tx, r, &n); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}
