package cache

import (
	"context"
	"depotfs/cache/catalog"
	"depotfs/cache/share"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// takenError says that a key is another live inode's. makeWay follows when no key
// is locked any more.
type takenError struct {
	owner Ino
	key   string
}

func (e takenError) Error() string {
	return fmt.Sprintf("another file (inode %d) still has the key", e.owner)
}

// makeWay is called when rec wants a key that another live inode owns: that one
// moves first. One that is dirty may itself have to wait for rec (it was finished
// later): its old object is put aside, or given up where nobody needs its bytes.
// Inodes that want each other's keys in a circle are broken up in the same way.
func (c *Cache) makeWay(ctx context.Context, d *depot, taken takenError, rec *catalog.Inode) error {
	o, err := c.record(taken.owner)
	if errors.Is(err, ErrStale) || err == nil && len(o.Links) == 0 {
		return laterError{c.now().Add(200 * time.Millisecond), "waits for the removal of another file"}
	}
	if err != nil {
		return err
	}
	if err := c.mustLeave(o, taken.key); err != nil {
		return err
	}
	aside := o
	if !holdsOnlyCopy(o.State) {
		circle, err := c.circle(o, rec.Ino)
		if err != nil {
			return err
		}
		if aside = nil; circle {
			aside = rec
		}
	}
	if aside != nil {
		err := c.putAside(ctx, d, aside)
		c.kick(aside.Ino) // it is to have the key of its name in the end
		if err != nil {
			return err
		}
	}
	wait := 200 * time.Millisecond
	if _, failing := c.failing.Load(o.Ino); failing {
		wait = 5 * time.Second // it is tried again at its own time
	} else {
		c.work.Add(o.Ino, c.now())
	}
	return laterError{c.now().Add(wait), "waits until another file has left its key"}
}

// mustLeave makes sure that the owner of a key that another file wants is in the
// queue, or that it is no owner.
func (c *Cache) mustLeave(o *catalog.Inode, key string) error {
	return c.cat.Update(func(tx *catalog.Tx) error {
		r, err := inode(tx, o.Ino)
		if err != nil {
			return err
		}
		switch owner, err := tx.KeyOwner(key); {
		case errors.Is(err, catalog.ErrNotFound), err == nil && owner != o.Ino:
			return nil // it has left meanwhile
		case err != nil:
			return err
		}
		if !ownsKey(r, key) {
			c.log.Warn("a key is on record for a file that does not have it", "key", key, "inode", r.Ino)
			return tx.DeleteKeyOwner(key)
		}
		if _, err := tx.QueueItem(r.Ino); !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		return c.putQueue(tx, r, 0, false)
	})
}

// putAside frees the keys of an inode. The old object of a dirty file that is whole
// here, of a directory or of a symlink is only in the way; whether it is here is
// looked at: others may have removed it.
func (c *Cache) putAside(ctx context.Context, d *depot, rec *catalog.Inode) error {
	if isRegular(rec) && rec.State == Dirty {
		err := c.lookAtInode(rec.Ino)
		if errors.Is(err, errUnsettled) {
			return c.settleVanished(ctx, d, rec.Ino)
		}
		if err == nil {
			rec, err = c.record(rec.Ino)
		}
		if err != nil {
			return err
		}
	}
	if rec.Flags&catalog.FlagUnseen != 0 {
		var err error
		if rec, err = c.keepUnseen(ctx, d, rec); err != nil {
			return err
		}
	}
	src, ok := currentObject(rec)
	if !ok || rec.State == Dirty || !isRegular(rec) {
		return c.dropStale(rec.Ino, []string{})
	}
	return c.stepAside(ctx, d, rec, src)
}

// circle says whether following "wants a key owned by" from o, over any of its
// names, leads to ino.
func (c *Cache) circle(o *catalog.Inode, ino Ino) (bool, error) {
	seen := map[Ino]bool{o.Ino: true}
	for next := []*catalog.Inode{o}; len(next) > 0 && len(seen) < maxCircle; next = next[1:] {
		keys, _, err := c.wantedKeys(next[0])
		if err != nil {
			return false, err
		}
		for _, key := range keys {
			var owner Ino
			err := c.cat.View(func(tx *catalog.Tx) error {
				owner, err = tx.KeyOwner(key)
				if errors.Is(err, catalog.ErrNotFound) {
					return nil
				}
				return err
			})
			if err != nil {
				return false, err
			}
			if owner == ino {
				return true, nil
			}
			if owner == 0 || seen[owner] {
				continue
			}
			seen[owner] = true
			rec, err := c.record(owner)
			if errors.Is(err, ErrStale) {
				continue
			}
			if err != nil {
				return false, err
			}
			next = append(next, rec)
		}
	}
	return false, nil
}

// maxCircle bounds the search: renames in a circle of more files are not worth it,
// and a wrong "no" only waits.
const maxCircle = 256

// stepAside moves an object to .depotfs/moving/ and gives its key free.
func (c *Cache) stepAside(ctx context.Context, d *depot, rec *catalog.Inode, src catalog.Object) error {
	key := c.cfg.Prefix + share.Private + "/moving/" + strconv.FormatUint(c.cat.Epoch(), 16) + "-" + strconv.FormatUint(uint64(rec.Ino), 10)
	if src.Key != key {
		if err := c.copyObject(ctx, d, rec, src, key, c.pathText(rec)); err != nil {
			return err
		}
	}
	return c.dropStale(rec.Ino, []string{key})
}
