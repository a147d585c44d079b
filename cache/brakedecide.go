package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"depotfs/cache/catalog"
)

// HeldName is a name that is gone here and nowhere else.
type HeldName struct {
	Path    string    `json:"path"`
	Kind    string    `json:"kind"` // held: waits for approve or discard; hidden: gone here for good, by its class
	Burst   uint64    `json:"burst,omitempty"`
	Type    string    `json:"type"` // file, dir, symlink
	Size    int64     `json:"size"`
	Deleted time.Time `json:"deleted"`
	Origin  string    `json:"origin,omitempty"` // the zone that made it; "" = not known
	Note    string    `json:"note,omitempty"`
}

// DeleteStatus sums up the names that are gone here and nowhere else.
type DeleteStatus struct {
	Held      int64 `json:"held"`       // names whose delete waits for a person's word
	HeldBytes int64 `json:"held_bytes"` // of these, in the depot
	Bursts    int64 `json:"bursts"`
	Hidden    int64 `json:"hidden"` // names whose delete hides them here, by their class
}

// EachHeldName calls fn for the held and hidden names at and below a path, "" for all, in
// the order of paths.
func (c *Cache) EachHeldName(ctx context.Context, path string, fn func(HeldName) error) error {
	return c.eachHeld(ctx, path, func(h *catalog.HeldDelete) error {
		n := HeldName{Path: h.Path, Kind: "held", Burst: h.Burst, Type: typeName(h.Inode), Size: heldSize(h), Deleted: time.Unix(0, h.Time), Origin: h.Inode.Origin}
		switch {
		case h.Kind == catalog.DeleteHidden:
			n.Kind = "hidden"
		case h.Told:
			n.Note = "the other zones were told before the burst was held; it is being taken back"
		case h.Saved:
			n.Note = "a new file of this name is to replace the object, which was copied to the conflicts"
		}
		return fn(n)
	})
}

// eachHeld calls fn for the deletes that are held or hidden, with no transaction open.
func (c *Cache) eachHeld(ctx context.Context, path string, fn func(*catalog.HeldDelete) error) error {
	after := ""
	for {
		var page []*catalog.HeldDelete
		if err := c.cat.View(func(tx *catalog.Tx) (err error) {
			page, err = heldPage(tx, path, after, func(h *catalog.HeldDelete) bool {
				return h.Kind != catalog.DeleteTold && (path == "" || h.Path == path || strings.HasPrefix(h.Path, path+"/"))
			})
			return err
		}); err != nil {
			return fmt.Errorf("read held deletes: %w", err)
		}
		for _, h := range page {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(h); err != nil {
				return err
			}
			after = h.Path
		}
		if len(page) < heldBatch {
			return nil
		}
	}
}

// ApproveDeletes lets held deletes at and below paths go, all with none: their objects go and
// the other zones are told. What is hidden stays so.
func (c *Cache) ApproveDeletes(ctx context.Context, paths []string, fn func(Progress)) ([]NotDone, error) {
	p := decision{c: c, ctx: ctx, fn: fn}
	for _, path := range everywhere(paths) {
		if err := p.approve(path); err != nil {
			return p.left, err
		}
	}
	return p.left, p.end(paths)
}

// DiscardDeletes brings back the names at and below paths whose deletes are held or
// hidden; with no path, all that are held.
func (c *Cache) DiscardDeletes(ctx context.Context, paths []string, fn func(Progress)) ([]NotDone, error) {
	p := decision{c: c, ctx: ctx, fn: fn}
	for _, path := range everywhere(paths) {
		if err := p.discard(path); err != nil {
			return p.left, err
		}
	}
	return p.left, p.end(paths)
}

// everywhere makes of no path the one that has all others below it.
func everywhere(paths []string) []string {
	if len(paths) == 0 {
		return []string{""}
	}
	out := slices.Clone(paths)
	for i := range out {
		out[i] = strings.Trim(out[i], "/")
	}
	return out
}

// decision is one run of approve or discard. Each name is decided in a transaction: one
// that is broken off goes on where it was when it is said again.
type decision struct {
	c    *Cache
	ctx  context.Context
	fn   func(Progress)
	done Progress
	left []NotDone
}

func (p *decision) leave(path, reason string) {
	p.left = append(p.left, NotDone{Path: path, Reason: reason})
}

func (p *decision) advance(h *catalog.HeldDelete) {
	p.done.FilesDone++
	p.done.BytesDone += heldSize(h)
	p.done.FilesTotal, p.done.BytesTotal = max(p.done.FilesTotal, p.done.FilesDone), max(p.done.BytesTotal, p.done.BytesDone)
	if p.fn != nil {
		p.fn(p.done)
	}
}

// end makes the decisions durable. Where all was decided, the next delete is the first.
func (p *decision) end(paths []string) error {
	if slices.Contains(everywhere(paths), "") {
		if err := p.c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteSetting(settingWindow) }); err != nil {
			return err
		}
	}
	p.c.changed.wake()
	return p.c.cat.Sync(context.WithoutCancel(p.ctx))
}

