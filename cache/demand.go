package cache

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"depotfs/cache/catalog"
)

// scope is what a command works on: the inodes of its paths and all below.
type scope struct {
	all  bool
	inos map[Ino]string
}

func (c *Cache) scopeOf(ctx context.Context, paths []string) (scope, []NotDone, error) {
	s := scope{inos: map[Ino]string{}}
	var bad []NotDone
	for _, p := range paths {
		rec, err := c.resolve(ctx, p)
		if err != nil {
			bad = append(bad, NotDone{Path: p, Reason: reason(err)})
			continue
		}
		if err := c.walk(ctx, rec, strings.Trim(p, "/"), func(rec *catalog.Inode, path string) error {
			s.inos[rec.Ino] = path
			return nil
		}); err != nil {
			return s, bad, err
		}
	}
	return s, bad, nil
}

func reason(err error) string {
	if errors.Is(err, syscall.ENOENT) || strings.Contains(err.Error(), "file does not exist") {
		return "no such file or directory"
	}
	return err.Error()
}

// Flush uploads now and waits: for everything when paths is empty, else for the
// given paths and all below them. It returns what did not arrive before ctx
// ended, and why. Files that somebody is writing to are not waited for: they come
// back in the answer. (Beside, so do all that are open for writing.)
func (c *Cache) Flush(ctx context.Context, paths []string, progress func(Progress)) ([]NotDone, error) {
	sc := scope{all: len(paths) == 0}
	var bad []NotDone
	if sc.all {
		// What others put into the share counts too where somebody looks at it.
		if rec, err := c.record(catalog.Root); err == nil {
			_ = c.agree(rec)
		}
	} else {
		var err error
		if sc, bad, err = c.scopeOf(context.WithoutCancel(ctx), paths); err != nil {
			return bad, err
		}
	}
	if c.depot.Load() == nil {
		left, err := c.unsent(sc, false)
		for i := range left {
			left[i].Reason = "the store is off"
		}
		return append(bad, c.notDone(left)...), err
	}
	var total Progress
	var until uint64 // the last change record that is waited for
	patience := time.Now().Add(busyGrace)
	t := time.NewTicker(flushLook)
	defer t.Stop()
	for {
		woken := c.changed.wait()
		left, err := c.unsent(sc, true)
		if err != nil {
			return bad, err
		}
		if c.depot.Load() == nil { // switched off meanwhile
			return append(bad, c.notDone(left)...), nil
		}
		c.tell(progress, &total, left)
		waiting := 0
		for _, l := range left {
			if !l.busy || time.Now().Before(patience) {
				waiting++
			}
		}
		if waiting == 0 && c.toldAll(&until) {
			if sc.all {
				c.tendProof()
			} else if err := c.cleanLog.Flush(); err != nil {
				c.log.Warn("write the clean log", "err", err)
			}
			for _, l := range left {
				if l.rec != nil {
					c.urgent.Delete(l.rec.Ino) // it settles as others do
				}
			}
			if err := c.cat.Sync(context.WithoutCancel(ctx)); err != nil {
				return bad, err
			}
			return append(bad, c.notDone(left)...), nil
		}
		select {
		case <-ctx.Done():
			if len(left) == 0 { // it is the other zones that were not told
				return append(bad, NotDone{Reason: "the depot has all files; the other zones were not told of all changes yet"}), nil
			}
			return append(bad, c.notDone(left)...), nil
		case <-woken:
			// Many files finish per second: look again only so often.
			select {
			case <-time.After(flushLook / 4):
			case <-ctx.Done():
			}
		case <-t.C:
		}
	}
}

// toldAll says whether the other zones were told of everything that was done when it was
// first asked; until is kept between calls.
func (c *Cache) toldAll(until *uint64) bool {
	var yes bool
	err := c.cat.View(func(tx *catalog.Tx) error {
		var err error
		if *until == 0 {
			if *until, err = tx.LastNews(); err != nil {
				return err
			}
		}
		return tx.EachNews(0, func(n uint64, _ []byte) bool { yes = n <= *until; return false })
	})
	if err != nil {
		c.log.Error("read the change records", "err", err)
	}
	if yes {
		select {
		case c.newsNow <- struct{}{}:
		default:
		}
		c.wakeTeller()
	}
	return !yes
}

// flushLook is how often a waiting flush looks again without being woken.
const flushLook = 200 * time.Millisecond

// busyGrace is how long flush waits for files that somebody writes to: the kernel
// tells us of a close some time after close(2) has returned, and who closes a file
// and flushes at once must not hear that it is open. Where nobody closes (NFS), the
// same goes for who has written his last.
const busyGrace = 2*time.Second + 2*provenQuiet

