package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

// A version whose object is gone may be in the depot all the same: a zone that did not know
// which name it has here has put it into the trash or among the conflicts. Records say so of most
// (tellKept, readKept); what none tells of is looked for by its checksum.

// A version that was looked for in vain is not looked for again for seekPause, nor for seekShare times
// what it took: a listing of all that is kept is no answer to each read.
const (
	seekPause = 10 * time.Second
	seekShare = 20
)

// maxSought is how many kept versions of its size are asked for their checksum for one file.
const maxSought = 100

// lostAfter is how long other zones have to tell where the bytes of a renamed file are.
const lostAfter = time.Minute

// isKept says whether a key is of a version that was put aside, in the trash or among the
// conflicts: it is nobody's but theirs, if a file is read from there for a while.
func (c *Cache) isKept(key string) bool {
	return c.isTrash(key) || strings.HasPrefix(key, c.conflictRoot())
}

// sourceGone is what becomes of a file whose object src is not its version any more, before it
// was copied to its key: the bytes that are here are sent, else it is read from wherever they are,
// or from what replaced them. What is nowhere is given up after a while.
func (c *Cache) sourceGone(ctx context.Context, d *depot, rec *catalog.Inode, src catalog.Object) error {
	gone := c.uploadAnew(rec, src.Key)
	if !errors.Is(gone, ErrGone) {
		return gone
	}
	found, err := c.readFromKept(ctx, d, rec, gone)
	switch {
	case found:
		return laterError{c.now(), "its bytes were kept"}
	case err != nil:
		return errors.Join(gone, err)
	}
	return c.giveUp(ctx, d, rec, gone)
}

// readFromKept has a file whose object is gone be read from where its version is kept, and
// copied to its key from there. It reports whether it found it; gone is why it looks, which goes
// into the log.
func (c *Cache) readFromKept(ctx context.Context, d *depot, rec *catalog.Inode, gone error) (bool, error) {
	o, ok := currentObject(rec)
	if !ok || !rec.Base.HasCRC || holdsOnlyCopy(rec.State) && rec.State != PartialDirty {
		return false, nil
	}
	now := c.now()
	if next, ok := c.sought.Load(rec.Ino); ok && now.Before(next.(time.Time)) {
		return false, nil
	}
	kept, err := c.findKept(ctx, d, rec, o)
	c.sought.Store(rec.Ino, c.now().Add(max(seekPause, seekShare*c.now().Sub(now))))
	if err != nil || kept.Key == "" {
		return false, err
	}
	c.sought.Delete(rec.Ino)
	found := false
	_, err = c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		cur, ok := currentObject(r)
		if found = ok && cur == o && r.Base == rec.Base; !found {
			return nil
		}
		for _, o := range r.Objects {
			if err := disownKey(tx, o.Key, r.Ino); err != nil {
				return err
			}
		}
		r.Objects = []catalog.Object{{Key: kept.Key, ETag: kept.ETag, Gen: r.Base.Gen}}
		return c.putQueue(tx, r, 0, false)
	})
	if err != nil || !found {
		return false, err
	}
	c.log.Warn("the bytes of a file were kept", "path", c.pathText(rec), "key", kept.Key, "err", gone)
	c.kick(rec.Ino)
	return true, nil
}

// findKept looks for the version of rec, whose object was o, in the trash and among the
// conflicts: the likely ones first.
func (c *Cache) findKept(ctx context.Context, d *depot, rec *catalog.Inode, o catalog.Object) (ObjectInfo, error) {
	var same, likely, others []ObjectInfo // by tag, which most copies keep; by name; by size alone
	name := "/" + path.Base(c.keyPath(o.Key))
	collect := func(p ListPage) error {
		for _, x := range p.Objects {
			switch {
			case x.Size != rec.Base.Size:
			case x.ETag == o.ETag:
				same = append(same, x)
			case strings.HasSuffix(x.Key, name):
				likely = append(likely, x)
			default:
				others = append(others, x)
			}
		}
		return ctx.Err()
	}
	for _, root := range []string{c.trashRoot(), c.conflictRoot()} {
		err := d.store.List(ctx, ListQuery{Prefix: root}, collect)
		if d.report(err); err != nil {
			return ObjectInfo{}, fmt.Errorf("look for a version that is kept: %w", err)
		}
	}
	all := slices.Concat(same, likely, others)
	for _, x := range all[:min(len(all), maxSought)] {
		info, err := d.store.Head(ctx, x.Key)
		if d.report(err); err != nil && !errors.Is(err, ErrNotFound) {
			return ObjectInfo{}, fmt.Errorf("look for a version that is kept: %w", err)
		}
		if err == nil && sameBytes(info, rec.Base.Size, rec.Base.CRC64, true) {
			info.Key = x.Key
			return info, nil
		}
	}
	return ObjectInfo{}, nil
}

