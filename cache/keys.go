package cache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

func bytesAt(b []byte) io.ReaderAt { return bytes.NewReader(b) }

func crcOf(b []byte) uint64 {
	v, _ := sumCRC(bytes.NewReader(b), 0, int64(len(b))) // a bytes.Reader cannot fail
	return v
}

// wantedKeys are the keys under which the depot is to have a file: one per name.
func (c *Cache) wantedKeys(rec *catalog.Inode) (keys, paths []string, err error) {
	err = c.cat.View(func(tx *catalog.Tx) error {
		keys, paths, err = c.wantedIn(tx, rec)
		return err
	})
	return keys, paths, err
}

// moveObjects gives a file whose bytes the depot has the keys that follow from its
// names, by copies inside the store, and its attributes; then it drops the keys
// that no name wants.
func (c *Cache) moveObjects(ctx context.Context, d *depot, rec *catalog.Inode) error {
	rec, err := c.withAttrs(ctx, d, rec)
	if err != nil {
		return err
	}
	keys, paths, err := c.wantedKeys(rec)
	if err != nil {
		return err
	}
	sent := rec
	for i, key := range keys {
		rec, err = c.record(rec.Ino)
		if err != nil {
			return err
		}
		src, ok := currentObject(rec)
		if !ok {
			return c.uploadAnew(rec, paths[i])
		}
		if holds(rec, key) && rec.Flags&catalog.FlagAttrDirty == 0 {
			continue
		}
		if err := c.copyObject(ctx, d, rec, src, key, paths[i]); err != nil {
			return fmt.Errorf("move object of %q: %w", paths[i], err)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if err := c.attrsSent(sent); err != nil {
		return err
	}
	if err := c.settleLast(ctx, d, rec.Ino); err != nil {
		return err
	}
	return c.dropStale(rec.Ino, nil)
}

// withAttrs is the record of a file whose object is about to be copied under other
// metadata: what the object says of it is read first, where it is not known yet.
func (c *Cache) withAttrs(ctx context.Context, d *depot, rec *catalog.Inode) (*catalog.Inode, error) {
	if rec.Flags&catalog.FlagNoAttr == 0 || len(rec.Objects) == 0 {
		return rec, nil
	}
	if err := c.readAttr(ctx, d, rec); err != nil {
		return nil, err
	}
	return c.record(rec.Ino)
}

// attrsSent notes that the depot has the attributes of sent under all its names,
// unless they were changed meanwhile.
func (c *Cache) attrsSent(sent *catalog.Inode) error {
	if sent.Flags&catalog.FlagAttrDirty == 0 {
		return nil
	}
	_, err := c.change(sent.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		if sameAttrs(r, sent) && slices.Equal(r.Links, sent.Links) {
			r.Flags &^= catalog.FlagAttrDirty
		}
		return nil
	})
	return err
}

// sameAttrs compares what the depot keeps of attributes.
func sameAttrs(a, b *catalog.Inode) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Mtime == b.Mtime
}

// holds says whether the key has the current version of rec.
func holds(rec *catalog.Inode, key string) bool {
	return slices.ContainsFunc(rec.Objects, func(o catalog.Object) bool { return o.Key == key && o.Gen == rec.Base.Gen })
}

// copyObject makes key hold the current version, with the current attributes.
func (c *Cache) copyObject(ctx context.Context, d *depot, rec *catalog.Inode, src catalog.Object, key, path string) error {
	mark, err := c.settleAttempt(ctx, d, rec.Ino, key, func(*catalog.Upload) bool { return false })
	if err != nil {
		return err
	}
	unlock, err := d.keys.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	opts, err := c.guard(ctx, d, key, rec)
	if err != nil {
		return err
	}
	if rec, err = c.withMoment(ctx, d, rec, src); err != nil {
		return err
	}
	_, encoded := layout.Key(c.cfg.Prefix, path, false)
	opts.Metadata = c.metadata(rec, path, encoded, rec.Base.Gen)
	withZeros(opts.Metadata, zerosOf(rec), rec.Base.Size, rec.Base.CRC64)
	opts.CRC64, opts.HasCRC64 = rec.Base.CRC64, rec.Base.HasCRC
	if encoded && !layout.PathFits(path) {
		if err := c.putCompanion(ctx, d, key, path); err != nil {
			return err
		}
	}
	if err := c.noteAttempt(&catalog.Upload{Ino: rec.Ino, Key: key, Size: rec.Base.Size, Gen: rec.Base.Gen, Created: c.nanos()}); err != nil {
		return err
	}
	info, err := d.store.Copy(ctx, src.Key, src.ETag, key, rec.Base.Size, opts)
	if errors.Is(err, ErrChanged) || errors.Is(err, ErrNotFound) {
		info, err = c.recopy(ctx, d, rec, src, key, path, mark, opts, err)
	}
	d.report(err)
	if errors.Is(err, ErrChecksum) && c.isKept(src.Key) { // whoever told of it was wrong
		return c.sourceGone(ctx, d, rec, src)
	}
	if err != nil {
		return err
	}
	_, err = c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		o := catalog.Object{Key: key, ETag: info.ETag, VersionID: info.VersionID, Gen: rec.Base.Gen}
		if len(r.Links) == 0 {
			return c.removeObject(tx, rec.Ino, o, path)
		}
		if sameAttrs(r, rec) && len(r.Links) == 1 {
			r.Flags &^= catalog.FlagAttrDirty
		}
		if err := tx.DeleteUpload(r.Ino); err != nil {
			return err
		}
		if err := c.claim(tx, r, o); err != nil {
			return err
		}
		return c.announceObject(tx, r, o)
	})
	if errors.Is(err, ErrStale) { // unlinked meanwhile
		err = c.cat.Update(func(tx *catalog.Tx) error {
			return c.removeObject(tx, rec.Ino, catalog.Object{Key: key, ETag: info.ETag}, path)
		})
		c.removals.Add(key, c.now())
	}
	return err
}

