package cache

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

// The brake.
//
// A delete of what another zone made is judged in the transaction in which the name goes
// (judgeDelete). One of a burst is held: instead of a change record, a tombstone and
// removals there is a HeldDelete with the inode as it was. Its objects have no owner but
// that record; who claims one of their keys ends it (keyTaken). Until there is a burst,
// deletes are told, and kept on record for as long as they may turn out to be its
// beginning; then they are taken back (braketakeback.go): the removal is called off, or the
// object comes back from the trash, and a record that is later than the delete's tells so.
// A held or hidden name is not taken in from a listing (hides) nor from another zone's
// records (heldHears) but in a later version. Approve makes of the record what the delete
// would have been, discard a remote inode with a new number; a transaction for each name.
// The unlink of a file that is open leaves its objects to it (FlagHeld) to be read.

// Brake says from when on deletes of what other zones made are held (brakehold.go):
// when, within Window, some of it was deleted in at least Dirs template or snapshot
// directories, which are more than Percent of all that others made, or more than Count.
type Brake struct {
	Off     bool          // never
	Dirs    int           // at least 1
	Percent int           // 0 to 100
	Count   int           // at most maxBrakeDirs
	Window  time.Duration // of quiet, too, after which a burst is over
}

// DefaultBrake lets through what people and CloudStack delete by the way, and stops the
// sweep of a secondary storage VM within its first templates.
var DefaultBrake = Brake{Dirs: 3, Percent: 10, Count: 20, Window: 10 * time.Minute}

// maxBrakeDirs bounds the directories that are remembered within a window.
const maxBrakeDirs = 1000

// Validate says what is wrong with a brake that a person set.
func (b Brake) Validate() error {
	switch {
	case b.Off:
		return nil
	case b.Dirs < 1 || b.Dirs > maxBrakeDirs:
		return fmt.Errorf("the brake cannot wait for %d directories: 1 to %d", b.Dirs, maxBrakeDirs)
	case b.Percent < 0 || b.Percent > 100:
		return fmt.Errorf("the brake cannot go by %d %%: 0 to 100", b.Percent)
	case b.Count < 0 || b.Count > maxBrakeDirs:
		return fmt.Errorf("the brake cannot go by more than %d directories: 0 to %d", b.Count, maxBrakeDirs)
	case b.Window < time.Second:
		return fmt.Errorf("the brake's window of %v is too short: at least 1s", b.Window)
	}
	return nil
}

// settingWindow has what the brake remembers of the deletes before.
const settingWindow = "brake.window"

// brakeWindow is what was deleted lately of what other zones made.
type brakeWindow struct {
	Burst uint64           `json:"burst,omitempty"` // that is under way
	Last  int64            `json:"last,omitempty"`  // ns, its last delete
	Dirs  map[string]int64 `json:"dirs,omitempty"`  // before a burst: template and snapshot directories, and when (ns) the last delete in each was
}

// judgeDelete decides about a name that this zone deletes, in the transaction in which it
// goes: whether the other zones are told and the objects removed, or (hold) the name goes
// here alone. Then rec has FlagHeld, which the caller stores, and disown leaves the objects
// to the held delete. It counts as well who deletes because two listings lack a name.
func (c *Cache) judgeDelete(tx *catalog.Tx, rec *catalog.Inode, path string, dir bool) (hold bool, err error) {
	h := &catalog.HeldDelete{Path: path, Time: c.nanos(), Inode: rec.Clone()}
	var below *catalog.HeldDelete
	if dir {
		below, err = heldBelow(tx, path)
	}
	others := c.isOthers(rec)
	part := others
	if err == nil && !others && len(rec.Objects) > 0 {
		part, err = c.isPartOfOthers(tx, path)
	}
	switch {
	case err != nil:
		return false, err
	case below != nil: // whoever has what is in it needs the directory
		h.Kind, h.Burst = below.Kind, below.Burst
	case !part:
		return false, nil
	case c.rules.Of(path).Deletes == layout.DeleteOrigin:
		h.Kind = catalog.DeleteHidden
	case c.cfg.Brake.Off:
		return false, nil
	default:
		if h.Burst, err = c.countDelete(tx, path, others && !dir, h.Time); err != nil {
			return false, err
		}
		h.Kind = catalog.DeleteHeld
		if h.Burst == 0 {
			h.Kind = catalog.DeleteTold
		}
	}
	if h.Kind == catalog.DeleteTold {
		return false, c.putHeld(tx, h)
	}
	if err := c.giveUpKeys(tx, h, rec.Ino); err != nil {
		return false, err
	}
	rec.Flags |= catalog.FlagHeld
	return true, c.putHeld(tx, h)
}

