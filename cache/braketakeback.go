package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/journal"
	"depotfs/cache/layout"
)

// takeAllBack takes back what the other zones were told of, as far as the store answers.
func (c *Cache) takeAllBack(ctx context.Context) error {
	after := ""
	for {
		var page []*catalog.HeldDelete
		if err := c.cat.View(func(tx *catalog.Tx) (err error) {
			page, err = heldPage(tx, "", after, func(h *catalog.HeldDelete) bool { return h.Told })
			return err
		}); err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		if err := c.takeBack(ctx, page); err != nil {
			return nil // which said so; the next tick tries again
		}
		after = page[len(page)-1].Path
	}
}

// takeBack brings the objects of deletes that were told back from the trash and tells the
// other zones. An error is of the store as a whole; what is not in the trash is a problem.
func (c *Cache) takeBack(ctx context.Context, page []*catalog.HeldDelete) error {
	d := c.depot.Load()
	if d == nil {
		return ErrOff
	}
	ctx, done := d.use(ctx)
	defer done()
	if err := d.admit(ctx); err != nil {
		return err
	}
	trash := trashIndex{}
	for _, h := range page {
		err := c.takeOneBack(ctx, d, h, &trash)
		if err == nil {
			c.problems.clear("held", h.Path)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.problems.add("held", h.Path, "it was deleted before the burst was held, and cannot be taken back yet: "+err.Error(), c.now())
		if !errors.Is(err, errNotInTrash) {
			c.log.Warn("take back a delete", "path", h.Path, "err", err)
			return err
		}
	}
	return nil
}

var errNotInTrash = errors.New("its object is not in the trash")

func (c *Cache) takeOneBack(ctx context.Context, d *depot, h *catalog.HeldDelete, trash *trashIndex) error {
	replaced := false
	objects := slices.Clone(h.Inode.Objects)
	for i := range objects {
		info, there, err := c.objectBack(ctx, d, h, &objects[i], trash)
		if err != nil {
			return err
		}
		switch {
		case !there || info.ETag == objects[i].ETag:
		case sameHeld(h.Inode, info): // it was brought back, and the answer was lost
			objects[i].ETag, objects[i].VersionID = info.ETag, info.VersionID
		default:
			replaced = true // others made another version meanwhile: the name comes with that
		}
	}
	return c.cat.Update(func(tx *catalog.Tx) error {
		now, err := tx.HeldDelete(h.Path)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && (now.Time != h.Time || !now.Told) {
			return nil // decided, or made anew, meanwhile
		}
		if err != nil {
			return err
		}
		if replaced {
			return c.dropHeld(tx, h.Path)
		}
		now.Told, now.Inode.Objects = false, objects
		return c.tellBack(tx, now)
	})
}

// sameHeld says whether an object is the version that was deleted, as far as can be known.
func sameHeld(was *catalog.Inode, info ObjectInfo) bool {
	switch {
	case isDir(was):
		return true
	case !isRegular(was):
		return info.Size == int64(len(was.Target))
	case info.Size != was.Base.Size:
		return false
	}
	return !info.HasCRC64 || !was.Base.HasCRC || info.CRC64 == was.Base.CRC64
}

// objectBack has one object of a delete under its key again: its removal is called off, or
// it comes back from the trash; o then has its tag. there says that something was there.
func (c *Cache) objectBack(ctx context.Context, d *depot, h *catalog.HeldDelete, o *catalog.Object, trash *trashIndex) (info ObjectInfo, there bool, err error) {
	unlock, err := d.keys.lock(ctx, o.Key)
	if err != nil {
		return info, false, err
	}
	defer unlock()
	if err := c.cat.Update(func(tx *catalog.Tx) error { return callOff(tx, *o) }); err != nil {
		return info, false, err
	}
	info, err = d.store.Head(ctx, o.Key)
	d.report(err)
	if err == nil {
		return info, true, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return info, false, err
	}
	if isDir(h.Inode) { // the trash keeps no markers of directories
		r := h.Inode
		meta := layout.Encode(layout.Attrs{Mode: r.Mode, HasOwner: true, UID: r.UID, GID: r.GID, HasMtime: true, Mtime: r.Mtime})
		info, err = d.store.Put(ctx, o.Key, bytesAt(nil), 0, PutOptions{IfNoneMatch: true, Metadata: meta})
	} else {
		info, err = c.copyBack(ctx, d, h, o.Key, trash)
	}
	d.report(err)
	if err != nil {
		return info, false, fmt.Errorf("bring back %s: %w", o.Key, err)
	}
	o.ETag, o.VersionID = info.ETag, info.VersionID
	return info, false, nil
}

func (c *Cache) copyBack(ctx context.Context, d *depot, h *catalog.HeldDelete, key string, trash *trashIndex) (ObjectInfo, error) {
	src, err := c.inTrash(ctx, d, h, trash)
	if err != nil {
		return ObjectInfo{}, err
	}
	return d.store.Copy(ctx, src.Key, src.ETag, key, src.Size, PutOptions{IfNoneMatch: true})
}

// callOff takes back the removal of an object that is not gone yet. What an upload left
// under the key still goes.
func callOff(tx *catalog.Tx, o catalog.Object) error {
	rm, err := tx.Removal(o.Key)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return nil
	case err != nil:
		return err
	case rm.UploadID == "" && rm.Version == "":
		return tx.DeleteRemoval(o.Key)
	}
	rm.ETag, rm.Trash = "", ""
	return tx.PutRemoval(rm)
}