// recopy sorts out a copy that a condition stopped: an earlier attempt whose answer
// was lost, a source that was replaced, or somebody else's object in the way.
func (c *Cache) recopy(ctx context.Context, d *depot, rec *catalog.Inode, src catalog.Object, key, path, mark string, opts PutOptions, cause error) (ObjectInfo, error) {
	there, err := d.store.Head(ctx, key)
	if err == nil && isOneOf(there, mark, c.versionMark(rec.Base.Gen)) {
		same := sameBytes(there, rec.Base.Size, rec.Base.CRC64, rec.Base.HasCRC) ||
			isOneOf(there, c.versionMark(rec.Base.Gen)) && there.Size == rec.Base.Size && !(there.HasCRC64 && rec.Base.HasCRC)
		if same && equalMeta(there.Metadata, opts.Metadata) {
			return there, nil
		}
		if key == src.Key && !same {
			return there, errors.Join(c.sourceSame(ctx, d, rec, src), fmt.Errorf("%w (%v)", ErrUnavailable, cause))
		}
		opts.IfMatch, opts.IfNoneMatch = there.ETag, false
		if key == src.Key {
			src.ETag = there.ETag
		}
		return d.store.Copy(ctx, src.Key, src.ETag, key, rec.Base.Size, opts)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return there, err
	}
	if err := c.sourceSame(ctx, d, rec, src); err != nil {
		return there, err
	}
	if err == nil && key != src.Key {
		if sameBytes(there, rec.Base.Size, rec.Base.CRC64, rec.Base.HasCRC) {
			return there, nil // another zone was faster
		}
		if !c.leftover(there) {
			made, merr := c.finishOf(key, path, there)
			if merr != nil {
				return there, merr
			}
			if made.after(moment{rec.MadeAt, rec.Origin}) {
				if told, terr := c.toldMeanwhile(ctx, rec, src); told || terr != nil {
					return there, cmp.Or[error](terr, laterError{c.now(), "another zone has told what became of it"})
				}
				return there, laterError{c.now().Add(heldLook), "another zone's version is under its key"}
			}
			if kerr := c.keepTheirs(ctx, d, key, path, there, lostName); kerr != nil {
				return there, kerr
			}
		}
		opts.IfMatch, opts.IfNoneMatch = there.ETag, false
	} else if key != src.Key {
		opts.IfMatch, opts.IfNoneMatch = "", true
	} else {
		return there, fmt.Errorf("%w (%v)", ErrUnavailable, cause)
	}
	return d.store.Copy(ctx, src.Key, src.ETag, key, rec.Base.Size, opts)
}

func equalMeta(a, b map[string]string) bool {
	for k, v := range b {
		if a[k] != v {
			return false
		}
	}
	return true
}

// sourceSame makes sure that the object to copy from still is our version. When it
// is not, a file whose bytes are here is uploaded anew; one that is only there is gone.
func (c *Cache) sourceSame(ctx context.Context, d *depot, rec *catalog.Inode, src catalog.Object) error {
	info, err := d.store.Head(ctx, src.Key)
	if err == nil && (info.ETag == src.ETag || src.ETag == "" && info.Size == rec.Base.Size) { // in the trash nothing is replaced
		return nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if told, err := c.toldMeanwhile(ctx, rec, src); told || err != nil {
		return cmp.Or[error](err, laterError{c.now(), "another zone has told what became of it"})
	}
	if err == nil { // what was finished before the rename is the file's next version
		if err := c.leaveToMove(c.keyPath(src.Key), info); err != nil {
			return err
		}
	}
	return c.sourceGone(ctx, d, rec, src)
}

// uploadAnew has a clean file uploaded again whose object is not its version any
// more; one whose bytes only the depot had is gone.
func (c *Cache) uploadAnew(rec *catalog.Inode, what string) error {
	if rec.State != Clean {
		return c.versionLost(rec, fmt.Errorf("object %q: %w", what, ErrGone))
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return err
	}
	if _, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if r.State != Clean {
			return nil
		}
		if err := step(r, evWrite); err != nil {
			return err
		}
		r.Gen, r.DirtySince = gen, c.nanos()
		return nil
	}); err != nil {
		return err
	}
	return laterError{c.now(), "its object was replaced; it is uploaded again"}
}