// isOthers says whether the depot has a file or directory that this zone did not make; to
// rename it is not to make it.
// What was there when the depot was listed is nobody's that we know.
func (c *Cache) isOthers(rec *catalog.Inode) bool {
	return len(rec.Objects) > 0 && (rec.Origin != c.zoneName() || rec.Flags&catalog.FlagOthers != 0)
}

// isPartOfOthers says whether a path is in the directory of a template that another zone
// made: without the properties that this zone wrote last, its image is of no use.
func (c *Cache) isPartOfOthers(tx *catalog.Tx, path string) (bool, error) {
	dir := brakedDir(path)
	if !strings.HasPrefix(dir, strings.Join(brakedTrees[0], "/")+"/") {
		return false, nil
	}
	rec, err := inodeAt(tx, dir)
	return rec != nil && c.isOthersDir(rec), err
}

// isOthersDir says whether another zone made a directory. One that others made has no
// object where its maker wrote none; one of ours that is on its way there has none either.
func (c *Cache) isOthersDir(rec *catalog.Inode) bool {
	return isDir(rec) && rec.Origin != c.zoneName() && (len(rec.Objects) > 0 || rec.Flags&catalog.FlagAttrDirty == 0)
}

// judgeGone has the other zones told of a name that goes here, unless that is held.
func (c *Cache) judgeGone(tx *catalog.Tx, rec *catalog.Inode, path string, del *deletion) error {
	if len(rec.Links) <= 1 { // the file has no other name
		hold, err := c.judgeDelete(tx, rec, path, isDir(rec))
		if err != nil {
			return err
		}
		if hold {
			return tx.PutInode(rec)
		}
		if err := c.noteTrash(tx, path, del); err != nil {
			return err
		}
	}
	return c.announceGone(tx, rec, path, del)
}

// noteTrash notes where the trash keeps a file that the other zones are told of, in case it
// is to be taken back.
func (c *Cache) noteTrash(tx *catalog.Tx, path string, del *deletion) error {
	h, err := tx.HeldDelete(path)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil || h.Kind != catalog.DeleteTold || isDir(h.Inode) || del == nil {
		return err
	}
	h.Trash = c.trashKey(del.at, path)
	return c.putHeld(tx, h)
}

// judgeVictim is judgeDelete of what a rename replaces, of which the rename's own record
// tells.
func (c *Cache) judgeVictim(tx *catalog.Tx, ino Ino, path string) error {
	rec, err := inode(tx, ino)
	if err != nil || len(rec.Links) > 1 {
		return err
	}
	hold, err := c.judgeDelete(tx, rec, path, isDir(rec))
	if err != nil || !hold {
		return err
	}
	return tx.PutInode(rec)
}

// giveUpKeys makes the objects of h nobody's but the record's.
func (c *Cache) giveUpKeys(tx *catalog.Tx, h *catalog.HeldDelete, ino Ino) error {
	own := h.Inode.Objects[:0]
	for _, o := range h.Inode.Objects {
		owner, err := tx.KeyOwner(o.Key)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && owner != ino {
			continue
		}
		if err == nil {
			err = tx.DeleteKeyOwner(o.Key)
		}
		if err != nil {
			return err
		}
		own = append(own, o)
	}
	h.Inode.Objects = own
	return nil
}