func (p *decision) approve(path string) error {
	var dirs []string // after what is in them
	err := p.c.eachHeld(p.ctx, path, func(h *catalog.HeldDelete) error {
		switch {
		case h.Kind == catalog.DeleteHidden:
			if path != "" {
				p.leave(h.Path, "hidden here, by the class of its path: only the zone that made it deletes it")
			}
			return nil
		case isDir(h.Inode):
			dirs = append(dirs, h.Path)
			return nil
		}
		return p.approveOne(h.Path)
	})
	for i := len(dirs) - 1; err == nil && i >= 0; i-- {
		if err = p.ctx.Err(); err == nil {
			err = p.approveOne(dirs[i])
		}
	}
	return err
}

// approveOne lets one delete go.
func (p *decision) approveOne(path string) error {
	c := p.c
	h, err := c.untold(p.ctx, path)
	if errors.Is(err, errNotInTrash) { // gone already, and told
		c.problems.clear("held", path)
		return c.cat.Update(func(tx *catalog.Tx) error { return c.dropHeld(tx, path) })
	}
	if err != nil {
		p.leave(path, "it is being taken back from the trash, which failed: "+err.Error())
		return nil
	}
	if h == nil {
		return nil
	}
	if err := c.cat.Update(func(tx *catalog.Tx) error {
		now, err := tx.HeldDelete(path)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && now.Time != h.Time {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.dropHeld(tx, path); err != nil {
			return err
		}
		del := c.deleted(path)
		if err := c.announceGone(tx, now.Inode, path, del); err != nil {
			return err
		}
		return c.letGo(tx, now, del)
	}); err != nil {
		return fmt.Errorf("approve the delete of %q: %w", path, err)
	}
	c.kickRemovals(h.Inode, path)
	c.log.Info("a held delete was approved", "path", path)
	p.advance(h)
	return nil
}

// letGo makes removals of the objects of a delete, which the trash keeps. Those of a file that is open, and read
// from its object, go when it is closed.
func (c *Cache) letGo(tx *catalog.Tx, h *catalog.HeldDelete, del *deletion) error {
	orphan, err := tx.Inode(h.Inode.Ino)
	if err == nil && orphan.Flags&catalog.FlagOrphan != 0 && orphan.Flags&catalog.FlagHeld != 0 && len(orphan.Objects) > 0 {
		orphan.Flags &^= catalog.FlagHeld
		for _, o := range orphan.Objects {
			if _, err := tx.KeyOwner(o.Key); errors.Is(err, catalog.ErrNotFound) {
				err = tx.SetKeyOwner(o.Key, orphan.Ino)
				if err != nil {
					return err
				}
			} else if err != nil {
				return err
			}
		}
		return errors.Join(putDeletion(tx, orphan.Ino, del), tx.PutInode(orphan))
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	now := c.nanos()
	for i, o := range h.Inode.Objects {
		if _, err := tx.KeyOwner(o.Key); err == nil {
			continue // it has become another file's
		} else if !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		rm := &catalog.Removal{Key: o.Key, ETag: o.ETag, Path: h.Path, Since: now, NotBefore: now}
		c.trashObject(rm, h.Inode, i, del)
		if err := c.removeOwned(tx, h.Inode.Ino, rm); err != nil {
			return err
		}
	}
	return nil
}

// untold is the held delete of a path after the other zones' view of it was restored, where
// they had been told; nil where there is none any more.
func (c *Cache) untold(ctx context.Context, path string) (*catalog.HeldDelete, error) {
	read := func() (h *catalog.HeldDelete, err error) {
		err = c.cat.View(func(tx *catalog.Tx) error {
			h, err = tx.HeldDelete(path)
			return err
		})
		if errors.Is(err, catalog.ErrNotFound) || err == nil && h.Kind == catalog.DeleteTold {
			return nil, nil
		}
		return h, err
	}
	h, err := read()
	if err != nil || h == nil || !h.Told {
		return h, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Limits.ColdTimeout)
	defer cancel()
	if err := c.takeBack(ctx, []*catalog.HeldDelete{h}); err != nil {
		return nil, err
	}
	if h, err = read(); err == nil && h != nil && h.Told {
		err = errNotInTrash
	}
	return h, err
}

func (p *decision) discard(path string) error {
	if path != "" { // what is in a directory needs it
		for i, b := range path {
			if b == '/' {
				if err := p.discardOne(path[:i]); err != nil {
					return err
				}
			}
		}
	}
	return p.c.eachHeld(p.ctx, path, func(h *catalog.HeldDelete) error {
		if path == "" && h.Kind == catalog.DeleteHidden {
			return nil
		}
		return p.discardOne(h.Path)
	})
}

// discardOne brings one name back.
func (p *decision) discardOne(path string) error {
	h, err := p.c.untold(p.ctx, path)
	if err != nil {
		p.leave(path, "its object cannot be brought back yet: "+err.Error())
		return nil
	}
	if h == nil {
		return nil
	}
	why, err := p.c.bringBack(h)
	if err != nil {
		return fmt.Errorf("bring back %q: %w", path, err)
	}
	if why != "" {
		p.leave(path, why)
		return nil
	}
	p.c.log.Info("a delete was discarded: the name is back", "path", path)
	p.advance(h)
	return nil
}

func typeName(rec *catalog.Inode) string {
	switch rec.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return "file"
	case syscall.S_IFDIR:
		return "dir"
	case syscall.S_IFLNK:
		return "symlink"
	}
	return "other"
}
