package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"syscall"
	"time"

	"depotfs/cache/catalog"
)

// burst sums up the held deletes of one burst. It is kept in the catalog, changed with each
// of them, so that status need not count. Burst 0 has the hidden names.
type burst struct {
	Since int64  `json:"since"` // ns
	Last  int64  `json:"last"`  // ns
	Names int64  `json:"names"` // files, directories and links
	Dirs  int64  `json:"dirs"`  // template and snapshot directories that these are in
	Bytes int64  `json:"bytes"`
	First string `json:"first"`
	// Reach is since when (ns) the deletes before it belong to it; 0: these were found.
	Reach int64 `json:"reach,omitempty"`
}

const settingBurst = "brake.burst."

func burstName(id uint64) string { return fmt.Sprintf("%s%020d", settingBurst, id) }

func (b *burst) put(tx *catalog.Tx, id uint64) error {
	if b.Names <= 0 && b.Reach == 0 {
		return tx.DeleteSetting(burstName(id))
	}
	return putJSON(tx, burstName(id), b)
}

func getBurst(tx *catalog.Tx, id uint64) (b burst, err error) {
	return b, getJSON(tx, burstName(id), &b)
}

// putHeld stores a held delete in the place of what its path had.
func (c *Cache) putHeld(tx *catalog.Tx, h *catalog.HeldDelete) error {
	if err := c.dropHeld(tx, h.Path); err != nil {
		return err
	}
	if h.Kind == catalog.DeleteTold {
		return tx.PutHeldDelete(h)
	}
	b, err := getBurst(tx, h.Burst)
	if err != nil {
		return err
	}
	another, err := firstHeldIn(tx, brakedDir(h.Path+"/"))
	if err != nil {
		return err
	}
	if b.Names == 0 {
		b.First = h.Path
		if b.Since == 0 {
			b.Since = h.Time
		}
	}
	b.Names++
	b.Bytes += heldSize(h)
	b.Last = max(b.Last, h.Time)
	if another {
		b.Dirs++
	}
	return errors.Join(b.put(tx, h.Burst), tx.PutHeldDelete(h))
}

// dropHeld forgets what is on record of the delete of a path.
func (c *Cache) dropHeld(tx *catalog.Tx, path string) error {
	h, err := tx.HeldDelete(path)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := tx.DeleteHeldDelete(path); err != nil || h.Kind == catalog.DeleteTold {
		return err
	}
	b, err := getBurst(tx, h.Burst)
	if err != nil {
		return err
	}
	last, err := firstHeldIn(tx, brakedDir(path+"/"))
	if err != nil {
		return err
	}
	b.Names--
	b.Bytes -= heldSize(h)
	if last {
		b.Dirs--
	}
	return b.put(tx, h.Burst)
}

// firstHeldIn says whether nothing of a directory is held; "" is none.
func firstHeldIn(tx *catalog.Tx, dir string) (bool, error) {
	if dir == "" {
		return false, nil
	}
	h, err := tx.HeldDelete(dir)
	if err == nil && h.Kind != catalog.DeleteTold {
		return false, nil
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return false, err
	}
	h, err = heldBelow(tx, dir)
	return h == nil, err
}

// heldBelow is the first delete that is held, or hidden, below a directory; nil for none.
func heldBelow(tx *catalog.Tx, dir string) (found *catalog.HeldDelete, err error) {
	err = tx.EachHeldDelete(dir+"/", "", func(h *catalog.HeldDelete) bool {
		if h.Kind != catalog.DeleteTold {
			found = h
		}
		return found == nil
	})
	return found, err
}

func heldSize(h *catalog.HeldDelete) int64 {
	if isRegular(h.Inode) {
		return h.Inode.Base.Size
	}
	return 0
}

// heldText says in one sentence what a burst is and what to do.
func (b *burst) text() string {
	where := ""
	if b.Dirs > 0 {
		where = fmt.Sprintf(" in %d template and snapshot directories", b.Dirs)
	}
	return fmt.Sprintf("%d deletes%s of what other zones made, since %s, are held: the other zones and the depot keep them all; see depotfs deletes list, then say depotfs deletes approve or discard",
		b.Names, where, time.Unix(0, b.Since).UTC().Format(time.RFC3339))
}

// stillHeld is a name of the burst, the first one where that was not decided about alone.
func (b *burst) stillHeld(tx *catalog.Tx, id uint64) (path string, err error) {
	if h, err := heldAt(tx, b.First); err != nil || h != nil && h.Burst == id {
		return b.First, err
	}
	err = tx.EachHeldDelete("", "", func(h *catalog.HeldDelete) bool {
		if h.Kind == catalog.DeleteHeld && h.Burst == id {
			path = h.Path
		}
		return path == ""
	})
	return path, err
}

// heldProblems are the bursts for status.
func (c *Cache) heldProblems() ([]Problem, DeleteStatus, error) {
	var out []Problem
	var s DeleteStatus
	err := c.cat.View(func(tx *catalog.Tx) error {
		var failed error
		err := eachBurst(tx, func(id uint64, b burst) {
			if id == 0 {
				s.Hidden = b.Names
				return
			}
			s.Bursts++
			s.Held += b.Names
			s.HeldBytes += b.Bytes
			first, err := b.stillHeld(tx, id)
			failed = errors.Join(failed, err)
			out = append(out, Problem{Path: first, Kind: "held", Reason: b.text(), Since: time.Unix(0, b.Since), Attempts: int(b.Names)})
		})
		return errors.Join(err, failed)
	})
	return out, s, err
}

// eachBurst calls fn for every burst on record, the oldest first.
func eachBurst(tx *catalog.Tx, fn func(id uint64, b burst)) error {
	var failed error
	err := tx.EachSetting(settingBurst, func(name string, value []byte) bool {
		var id uint64
		var b burst
		if _, err := fmt.Sscanf(strings.TrimPrefix(name, settingBurst), "%d", &id); err != nil {
			failed = fmt.Errorf("setting %s: %w", name, err)
		} else if err := json.Unmarshal(value, &b); err != nil {
			failed = fmt.Errorf("setting %s: %w", name, err)
		} else {
			fn(id, b)
		}
		return failed == nil
	})
	return errors.Join(err, failed)
}

func getJSON(tx *catalog.Tx, name string, into any) error {
	v, err := tx.Setting(name)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(v, into)
	}
	if err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return nil
}

func putJSON(tx *catalog.Tx, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return tx.PutSetting(name, b)
}

// inodeAt is what a path names here, nil for nothing.
func inodeAt(tx *catalog.Tx, path string) (*catalog.Inode, error) {
	at := catalog.Root
	for name := range strings.SplitSeq(path, "/") {
		d, err := tx.Lookup(at, name)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		at = d.Ino
	}
	rec, err := inode(tx, at)
	if errors.Is(err, ErrStale) || errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	return rec, err
}

// subdirsOf lists the directories in a directory.
func subdirsOf(tx *catalog.Tx, dir Ino) (dirs []catalog.Dirent, err error) {
	err = tx.ReadDir(dir, 0, func(e catalog.Dirent) bool {
		if e.Type == syscall.S_IFDIR {
			dirs = append(dirs, e)
		}
		return true
	})
	return dirs, err
}