// giveUp ends the wait for the bytes of a file that this zone has renamed, and that are nowhere:
// another zone has replaced them, and then what it had replaced them with, before they could be
// copied. The file becomes what another zone has put under its name, or goes. All that can be
// reached has been asked for lostAfter by then, and some other zone has told that it did something
// to the old name: of bytes that vanished by themselves another zone may have the only copy. gone
// is the answer until then.
func (c *Cache) giveUp(ctx context.Context, d *depot, rec *catalog.Inode, gone error) error {
	since, failing := c.failing.Load(rec.Ino)
	if !failing || c.now().Sub(since.(time.Time)) < lostAfter || holdsOnlyCopy(rec.State) || rec.Origin != c.zoneName() || len(rec.Links) != 1 || !c.tells() {
		return gone
	}
	if err := c.refreshNow(ctx); err != nil {
		return errors.Join(gone, err)
	}
	if told, err := c.toldOfFormer(rec); !told || err != nil {
		return errors.Join(gone, err)
	}
	if n := c.peek(rec.Ino); n != nil {
		open := n.open()
		if c.drop(n); open {
			return gone
		}
	}
	path, err := c.pathOf(rec)
	if err != nil {
		return err
	}
	if taken, err := c.takeUnderName(ctx, d, rec, path); taken || err != nil {
		return cmp.Or[error](err, laterError{c.now(), "it is the version that other zones have"})
	}
	c.log.Error("a file that was renamed is gone: another zone has replaced its bytes", "path", path, "size", rec.Base.Size, "err", gone)
	if err := c.gaveUp(rec.Ino, path); err != nil {
		return err
	}
	return laterError{c.now(), "its bytes are nowhere"}
}

// toldOfFormer says whether another zone has told of something else under the key of a file's
// object, which this zone has renamed.
func (c *Cache) toldOfFormer(rec *catalog.Inode) (bool, error) {
	o, ok := currentObject(rec)
	if !ok {
		return false, nil
	}
	path := c.keyPath(o.Key)
	if has, _, _, err := c.at(path); err != nil || has != nil && has.Ino != rec.Ino && has.Origin != c.zoneName() {
		return err == nil, err
	}
	g, err := c.buried(path)
	return g != nil && (g.Zone != c.zoneName() || g.TakenAt != 0), err
}

// takeUnderName gives a file whose bytes are nowhere the object under the key of its path, where
// another zone has put one: an older version of the name, which can be read.
func (c *Cache) takeUnderName(ctx context.Context, d *depot, rec *catalog.Inode, path string) (bool, error) {
	key, _ := layout.Key(c.cfg.Prefix, path, false)
	info, err := d.store.Head(ctx, key)
	d.report(err)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for another version of %q: %w", path, err)
	}
	if _, ok := madeOf(info); !ok || c.leftover(info) { // a version of this zone's may be one that another has copied
		return false, nil
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return false, err
	}
	_, err = c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if r.State != rec.State || r.Base != rec.Base {
			return errMoving
		}
		if err := step(r, evImport); err != nil {
			return err
		}
		for _, o := range r.Objects {
			if err := disownKey(tx, o.Key, r.Ino); err != nil {
				return err
			}
		}
		if err := c.becomeTheirs(tx, r, path, info, gen, moment{r.MadeAt + 1, c.zoneName()}); err != nil {
			return err
		}
		o := catalog.Object{Key: key, ETag: info.ETag, VersionID: info.VersionID, Gen: gen}
		r.Objects = nil
		if err := c.claim(tx, r, o); err != nil {
			return err
		}
		return errors.Join(tx.DeleteExtents(r.Ino), c.announceObject(tx, r, o))
	})
	if err != nil {
		return false, err
	}
	c.removePartial(rec)
	c.inodeChanged(rec.Ino)
	c.log.Warn("a file that was renamed has an older version: another zone has replaced its bytes", "path", path, "size", info.Size)
	return true, nil
}