// countDelete notes a delete and returns the burst that it belongs to, 0 for none. What does
// not count begins none: directories, with which nothing is lost, and what this zone made.
func (c *Cache) countDelete(tx *catalog.Tx, path string, counts bool, now int64) (uint64, error) {
	var w brakeWindow
	if err := getJSON(tx, settingWindow, &w); err != nil {
		return 0, err
	}
	window := int64(c.cfg.Brake.Window)
	if w.Burst != 0 && w.Last > now-window && w.Last <= now+window {
		w.Last = now
		return w.Burst, putJSON(tx, settingWindow, &w)
	}
	in := brakedDir(path)
	if in == "" || !counts {
		return 0, nil
	}
	if w.Dirs == nil || w.Burst != 0 {
		w = brakeWindow{Dirs: map[string]int64{}}
	}
	for d, at := range w.Dirs {
		if at <= now-window || at > now+window {
			delete(w.Dirs, d)
		}
	}
	_, known := w.Dirs[in]
	w.Dirs[in] = now
	if !known {
		many, err := c.tooMany(tx, w.Dirs)
		if err != nil {
			return 0, err
		}
		if many {
			id := uint64(now)
			w = brakeWindow{Burst: id, Last: now}
			b := burst{Since: now, Reach: now - window}
			if err := b.put(tx, id); err != nil {
				return 0, err
			}
			c.brake.wakeUp()
		}
	}
	return w.Burst, putJSON(tx, settingWindow, &w)
}

// tooMany says whether deletes in these directories are a burst.
func (c *Cache) tooMany(tx *catalog.Tx, dirs map[string]int64) (bool, error) {
	b := c.cfg.Brake
	switch {
	case len(dirs) < b.Dirs:
		return false, nil
	case len(dirs) > b.Count, b.Percent == 0:
		return true, nil
	}
	// Of so many they would not be more than the share.
	enough := (100*len(dirs) + b.Percent - 1) / b.Percent
	total := len(dirs)
	err := c.eachBrakedDir(tx, func(path string) bool {
		if _, counted := dirs[path]; !counted {
			total++
		}
		return total < enough
	})
	return total < enough, err
}

// brakedDir is the template or snapshot directory that a path is in, "" for none.
func brakedDir(path string) string {
	parts := strings.Split(path, "/")
	for _, above := range brakedTrees {
		depth := len(above) + 2 // account, and template or volume
		if len(parts) > depth && strings.HasPrefix(path, strings.Join(above, "/")+"/") {
			return strings.Join(parts[:depth], "/")
		}
	}
	return ""
}

// brakedTrees are where CloudStack keeps templates and snapshots: below an account, by number.
var brakedTrees = [][]string{{"template", "tmpl"}, {"snapshots"}}

// eachBrakedDir calls fn for the template and snapshot directories that others made,
// until it returns false.
func (c *Cache) eachBrakedDir(tx *catalog.Tx, fn func(path string) bool) error {
	for _, above := range brakedTrees {
		tree := strings.Join(above, "/")
		rec, err := inodeAt(tx, tree)
		if err != nil || rec == nil {
			return err
		}
		accounts, err := subdirsOf(tx, rec.Ino)
		if err != nil {
			return err
		}
		for _, account := range accounts {
			more := true
			var failed error
			err := tx.ReadDir(account.Ino, 0, func(e catalog.Dirent) bool {
				rec, err := tx.Inode(e.Ino)
				if err != nil {
					failed = err
					return false
				}
				if c.isOthersDir(rec) {
					more = fn(join(join(tree, account.Name), e.Name))
				}
				return more
			})
			if err = errors.Join(err, failed); err != nil || !more {
				return err
			}
		}
	}
	return nil
}
