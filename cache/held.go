package cache

import (
	"bytes"
	"context"
	"errors"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
)

// A record that meets bytes which only this zone has waits in the catalog, under the path
// that it is about, until they were uploaded or lost to the other version. It is tried
// again when a file leaves the upload queue or its last handle goes, now and then, and
// after a restart.

const (
	// heldLook is how often what waits is tried again without being woken.
	heldLook = 5 * time.Second
	// maxHeld is how many records one look takes up; the rest waits for the next one.
	maxHeld = 10_000
)

// heldKey is where a record waits: one for each path, and one for each rename.
func heldKey(r journal.Record) string {
	if r.Op == journal.Rename || r.Op == journal.Exchange {
		return r.From + "\x00" + r.Path // no path has that byte
	}
	return r.Path
}

// hold has a record wait. Of two of one path the later one does, and a directory's before
// any: it has its name in every zone. One that another zone has made waits before one that
// must be there for what is in it.
func (c *Cache) hold(r journal.Record) error {
	b, err := journal.Encode(r)
	if err != nil {
		return nil // it was decoded from the same form
	}
	key := heldKey(r)
	err = c.cat.Update(func(tx *catalog.Tx) error {
		old, err := heldIn(tx, key)
		switch {
		case err != nil:
			return err
		case old != nil && !outranks(&r, old):
			return nil
		}
		return tx.PutHeld(key, b)
	})
	if err == nil {
		c.held.Add(1)
		c.holding.Store(true)
		c.problems.add("held", r.Path, "what zone "+r.Zone+" did ("+string(r.Op)+") waits until this zone's version was uploaded or its writer has gone", c.now())
	}
	return err
}

// outranks says whether r is to wait in the place of old.
func outranks(r, old *journal.Record) bool {
	rank := func(r *journal.Record) int {
		switch {
		case r.Op != journal.Mkdir:
			return 0
		case isImplied(r):
			return 1
		}
		return 2
	}
	return rank(r) > rank(old) || rank(r) == rank(old) && laterRecord(r, old)
}

// isImplied says whether a record is of a directory that was only known by what is in it
// (clearName): that makes it, if it is there still.
func isImplied(r *journal.Record) bool { return r.Op == journal.Mkdir && r.Mode == 0 && r.Key == "" }

// laterRecord says whether r is later than old: of two that tell of one version the one with
// the later attributes is.
func laterRecord(r, old *journal.Record) bool {
	if momentOf(r) == momentOf(old) {
		return attrsAt(r).after(attrsAt(old))
	}
	return momentOf(r).after(momentOf(old))
}

// heldIn is the record that waits at a path; nil for none, or one that cannot be read.
func heldIn(tx *catalog.Tx, key string) (*journal.Record, error) {
	return storedRecord(tx.Held(key))
}

// storedRecord is a record that the catalog keeps; nil for none, or one that cannot be read.
func storedRecord(b []byte, err error) (*journal.Record, error) {
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := journal.Decode(b)
	if err != nil {
		return nil, nil
	}
	return &r, nil
}

// heldAt is heldIn for who has no transaction; it costs nothing while nothing waits.
func (c *Cache) heldAt(path string) (r *journal.Record, err error) {
	if !c.holding.Load() {
		return nil, nil
	}
	err = c.cat.View(func(tx *catalog.Tx) error {
		r, err = heldIn(tx, path)
		return err
	})
	return r, err
}

// heldSoon has what waits tried again: something changed that it may wait for.
func (c *Cache) heldSoon() {
	if !c.holding.Load() {
		return
	}
	select {
	case c.heldWake <- struct{}{}:
	default:
	}
}

// heldLoop tries again what waits.
func (c *Cache) heldLoop(ctx context.Context) error {
	c.holding.Store(true) // perhaps from the run before
	t := time.NewTicker(heldLook)
	defer t.Stop()
	for {
		if c.holding.Load() {
			if err := c.retryHeld(ctx); err != nil && ctx.Err() == nil {
				c.log.Warn("apply what has waited", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		case <-c.heldWake:
		}
	}
}

// retryHeld applies what can be applied by now.
func (c *Cache) retryHeld(ctx context.Context) error {
	type waiting struct {
		key    string
		record []byte
	}
	var all []waiting
	held, left := c.held.Load(), false
	if err := c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachHeld(func(key string, b []byte) bool {
			all = append(all, waiting{key, b})
			return len(all) < maxHeld
		})
	}); err != nil {
		return err
	}
	var errs []error
	for _, w := range all {
		r, err := journal.Decode(w.record)
		if err == nil {
			err = c.apply(ctx, r)
		}
		if errors.Is(err, errHeld) || mayMend(err) {
			left = true
			if !errors.Is(err, errHeld) {
				errs = append(errs, err)
			}
			continue
		}
		if err != nil {
			c.problems.add("import", r.Path, err.Error(), c.now())
			c.log.Error("a change record that has waited could not be applied", "path", r.Path, "op", r.Op, "zone", r.Zone, "err", err)
		}
		if err := c.unhold(w.key, w.record); err != nil {
			errs, left = append(errs, err), true
			continue
		}
		c.problems.clear("held", r.Path)
	}
	if !left && len(all) < maxHeld {
		c.holding.Store(false)
		if c.held.Load() != held { // somebody has held one meanwhile
			c.holding.Store(true)
		}
	}
	return errors.Join(errs...)
}

// unhold forgets a record that waited, unless a later one has taken its place.
func (c *Cache) unhold(key string, record []byte) error {
	return c.cat.Update(func(tx *catalog.Tx) error {
		now, err := tx.Held(key)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && !bytes.Equal(now, record) {
			return nil
		}
		if err != nil {
			return err
		}
		return tx.DeleteHeld(key)
	})
}
