package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"strconv"
	"sync"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

const (
	// settingAdoption is how far adoption has come (adoptionRecord).
	settingAdoption = "adoption"
	// settingFrontier begins the names of the settings that are the frontier: one for
	// each directory that is to be walked, named by its inode number.
	settingFrontier = "adopt-dir/"
	// frontierBatch is how many directories one look takes from the frontier.
	frontierBatch = 4096
	// adoptBatch is how many names are taken in while their directory is locked: who
	// waits for the lock waits for a few milliseconds.
	adoptBatch = 64
	// adoptRetry is when a directory that could not be read is tried again.
	adoptRetry = time.Minute
)

// adoption takes in directories that appeared in the share without us: those of a
// share that is new to depotfs, and later those that others make. The frontier is in
// the catalog, so that a walk goes on where it was.
type adoption struct {
	more chan struct{} // signals the walk that the frontier has grown

	mu    sync.Mutex     // guards below
	rec   adoptionRecord // what settingAdoption says, or soon will
	left  int64          // directories of the frontier
	saved adoptionRecord
}

// adoptionRecord is kept over restarts; a kill loses what it counted last.
type adoptionRecord struct {
	Walked    bool  // the walk of the whole share ended once
	Settled   bool  // and all that it found was compared: the old clean log is not needed any more
	Dirs      int64 // walked
	Files     int64 // adopted, regular
	Bytes     int64 // of these
	Same      int64 // the depot had the bytes
	Uploaded  int64 // the depot had nothing
	Conflicts int64 // the depot had other bytes
	Read      int64 // bytes read to compare
}

func (a *adoption) init() { a.more = make(chan struct{}, 1) }

// count changes the numbers.
func (a *adoption) count(fn func(*adoptionRecord)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn(&a.rec)
}

func (a *adoption) numbers() (adoptionRecord, int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rec, a.left
}

func (a *adoption) grow(n int64) {
	a.mu.Lock()
	a.left += n
	a.mu.Unlock()
	if n <= 0 {
		return
	}
	select {
	case a.more <- struct{}{}:
	default:
	}
}

func frontierName(dir Ino) string { return fmt.Sprintf("%s%016x", settingFrontier, uint64(dir)) }

// openAdoption reads how far adoption had come. In a new catalog it begins at the root.
func (c *Cache) openAdoption() error {
	a := &c.adoption
	text, err := c.setting(settingAdoption)
	if err != nil {
		return err
	}
	if text == "" {
		if err := c.cat.Update(func(tx *catalog.Tx) error {
			if err := tx.PutSetting(settingAdoption, []byte("{}")); err != nil {
				return err
			}
			return tx.PutSetting(frontierName(catalog.Root), nil)
		}); err != nil {
			return fmt.Errorf("begin to adopt the share: %w", err)
		}
	} else if err := json.Unmarshal([]byte(text), &a.rec); err != nil {
		return fmt.Errorf("setting %s: %w: %w", settingAdoption, catalog.ErrDamaged, err)
	}
	a.saved = a.rec
	return c.cat.View(func(tx *catalog.Tx) error {
		return tx.EachSetting(settingFrontier, func(string, []byte) bool { a.left++; return true })
	})
}

// toWalk adds a directory to the frontier, before its own record is made: one that
// never comes to be is dropped by the walk.
func (c *Cache) toWalk(dir Ino) error {
	if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.PutSetting(frontierName(dir), nil) }); err != nil {
		return err
	}
	c.adoption.grow(1)
	return nil
}

// adoptLoop walks the frontier whenever there is one.
func (c *Cache) adoptLoop(ctx context.Context) error {
	for {
		failed, err := c.walkFrontier(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.log.Error("walk the share", "err", err)
			failed = true
		}
		var again <-chan time.Time
		rec, left := c.adoption.numbers()
		switch {
		case failed:
			again = time.After(adoptRetry)
		case left == 0 && !rec.Walked:
			c.adoption.count(func(r *adoptionRecord) { r.Walked = true })
			if err := c.saveAdoption(); err != nil {
				c.log.Warn("record that the share was walked", "err", err)
			}
			c.log.Info("share looked through", "dirs", rec.Dirs, "files", rec.Files, "bytes", rec.Bytes)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.adoption.more:
		case <-again:
		}
	}
}

// walkFrontier walks until nothing is left, or only what cannot be read now.
func (c *Cache) walkFrontier(ctx context.Context) (failed bool, err error) {
	for first := Ino(0); ; {
		var dirs []Ino
		if err := c.cat.View(func(tx *catalog.Tx) error {
			return tx.EachSetting(settingFrontier, func(name string, _ []byte) bool {
				n, err := strconv.ParseUint(name[len(settingFrontier):], 16, 64)
				if err == nil && Ino(n) > first {
					dirs = append(dirs, Ino(n))
				}
				return len(dirs) < frontierBatch
			})
		}); err != nil {
			return failed, err
		}
		if len(dirs) == 0 {
			if first == 0 || failed {
				return failed, nil
			}
			first = 0 // what was added behind the back of this round
			continue
		}
		for _, dir := range dirs {
			first = dir
			if err := c.walkDir(ctx, dir); err != nil {
				if ctx.Err() != nil {
					return failed, ctx.Err()
				}
				failed = true
			}
		}
	}
}

