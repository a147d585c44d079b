package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
	"depotfs/cache/share"
)

const (
	evictInterval = 30 * time.Second
	// evictBatch is how many candidates one look collects.
	evictBatch = 1000
	// attrCacheTime is longer than an NFS client keeps attributes by default
	// (acdirmax, 60 s): until then it may open the file under its old name.
	attrCacheTime = 61 * time.Second
)

// errInUse: depotfs itself works on the file.
var errInUse = fmt.Errorf("being fetched or uploaded: %w", ErrBusy)

// evictFile drops the local bytes of a clean file. The file is moved aside first,
// and only what is still the same after every client of the share must have
// noticed is removed.
func (c *Cache) evictFile(ctx context.Context, ino Ino) error {
	n := c.acquire(ino)
	defer c.drop(n)
	var intent *catalog.Intent
	var aside catalog.Stamp
	var path string
	err := c.withName(ino, true, func(rec *catalog.Inode, p string) error {
		path = p
		n.mu.Lock()
		defer n.mu.Unlock()
		if err := c.mayEvict(n, rec); err != nil {
			return err
		}
		if rec.State == Partial || rec.State == Remote {
			return c.evictPartial(n, rec)
		}
		st, err := c.share.StatSync(p)
		if errors.Is(err, iofs.ErrNotExist) || err == nil && st.Stamp() != rec.Stamp {
			return errOutside
		}
		if err != nil {
			return err
		}
		intent = &catalog.Intent{Kind: catalog.IntentEvict, Ino: ino, From: p, To: share.EvictPath(uint64(ino)), ShareIno: st.Ino, Time: c.nanos()}
		aside, err = c.moveAside(rec, intent)
		return err
	})
	if errors.Is(err, errOutside) {
		if err := c.lookAtInode(ino); err != nil {
			return err
		}
		if rec, err := c.record(ino); err == nil && rec.State == Remote {
			return nil // others removed it
		}
		return fmt.Errorf("it was changed in the share: %w", ErrBusy)
	}
	if err != nil || intent == nil {
		return err
	}
	defer c.evicting.Delete(ino)
	return c.finishEvict(ctx, n, intent, aside, path)
}

// mayEvict says why a file must stay; n.mu is held.
func (c *Cache) mayEvict(n *node, rec *catalog.Inode) error {
	switch {
	case c.depot.Load() == nil:
		return fmt.Errorf("%w, and could not give its bytes back: %w", ErrOff, ErrBusy)
	case !isRegular(rec):
		return fmt.Errorf("not a regular file: %w", ErrBusy)
	case n.handles > 0:
		return fmt.Errorf("open: %w", ErrBusy)
	case holdsOnlyCopy(rec.State):
		return fmt.Errorf("not uploaded yet: %w", ErrBusy)
	case n.file != nil:
		return errInUse
	case rec.Flags&catalog.FlagPinned != 0:
		return fmt.Errorf("pinned: %w", ErrBusy)
	case len(rec.Links) > 1:
		return fmt.Errorf("it has %d names: %w", len(rec.Links), ErrBusy)
	}
	if _, ok := currentObject(rec); !ok {
		return fmt.Errorf("the depot does not have it: %w", ErrBusy)
	}
	return nil
}

func (c *Cache) evictPartial(n *node, rec *catalog.Inode) error {
	if rec.State == Partial {
		if _, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
			if err := step(r, evEvict); err != nil {
				return err
			}
			r.Blocks = 0
			return tx.DeleteExtents(r.Ino)
		}); err != nil {
			return err
		}
	}
	if err := c.share.Unlink(share.PartialPath(uint64(rec.Ino))); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	return nil
}

// moveAside takes the file from its plain path; catalog and share agree again
// when it returns. From then on readers fetch. The stamp is that of the file where it
// is now: the rename moved ctime.
func (c *Cache) moveAside(rec *catalog.Inode, intent *catalog.Intent) (catalog.Stamp, error) {
	if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.PutIntent(intent) }); err != nil {
		return catalog.Stamp{}, err
	}
	c.evicting.Store(rec.Ino, struct{}{})
	if err := c.share.Rename(intent.From, intent.To, 0); err != nil {
		c.evicting.Delete(rec.Ino)
		return catalog.Stamp{}, errors.Join(err, c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteIntent(intent.Seq) }))
	}
	st, err := c.share.StatSync(intent.To)
	if err != nil {
		c.log.Warn("look at a file on its way out", "path", intent.From, "err", err)
		return catalog.Stamp{}, nil // matches nothing: it is put back
	}
	return st.Stamp(), nil
}