// unsentFile is one thing that the depot lacks.
type unsentFile struct {
	NotDone
	rec  *catalog.Inode // nil: a removal
	size int64
	busy bool // not to be waited for: somebody writes to it, or removed it
}

func (c *Cache) notDone(left []unsentFile) []NotDone {
	out := make([]NotDone, 0, len(left))
	for _, l := range left {
		if l.rec != nil {
			l.Path = c.pathText(l.rec)
		}
		out = append(out, l.NotDone)
	}
	return out
}

// unsent lists what of the scope is still in the queue, and with hurry has it go now.
func (c *Cache) unsent(sc scope, hurry bool) ([]unsentFile, error) {
	type item struct {
		it  *catalog.QueueItem
		rec *catalog.Inode
	}
	var items []item
	var left []unsentFile
	err := c.cat.View(func(tx *catalog.Tx) error {
		if err := c.eachQueued(tx, sc, func(it *catalog.QueueItem) bool {
			if rec, err := tx.Inode(it.Ino); err == nil && len(rec.Links) > 0 {
				items = append(items, item{it, rec})
			}
			return true
		}); err != nil {
			return err
		}
		if !sc.all {
			return nil
		}
		return tx.EachRemoval(func(r *catalog.Removal) bool {
			if r.Untold && r.Attempts == 0 && r.NotBefore > c.nanos() {
				return true // what nobody has deleted: it only stays for others to take (passedGrace)
			}
			why := "to be deleted from the depot"
			if r.LastError != "" {
				why = r.LastError
			}
			left = append(left, unsentFile{NotDone: NotDone{Path: r.Path, Reason: why}})
			if hurry {
				c.removals.Add(r.Key, time.Unix(0, r.NotBefore))
			}
			return true
		})
	})
	if err != nil {
		return nil, err
	}
	clock := sync.OnceValues(c.share.Now)
	for _, i := range items {
		w, err := c.lookAtWriter(i.it.Ino, clock)
		if err != nil {
			return nil, err
		}
		if in, err := c.inPlace(i.rec); err == nil && in && w.inDepot {
			continue
		}
		f := unsentFile{rec: i.rec, size: i.rec.Size, NotDone: NotDone{Reason: "waits for its turn to be uploaded"}}
		f.busy = w.open && !w.inDepot && (c.cfg.Deploy == Beside || w.quiet < provenQuiet)
		switch {
		case f.busy:
			f.Reason = "open for writing"
		case c.scans.misses(i.it.Ino):
			f.busy, f.Reason = true, "others removed it from the share before it was uploaded"
		case i.it.LastError != "":
			f.Reason = i.it.LastError
		default:
			if why := c.storeTrouble(); why != "" {
				f.Reason = why
			}
		}
		left = append(left, f)
		if hurry && (!f.busy || c.cfg.Deploy != Beside) {
			if _, had := c.urgent.LoadOrStore(i.it.Ino, struct{}{}); !had {
				c.schedule(i.it, i.rec)
			}
		}
	}
	return left, nil
}

// eachQueued calls fn for what of the scope is in the queue, in whichever way costs
// less: one file does not cost a long queue, nor a short queue a large tree.
func (c *Cache) eachQueued(tx *catalog.Tx, sc scope, fn func(*catalog.QueueItem) bool) error {
	if sc.all || len(sc.inos) > c.work.Len() && c.depot.Load() != nil {
		return tx.EachQueue(func(it *catalog.QueueItem) bool {
			_, in := sc.inos[it.Ino]
			return !in && !sc.all || fn(it)
		})
	}
	for _, ino := range slices.Sorted(maps.Keys(sc.inos)) {
		it, err := tx.QueueItem(ino)
		if errors.Is(err, catalog.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if !fn(it) {
			return nil
		}
	}
	return nil
}

// storeTrouble says why nothing moves, "" when the store answers.
func (c *Cache) storeTrouble() string {
	d := c.depot.Load()
	if d == nil {
		return "the store is off"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err.Error()
	}
	return ""
}

// tell reports progress: the total grows with what comes along.
func (c *Cache) tell(progress func(Progress), total *Progress, left []unsentFile) {
	if progress == nil {
		return
	}
	var files, bytes int64
	for _, l := range left {
		files++
		bytes += l.size
	}
	for _, t := range c.uploads.list() {
		bytes -= min(t.Done, bytes)
	}
	total.FilesTotal = max(total.FilesTotal, total.FilesDone+files)
	total.BytesTotal = max(total.BytesTotal, total.BytesDone+bytes)
	total.FilesDone = total.FilesTotal - files
	total.BytesDone = total.BytesTotal - bytes
	progress(*total)
}