// trashIndex is what the trash has of lately, by key; it is listed when first asked.
type trashIndex struct {
	listed bool
	found  map[string]ObjectInfo // by what follows the time: zone and path
}

// trashSlack is by how much the times in the trash may differ from ours.
const trashSlack = time.Hour

// inTrash finds the copy of an object that a delete put into the trash.
func (c *Cache) inTrash(ctx context.Context, d *depot, h *catalog.HeldDelete, trash *trashIndex) (ObjectInfo, error) {
	if h.Trash != "" {
		info, err := d.store.Head(ctx, h.Trash)
		d.report(err)
		if err == nil {
			info.Key = h.Trash
			return info, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return info, err
		}
	}
	if !trash.listed {
		if err := c.listTrash(ctx, d, h.Time, trash); err != nil {
			return ObjectInfo{}, err
		}
	}
	if info, ok := trash.found[c.zoneName()+"/"+h.Path]; ok {
		return info, nil
	}
	return ObjectInfo{}, errNotInTrash
}

// listTrash reads what this zone has put into the trash since about a time.
func (c *Cache) listTrash(ctx context.Context, d *depot, since int64, trash *trashIndex) error {
	top := c.trashRoot()
	from := time.Unix(0, since).Add(-trashSlack).UTC().Format(keyTime)
	trash.found = map[string]ObjectInfo{}
	err := d.store.List(ctx, ListQuery{Prefix: top, StartAfter: top + from}, func(p ListPage) error {
		for _, o := range p.Objects {
			if _, what, ok := strings.Cut(strings.TrimPrefix(o.Key, top), "/"); ok && strings.HasPrefix(what, c.zoneName()+"/") {
				trash.found[what] = o // the latest of several
			}
		}
		return nil
	})
	d.report(err)
	if err != nil {
		return fmt.Errorf("list the trash: %w", err)
	}
	trash.listed = true
	return nil
}

// tellBack tells the other zones that a name is there again: by a time that is later than
// the delete's, and as the version of who made it.
func (c *Cache) tellBack(tx *catalog.Tx, h *catalog.HeldDelete) error {
	r := h.Inode
	r.MadeAt = max(c.eventNanos(), r.MadeAt+1)
	t, err := tx.Tombstone(h.Path)
	if err == nil {
		r.MadeAt = max(r.MadeAt, t.Time+1, t.RmdirAt+1)
		err = tx.DeleteTombstone(h.Path)
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	if err := c.putHeld(tx, h); err != nil || !c.shared(h.Path) {
		return err
	}
	n := journal.Record{Op: journal.Put, Path: h.Path, Time: r.MadeAt, Zone: r.Origin, Mode: r.Mode, UID: r.UID, GID: r.GID, Mtime: r.Mtime}
	switch {
	case isDir(r):
		n.Op = journal.Mkdir
	case isSymlink(r):
		n.Op, n.Target = journal.Symlink, r.Target
	default:
		n.Size, n.CRC64, n.HasCRC, n.Zeros = r.Base.Size, r.Base.CRC64, r.Base.HasCRC, r.Zeros
	}
	o, ok := currentObject(r)
	if !ok && len(r.Objects) > 0 {
		o = r.Objects[0]
	}
	n.Key, n.ETag, n.VersionID = o.Key, o.ETag, o.VersionID
	return c.announce(tx, n)
}