// finishEvict waits until nobody can still have the old name in mind, compares
// the stamp and removes the bytes, or puts the file back.
func (c *Cache) finishEvict(ctx context.Context, n *node, intent *catalog.Intent, aside catalog.Stamp, path string) error {
	if c.share.IsNetwork() {
		select {
		case <-time.After(attrCacheTime):
		case <-ctx.Done():
		}
	}
	return c.withName(n.ino, true, func(rec *catalog.Inode, now string) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		st, err := c.share.StatSync(intent.To)
		if err != nil {
			return err
		}
		same := st.Stamp() == aside && sameContent(aside, rec.Stamp)
		if rec.State != Clean && same {
			// Opened meanwhile: it is read from the depot already.
			return errors.Join(c.share.Unlink(intent.To), c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteIntent(intent.Seq) }))
		}
		if !same || n.file != nil || ctx.Err() != nil || c.depot.Load() == nil {
			if err := c.share.Rename(intent.To, now, share.NoReplace); err != nil {
				return err
			}
			back, err := c.share.Stat(now)
			if err != nil {
				return err
			}
			if _, err := c.change(n.ino, func(tx *catalog.Tx, r *catalog.Inode) error {
				if same {
					r.Stamp = back.Stamp()
				}
				return tx.DeleteIntent(intent.Seq)
			}); err != nil {
				return err
			}
			if !same {
				if err := c.changedOutside(rec, now, back); err != nil {
					return err
				}
			}
			return fmt.Errorf("it was used meanwhile: %w", ErrBusy)
		}
		if _, err := c.change(n.ino, func(tx *catalog.Tx, r *catalog.Inode) error {
			if err := step(r, evEvict); err != nil {
				return err
			}
			r.Stamp, r.Blocks = catalog.Stamp{}, 0
			return tx.DeleteIntent(intent.Seq)
		}); err != nil {
			return err
		}
		c.log.Info("evicted", "path", path, "size", rec.Size)
		c.inodeChanged(n.ino)
		return c.share.Unlink(intent.To)
	})
}

// evictLoop keeps the cache within CacheSize and MinFree.
func (c *Cache) evictLoop(ctx context.Context) error {
	if c.cfg.CacheSize <= 0 && c.cfg.MinFree <= 0 {
		return nil
	}
	t := time.NewTicker(evictInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if c.depot.Load() == nil {
			continue // what is dropped now could not be read
		}
		if want := c.excess(); want > 0 {
			if err := c.evictSome(ctx, want); err != nil && ctx.Err() == nil {
				c.log.Warn("make room in the cache", "want", want, "err", err)
			}
		}
	}
}

// excess is how many bytes are to go.
func (c *Cache) excess() int64 {
	var want int64
	if c.cfg.CacheSize > 0 {
		t := c.cat.Totals()
		want = t.BytesByState[Clean] + t.BytesByState[Dirty] - c.cfg.CacheSize
	}
	if c.cfg.MinFree > 0 {
		if st, err := c.share.Statfs(); err == nil {
			want = max(want, c.cfg.MinFree-st.Avail)
		}
	}
	return want
}

// evictSome drops the clean files that were not used for longest.
func (c *Cache) evictSome(ctx context.Context, want int64) error {
	type candidate struct {
		ino  Ino
		used int64
		size int64
	}
	var all []candidate
	for next := catalog.Root; ; {
		n := 0
		if err := c.cat.View(func(tx *catalog.Tx) error {
			return tx.EachInode(next, func(r *catalog.Inode) bool {
				next = r.Ino + 1
				n++
				if r.State == Clean && r.Flags&catalog.FlagPinned == 0 && len(r.Links) == 1 &&
					!layout.AlwaysResident(r.Links[0].Name, r.Size) {
					all = append(all, candidate{r.Ino, r.LastUsed, r.Size})
				}
				return n < 10_000
			})
		}); err != nil {
			return err
		}
		if n == 0 {
			break
		}
		slices.SortFunc(all, func(a, b candidate) int { return int(min(max(a.used-b.used, -1), 1)) })
		if len(all) > evictBatch {
			all = all[:evictBatch]
		}
	}
	if c.cfg.Deploy == Beside {
		return nil // hypervisors may read any of them directly
	}
	for _, f := range all {
		if want <= 0 {
			return nil
		}
		if v, ok := c.used.Load(f.ino); ok && c.nanos()-v.(int64) < int64(time.Minute) {
			continue
		}
		err := c.evictFile(ctx, f.ino)
		switch {
		case err == nil:
			want -= f.size
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, ErrBusy) && !errors.Is(err, ErrStale):
			return err
		}
	}
	return nil
}