// walkDir adopts what is in one directory and takes it off the frontier. An error
// leaves it there.
func (c *Cache) walkDir(ctx context.Context, dir Ino) error {
	rec, err := c.record(dir)
	var path string
	if err == nil && isDir(rec) && inShare(rec) {
		err = c.cat.View(func(tx *catalog.Tx) error { path, err = dirPath(tx, dir); return err })
		if err == nil {
			err = c.adoptDir(ctx, dir, path)
		}
	}
	switch {
	case err == nil, errors.Is(err, ErrStale), errors.Is(err, iofs.ErrNotExist):
		c.problems.clear("adopt", path)
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		c.problems.add("adopt", path, err.Error(), c.now())
		c.log.Warn("look through a directory of the share", "path", path, "err", err)
		return err
	}
	c.adoption.count(func(r *adoptionRecord) { r.Dirs++ })
	if err := c.cat.Update(func(tx *catalog.Tx) error {
		if err := c.putAdoption(tx); err != nil {
			return err
		}
		return tx.DeleteSetting(frontierName(dir))
	}); err != nil {
		return fmt.Errorf("record that %q was looked through: %w", path, err)
	}
	c.adoption.grow(-1)
	return nil
}

// adoptDir takes in the names of one directory, a few at a time.
func (c *Cache) adoptDir(ctx context.Context, dir Ino, path string) error {
	before, err := c.share.StatSync(path)
	if err != nil {
		return notThere(err)
	}
	var names []string
	take := func() error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := c.adoptNames(dir, names)
		names = names[:0]
		return err
	}
	if err := c.share.ReadDir(path, func(name string, _ uint64, _ uint32) error {
		if !hidden(dir, name) {
			names = append(names, name)
		}
		if len(names) < adoptBatch {
			return nil
		}
		return take()
	}); err != nil {
		return notThere(err)
	}
	if err := take(); err != nil {
		return err
	}
	if c.nanos()-before.Mtime < int64(hotTime) {
		c.scans.heat(dir, c.now()) // somebody may be at work in it
	}
	return nil
}

// adoptNames takes in those of the names that the catalog does not have.
func (c *Cache) adoptNames(dir Ino, names []string) error {
	var unknown []string
	if err := c.cat.View(func(tx *catalog.Tx) error {
		for _, name := range names {
			_, err := tx.Lookup(dir, name)
			if errors.Is(err, catalog.ErrNotFound) {
				unknown = append(unknown, name)
			} else if err != nil {
				return err
			}
		}
		return nil
	}); err != nil || len(unknown) == 0 {
		return err
	}
	return c.withDir(dir, func(d lockedDir) error {
		for _, name := range unknown {
			if _, err := c.find(dir, name); !errors.Is(err, iofs.ErrNotExist) {
				if err != nil {
					return err
				}
				continue // somebody looked it up
			}
			st, err := c.share.Stat(join(d.path, name))
			if err == nil {
				_, err = c.adopt(d, name, st)
			}
			if err != nil && !errors.Is(err, iofs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

// counted notes one adopted name.
func (a *adoption) counted(st share.Stat) {
	if st.IsRegular() {
		a.count(func(r *adoptionRecord) { r.Files++; r.Bytes += st.Size })
	}
}

// putAdoption writes the numbers into a transaction.
func (c *Cache) putAdoption(tx *catalog.Tx) error {
	a := &c.adoption
	a.mu.Lock()
	rec := a.rec
	a.saved = rec
	a.mu.Unlock()
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return tx.PutSetting(settingAdoption, text)
}

// saveAdoption writes the numbers where they have changed.
func (c *Cache) saveAdoption() error {
	a := &c.adoption
	a.mu.Lock()
	same := a.rec == a.saved
	a.mu.Unlock()
	if same {
		return nil
	}
	return c.cat.Update(c.putAdoption)
}

func (c *Cache) adoptionStatus() AdoptionStatus {
	rec, left := c.adoption.numbers()
	s := AdoptionStatus{State: "done", DirsDone: rec.Dirs, DirsLeft: left, Files: rec.Files, Bytes: rec.Bytes,
		Compared: rec.Same + rec.Uploaded + rec.Conflicts, Same: rec.Same, Uploaded: rec.Uploaded, Conflicts: rec.Conflicts,
		ComparedBytes: rec.Read, Comparing: c.compares.len()}
	if left > 0 || !rec.Walked {
		s.State = "running"
	}
	return s
}
