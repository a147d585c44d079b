package cache

import (
	"context"
	"errors"
	iofs "io/fs"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

// What a worker may find instead of doing its work.
var (
	errWriter  = errors.New("open for writing")
	errRemoved = errors.New("removed or replaced meanwhile")
	errMoving  = errors.New("changed while it was uploaded")
	errParked  = errors.New("waits for a file that was finished earlier")
)

const (
	// maxQueued bounds the queue in memory; what is beyond it waits in the catalog.
	maxQueued = 50_000
	// attrSettle is how long changed attributes of a clean file wait: tools change
	// several in a row, and each costs a copy of the object onto itself.
	attrSettle = 30 * time.Second
	// maxBackoff bounds the wait after failed attempts.
	maxBackoff = 5 * time.Minute
	// maxMovingBackoff bounds it for files that keep changing (DESIGN 3).
	maxMovingBackoff = time.Hour
)

// settle is the quiet time of a class.
func (c *Cache) settle(cl layout.Class) time.Duration {
	if c.cfg.Settle != nil {
		return *c.cfg.Settle
	}
	return cl.Settle
}

// uploads says whether the depot is to have the file at all.
func uploads(rec *catalog.Inode, cl layout.Class) bool {
	return cl.Upload && (isRegular(rec) || isDir(rec) || isSymlink(rec)) && rec.Flags&catalog.FlagOrphan == 0
}

// enqueue makes an inode wait for the depot, durably with the change that is being
// recorded; kick must follow.
func (c *Cache) enqueue(tx *catalog.Tx, rec *catalog.Inode, path string) error {
	cl := c.rules.Of(path)
	if !uploads(rec, cl) {
		return nil
	}
	return c.putQueue(tx, rec, c.settleFor(rec, cl), false)
}

// enqueueNew is enqueue for an inode that was never queued.
func (c *Cache) enqueueNew(tx *catalog.Tx, rec *catalog.Inode, path string) error {
	cl := c.rules.Of(path)
	if !uploads(rec, cl) {
		return nil
	}
	now := c.nanos()
	return tx.PutQueue(&catalog.QueueItem{Ino: rec.Ino, Since: now, NotBefore: now + int64(c.settleFor(rec, cl))})
}

// enqueueAttrs is enqueue for changed attributes alone.
func (c *Cache) enqueueAttrs(tx *catalog.Tx, rec *catalog.Inode, path string) error {
	if !uploads(rec, c.rules.Of(path)) || rec.Ino == catalog.Root || holdsOnlyCopy(rec.State) {
		return nil
	}
	rec.Flags |= catalog.FlagAttrDirty
	wait := attrSettle
	if c.cfg.Settle != nil {
		wait = min(wait, *c.cfg.Settle)
	}
	return c.putQueue(tx, rec, wait, false)
}

// enqueueMove is enqueue after a rename: the objects have to follow. A directory
// takes everything below it along.
func (c *Cache) enqueueMove(tx *catalog.Tx, rec *catalog.Inode, path string) error {
	if holdsOnlyCopy(rec.State) {
		return c.enqueue(tx, rec, path)
	}
	return c.putQueue(tx, rec, 0, isDir(rec))
}

func (c *Cache) putQueue(tx *catalog.Tx, rec *catalog.Inode, wait time.Duration, subtree bool) error {
	now := c.nanos()
	it := &catalog.QueueItem{Ino: rec.Ino, Since: now, NotBefore: now + int64(wait), Subtree: subtree}
	old, err := tx.QueueItem(rec.Ino)
	switch {
	case err == nil:
		it.Since = old.Since
		it.Subtree = it.Subtree || old.Subtree
	case !errors.Is(err, catalog.ErrNotFound):
		return err
	}
	return tx.PutQueue(it)
}

// kickRec has the workers look at what enqueue recorded.
func (c *Cache) kickRec(rec *catalog.Inode) { c.kick(rec.Ino) }

func (c *Cache) kick(ino Ino) {
	if c.depot.Load() == nil {
		return // loadQueue does it when the store comes on
	}
	it, err := c.cat.QueueItem(ino)
	var rec *catalog.Inode
	if err == nil {
		rec, err = c.cat.Inode(ino)
	}
	if err != nil { // nothing waits any more: an unlinked file, or one that was not changed after all
		c.leave(ino)
		return
	}
	c.schedule(it, rec)
}

// classOf is the class of an inode's first name.
func (c *Cache) classOf(rec *catalog.Inode) layout.Class { return c.rules.Of(c.pathText(rec)) }

func (c *Cache) schedule(it *catalog.QueueItem, rec *catalog.Inode) {
	if _, urgent := c.urgent.Load(rec.Ino); c.compares.has(rec.Ino) {
		if urgent {
			c.compares.prefer(rec.Ino)
		}
		return // the comparer has the workers look at it
	}
	if c.work.Len() >= maxQueued {
		c.overflow.Store(true)
		return
	}
	if isRegular(rec) && holdsOnlyCopy(rec.State) && len(rec.Links) > 0 {
		c.reorder(rec)
	}
	c.work.Reschedule(rec.Ino, time.Unix(0, it.NotBefore), c.place(it, rec, c.classOf(rec)))
	// Looked at afterwards: a flush that comes while the later time is written must find
	// its own not written over.
	if _, ok := c.urgent.Load(rec.Ino); ok {
		c.work.Add(rec.Ino, c.now())
	}
}

// loadQueue puts into memory what the catalog says is waiting.
func (c *Cache) loadQueue() {
	c.overflow.Store(false)
	type waiting struct {
		it  *catalog.QueueItem
		rec *catalog.Inode
	}
	var all []waiting
	err := c.cat.View(func(tx *catalog.Tx) error {
		err := tx.EachQueue(func(it *catalog.QueueItem) bool {
			if c.compares.has(it.Ino) {
				return true
			}
			rec, err := tx.Inode(it.Ino)
			if err == nil {
				all = append(all, waiting{it, rec})
			}
			return len(all) < maxQueued
		})
		return err
	})
	if err != nil {
		c.log.Error("read the upload queue", "err", err)
	}
	if len(all) == maxQueued {
		c.overflow.Store(true)
	}
	for _, w := range all {
		c.schedule(w.it, w.rec)
	}
	c.loadRemovals()
}

// attend reconciles one inode and returns when to look again; zero: done or parked.
func (c *Cache) attend(ctx context.Context, d *depot, j *job) time.Time {
	ino := j.ino
	if c.gone.Load() {
		return c.now().Add(shareLook)
	}
	var it *catalog.QueueItem
	err := c.cat.View(func(tx *catalog.Tx) error {
		var err error
		it, err = tx.QueueItem(ino)
		return err
	})
	if err != nil {
		c.leave(ino)
		return time.Time{}
	}
	rec, err := c.record(ino)
	if err == nil && len(rec.Links) == 0 {
		err = ErrStale
	}
	var path string
	if err == nil {
		path = c.pathText(rec)
		if to := c.place(it, rec, c.rules.Of(path)); to.Lane > j.lane { // longer work than was known
			c.work.Reschedule(ino, c.now(), to)
			return c.now()
		} else {
			j.turn = to.Turn
		}
		err = c.reconcile(ctx, d, j, it, rec, path)
		var taken takenError
		if errors.As(err, &taken) {
			if rec, err = c.record(ino); err == nil {
				err = c.makeWay(ctx, d, taken, rec)
			}
		}
	}
	var later laterError
	switch {
	case err == nil, errors.Is(err, ErrStale), errors.Is(err, iofs.ErrNotExist):
		c.leave(ino)
		for _, kind := range []string{"upload", "busy"} {
			c.problems.clear(kind, path)
		}
		return time.Time{}
	case errors.Is(err, errComparing): // who is behind it in its directory waits only so long
		c.failing.LoadOrStore(ino, c.now())
		c.changed.wake()
		return time.Time{}
	case errors.Is(err, errParked):
		if first, ok := c.order.waitsFor(ino); ok {
			c.log.Debug("waits for another file", "path", path, "inode", ino, "for", first)
		}
		// Whom it waits for wakes it; this is for when that one fails for too long.
		return c.now().Add(c.cfg.Limits.OrderTimeout / 4)
	case errors.As(err, &later):
		c.changed.wake()
		return later.at
	case ctx.Err() != nil:
		return c.now()
	}
	return c.failed(it, path, err)
}

// leave takes a file out of the order and lets those go on that waited for it.
func (c *Cache) leave(ino Ino) {
	c.urgent.Delete(ino)
	c.failing.Delete(ino)
	c.unorder(ino)
	c.changed.wake()
	c.heldSoon()
}

// reorder puts a file into the order of its directory, at the time it was finished.
func (c *Cache) reorder(rec *catalog.Inode) {
	for _, w := range c.order.set(rec.Ino, rec.Links[0].Parent, rec.FinishedAt) {
		c.work.Add(w, c.now())
	}
}

// advance notes how far a file is on its way to the depot, and lets those go on that
// waited for that.
func (c *Cache) advance(ino Ino, way orderWay) {
	for _, w := range c.order.goes(ino, way) {
		c.work.Add(w, c.now())
	}
}

// arrives notes that the version of rec is visible. One that was finished anew meanwhile
// has a later place, and is not.
func (c *Cache) arrives(rec *catalog.Inode) {
	for _, w := range c.order.there(rec.Ino, rec.FinishedAt) {
		c.work.Add(w, c.now())
	}
}

// unorder takes a file out of the order of its directory.
func (c *Cache) unorder(ino Ino) {
	for _, w := range c.order.remove(ino) {
		c.work.Add(w, c.now())
	}
}

// laterError says that there is nothing wrong, only nothing to do yet.
type laterError struct {
	at  time.Time
	why string
}

func (e laterError) Error() string { return e.why }

// failed records a failed attempt and says when the next one is.
func (c *Cache) failed(it *catalog.QueueItem, path string, cause error) time.Time {
	now := c.now()
	limit := maxBackoff
	var at time.Time
	switch {
	case errors.Is(cause, errWriter), errors.Is(cause, errRemoved), errors.Is(cause, context.Canceled):
		return now.Add(time.Second)
	case errors.Is(cause, errMoving):
		limit = maxMovingBackoff
		if it.Attempts < 3 {
			at = now.Add(2 * time.Second)
		}
	case errors.Is(cause, ErrMarker): // status says that, once for all files
		return now.Add(shareLook)
	case errors.Is(cause, ErrUnavailable):
		// The breaker says when the store is asked at all; this is for one that answers
		// some requests and not these.
		at = now.Add(jitter(100 * time.Millisecond << min(it.Attempts, 5)))
	}
	if at.IsZero() {
		at = now.Add(backoff(it.Attempts+1, limit))
	}
	c.failing.LoadOrStore(it.Ino, now)
	c.problems.add("upload", path, cause.Error(), now)
	c.log.Warn("upload", "path", path, "attempts", it.Attempts+1, "next", at, "err", cause)
	err := c.cat.Update(func(tx *catalog.Tx) error {
		cur, err := tx.QueueItem(it.Ino)
		if err != nil {
			return err
		}
		cur.Attempts++
		cur.LastError = clip(cause.Error(), 500)
		cur.NotBefore = at.UnixNano()
		return tx.PutQueue(cur)
	})
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		c.log.Error("record a failed upload", "path", path, "err", err)
	}
	c.changed.wake()
	return at
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// reconcile makes the depot have what rec says: its bytes, under its names, with
// its attributes.
func (c *Cache) reconcile(ctx context.Context, d *depot, j *job, it *catalog.QueueItem, rec *catalog.Inode, path string) error {
	if it.Subtree {
		if err := c.queueSubtree(rec); err != nil {
			return err
		}
	}
	cl := c.rules.Of(path)
	if !uploads(rec, cl) {
		return c.unqueue(rec)
	}
	if lost, err := c.yieldClean(ctx, d, rec, path); lost || err != nil {
		return err
	}
	var err error
	switch {
	case isRegular(rec) && holdsOnlyCopy(rec.State):
		err = c.sendFile(ctx, d, j, rec, cl, path)
	case isRegular(rec) && rec.Base.Gen == 0:
		return c.unqueue(rec)
	case isRegular(rec):
		err = c.moveObjects(ctx, d, rec)
	default:
		err = c.sendSmall(ctx, d, rec)
	}
	return err
}

// unqueue forgets a queue item whose inode needs nothing.
func (c *Cache) unqueue(rec *catalog.Inode) error {
	return c.cat.Update(func(tx *catalog.Tx) error { return unqueueIn(tx, rec.Ino) })
}

// unqueueIn forgets a queue item, unless a rename that came meanwhile wants
// everything below the directory looked at.
func unqueueIn(tx *catalog.Tx, ino Ino) error {
	it, err := tx.QueueItem(ino)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && it.Subtree {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.DeleteQueue(ino)
}