// dropStale makes removals of the keys of an inode that none of its names wants
// (only non-nil: of all but these), and ends its queue item when nothing else is
// to be done.
func (c *Cache) dropStale(ino Ino, only []string) error {
	var gone []catalog.Object
	err := c.cat.Update(func(tx *catalog.Tx) error {
		r, err := inode(tx, ino)
		if err != nil {
			return err
		}
		now, _, err := c.wantedIn(tx, r) // the names may have changed since they were looked at
		if err != nil {
			return err
		}
		wanted := now
		if only != nil {
			wanted = only
			if len(only) == 0 && isRegular(r) && r.State != Dirty {
				return nil // not changed after all: the objects are needed
			}
		}
		if only != nil && !slices.ContainsFunc(now, func(key string) bool { return !holds(r, key) }) {
			wanted = now // its own worker has brought it to its place meanwhile
		}
		holdsBase := func(o catalog.Object) bool { return o.Gen == r.Base.Gen && slices.Contains(wanted, o.Key) }
		if isRegular(r) && r.State != Dirty && !slices.ContainsFunc(r.Objects, holdsBase) {
			return nil // renamed meanwhile: what it wants now does not exist yet, and its bytes are there alone
		}
		gone = gone[:0]
		var keep []catalog.Object
		for _, o := range r.Objects {
			if slices.Contains(wanted, o.Key) {
				keep = append(keep, o)
				continue
			}
			gone = append(gone, o)
			if err := c.removeObject(tx, ino, o, c.keyPath(o.Key)); err != nil {
				return err
			}
		}
		r.Objects = keep
		if err := tx.PutInode(r); err != nil {
			return err
		}
		if holdsOnlyCopy(r.State) || r.Flags&catalog.FlagAttrDirty != 0 {
			return nil
		}
		for _, k := range now { // renamed meanwhile, or put aside: it is to be moved
			if !slices.ContainsFunc(keep, func(o catalog.Object) bool { return o.Key == k }) {
				return c.putQueue(tx, r, 0, false)
			}
		}
		return unqueueIn(tx, ino)
	})
	for _, o := range gone {
		c.removals.Add(o.Key, c.now())
	}
	if err != nil {
		return err
	}
	// What is still in the queue is looked at again.
	again := false
	err = c.cat.View(func(tx *catalog.Tx) error {
		_, err := tx.QueueItem(ino)
		again = err == nil
		return nil
	})
	if again && err == nil {
		return laterError{c.now().Add(100 * time.Millisecond), "changed meanwhile"}
	}
	return err
}

func (c *Cache) wantedIn(tx *catalog.Tx, rec *catalog.Inode) (keys, paths []string, err error) {
	for _, l := range rec.Links {
		d, err := dirPath(tx, l.Parent)
		if err != nil {
			return nil, nil, err
		}
		p := join(d, l.Name)
		k, _ := layout.Key(c.cfg.Prefix, p, isDir(rec))
		keys, paths = append(keys, k), append(paths, p)
	}
	return keys, paths, nil
}

func (c *Cache) keyPath(key string) string {
	if p, _, err := layout.Path(c.cfg.Prefix, key); err == nil {
		return p
	}
	return key
}

// removeObject makes a removal of an object that its inode does not need any more.
// A key that has become another inode's is none of its business.
func (c *Cache) removeObject(tx *catalog.Tx, ino Ino, o catalog.Object, path string) error {
	now := c.nanos()
	return c.removeOwned(tx, ino, &catalog.Removal{Key: o.Key, ETag: o.ETag, Path: path, Since: now, NotBefore: now})
}

func (c *Cache) removeOwned(tx *catalog.Tx, ino Ino, rm *catalog.Removal) error {
	owner, err := tx.KeyOwner(rm.Key)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	if err == nil && owner != ino {
		c.log.Debug("an object was on record for two files", "key", rm.Key, "inode", ino, "owner", owner)
		return nil
	}
	if owned := err == nil; !owned || !c.isKept(rm.Key) { // an entry of the trash that is owned was brought back
		if stays, err := c.anothers(tx, catalog.Object{Key: rm.Key, ETag: rm.ETag}); err != nil {
			return err
		} else if stays {
			return disownKey(tx, rm.Key, ino)
		}
	}
	if err := putRemoval(tx, rm); err != nil {
		return err
	}
	return tx.DeleteKeyOwner(rm.Key)
}
