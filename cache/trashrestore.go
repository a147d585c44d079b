package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

// A version comes back as a file that is not here, whose object is the entry of the trash:
// one transaction, however large it is. Then the object moves to the key of the file's
// name, as after a rename (moveObjects), which a crash does not interrupt for good, and
// which tells the other zones. It is a new version, made now: a delete that other zones
// have heard of is older.

// burstGap is the longest pause within one burst: what was deleted with longer pauses was
// not deleted by the same command.
const burstGap = 5 * time.Minute

// comeback is an entry and the path that it gets.
type comeback struct {
	trashed
	to string
}

// TrashRestore brings deleted versions back: the entries named, and of each path what was
// deleted there last; of a directory all that was deleted below it in one burst. It
// returns when the depot has them under their names again; what could not be brought
// back is in the answer. Names that exist are never replaced.
func (c *Cache) TrashRestore(ctx context.Context, pick TrashPick, progress func(Progress)) (restored int, left []NotDone, err error) {
	d, done, err := c.using(ctx, "restore from the trash")
	if err != nil {
		return 0, nil, err
	}
	defer done()
	all, err := c.trashAt(d.ctx, d.depot, nil)
	if err != nil {
		return 0, nil, err
	}
	back, left, err := pick.of(all)
	if err != nil {
		return 0, left, err
	}
	var paths, moved []string
	var links []comeback
	for _, b := range back {
		link, err := c.restoreEntry(d.ctx, d.depot, b)
		if ctx.Err() != nil {
			return len(paths), left, ctx.Err()
		}
		if err != nil {
			left = append(left, NotDone{Path: b.to, Reason: restoreReason(err)})
			continue
		}
		if link {
			links = append(links, b)
		} else {
			moved = append(moved, b.key)
		}
		paths = append(paths, b.to)
		c.trash.held(-1, -b.Size)
		c.log.Info("brought back from the trash", "path", b.to, "entry", b.Entry, "size", b.Size)
	}
	if len(paths) == 0 {
		return 0, left, nil
	}
	c.changed.wake()
	late, err := c.Flush(ctx, paths, progress)
	left = append(left, late...)
	if err != nil {
		return len(paths), left, err
	}
	var sent []string
	for _, l := range links { // the others' objects move out of the trash
		if !slices.ContainsFunc(late, func(n NotDone) bool { return n.Path == l.to }) {
			sent = append(sent, l.key)
		}
	}
	if err := c.deleteKept(d.ctx, d.depot, sent); err != nil {
		return len(paths), left, err
	}
	return len(paths), left, c.untilRemoved(d.ctx, moved)
}

// untilRemoved waits until none of the keys is about to be deleted.
func (c *Cache) untilRemoved(ctx context.Context, keys []string) error {
	t := time.NewTicker(flushLook)
	defer t.Stop()
	for {
		changed := c.changed.wait()
		if err := c.cat.View(func(tx *catalog.Tx) error {
			for len(keys) > 0 {
				if _, err := tx.Removal(keys[0]); !errors.Is(err, catalog.ErrNotFound) {
					return err
				}
				keys = keys[1:]
			}
			return nil
		}); err != nil || len(keys) == 0 {
			return err
		}
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// of finds what is to come back, and where.
func (p TrashPick) of(all []trashed) (back []comeback, left []NotDone, err error) {
	if p.To != "" {
		to, dir, err := layout.ParsePath(p.To)
		if err != nil || dir || to == "" || len(p.Entries)+len(p.Paths) != 1 {
			return nil, nil, fmt.Errorf("%q is no place to restore one entry or path to", p.To)
		}
	}
	for _, name := range p.Entries {
		i := slices.IndexFunc(all, func(e trashed) bool { return e.Entry == name })
		if i < 0 {
			left = append(left, NotDone{Path: name, Reason: noSuchEntry})
			continue
		}
		back = append(back, comeback{all[i], or(p.To, all[i].Path)})
	}
	for _, path := range p.Paths {
		path = strings.Trim(path, "/")
		found := lastBurst(all, path)
		if len(found) == 0 {
			left = append(left, NotDone{Path: path, Reason: "the trash has nothing that was deleted there: see depotfs trash list"})
		}
		for _, e := range found {
			to := e.Path
			if p.To != "" {
				to = p.To + strings.TrimPrefix(e.Path, path)
			}
			back = append(back, comeback{e, to})
		}
	}
	return back, left, nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// lastBurst is what was deleted last at a path: the file, or what was below it, of each
// name the last version. all has the oldest deletion first.
func lastBurst(all []trashed, path string) []trashed {
	var found []trashed
	seen := map[string]bool{}
	var last time.Time
	for _, e := range slices.Backward(all) {
		if !atOrBelow(e.Path, path) {
			continue
		}
		if e.Path == path && len(found) == 0 {
			return []trashed{e}
		}
		if len(found) > 0 && last.Sub(e.Deleted) > burstGap {
			break
		}
		if last = e.Deleted; e.Path != path && !seen[e.Path] {
			seen[e.Path] = true
			found = append(found, e)
		}
	}
	slices.Reverse(found) // as they were deleted
	return found
}

// restoreEntry makes the name. link says that it is a symlink, whose entry stays until
// the depot has the new one.
func (c *Cache) restoreEntry(ctx context.Context, d *depot, b comeback) (link bool, err error) {
	if !c.rules.Of(b.to).Upload {
		return false, errors.New("files of that name are temporary and are not in the depot: name another one with --to")
	}
	info, err := d.store.Head(ctx, b.key)
	d.report(err)
	if err != nil {
		return false, err
	}
	info.Key = b.key
	a, _ := layout.Decode(info.Metadata) // what is not understood keeps its default
	parent, name, err := c.restoreParents(ctx, b.to)
	if err != nil {
		return false, err
	}
	if _, err := c.findAny(ctx, parent, name); !errors.Is(err, iofs.ErrNotExist) {
		if err == nil {
			err = iofs.ErrExist
		}
		return false, err
	}
	if a.Mode&syscall.S_IFMT == syscall.S_IFLNK && info.Size > 0 && info.Size < syscall.PathMax {
		return true, c.restoreLinkEntry(ctx, d, info, a, parent, name)
	}
	return false, c.restoreFile(info, a, parent, name, b.to)
}

// restoreFile gives the version a name, as a file that is not here.
func (c *Cache) restoreFile(info ObjectInfo, a layout.Attrs, parent Ino, name, path string) error {
	ino, err := c.cat.NextIno()
	if err != nil {
		return err
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return err
	}
	now := c.nanos()
	rec := &catalog.Inode{Ino: ino, Gen: gen, Mode: defaultFile, Nlink: 1, Size: info.Size, Atime: info.Modified.UnixNano(), Mtime: info.Modified.UnixNano(), Ctime: now,
		Links:      []catalog.Link{{Parent: parent, Name: name}},
		Base:       catalog.Version{Gen: gen, Size: info.Size, CRC64: info.CRC64, HasCRC: info.HasCRC64},
		BaseLimit:  info.Size,
		Objects:    []catalog.Object{{Key: info.Key, ETag: info.ETag, VersionID: info.VersionID, Gen: gen}},
		FinishedAt: now, MadeAt: c.eventNanos(), Origin: c.zoneName()}
	applyMeta(rec, a)
	learnZeros(rec, info.Metadata)
	if err := step(rec, evImport); err != nil {
		return err
	}
	err = c.withDir(parent, func(d lockedDir) error {
		if _, err := c.find(parent, name); !errors.Is(err, iofs.ErrNotExist) {
			if err == nil {
				err = iofs.ErrExist
			}
			return err
		}
		if d.rec.Flags&catalog.FlagHere != 0 {
			if _, err := c.share.StatSync(join(d.path, name)); !errors.Is(notThere(err), iofs.ErrNotExist) {
				if err == nil {
					err = iofs.ErrExist // others made it just now
				}
				return err
			}
		}
		return c.cat.Update(func(tx *catalog.Tx) error {
			if owner, err := tx.KeyOwner(info.Key); !errors.Is(err, catalog.ErrNotFound) {
				if err == nil {
					err = fmt.Errorf("it is being brought back already, as inode %d: %w", owner, ErrBusy)
				}
				return err
			}
			dead, err := tombstone(tx, path)
			if err != nil {
				return err
			}
			if dead != nil { // whatever the clock says of it
				rec.MadeAt = max(rec.MadeAt, dead.Time+1)
			}
			return errors.Join(tx.SetKeyOwner(info.Key, ino),
				tx.PutDirent(catalog.Dirent{Parent: parent, Name: name, Ino: ino, Type: syscall.S_IFREG}),
				c.touchRemoteDir(tx, parent, 0), tx.NewInode(rec), c.putQueue(tx, rec, 0, false))
		})
	})
	if err == nil {
		c.kick(ino)
		c.entryChanged(parent, name)
	}
	return err
}

// restoreLinkEntry makes a symlink again.
func (c *Cache) restoreLinkEntry(ctx context.Context, d *depot, info ObjectInfo, a layout.Attrs, parent Ino, name string) error {
	body, _, err := d.store.Get(ctx, info.Key, 0, -1, info.ETag)
	d.report(err)
	if err != nil {
		return err
	}
	defer body.Close()
	target := make([]byte, info.Size)
	if n, err := readFull(body, target); int64(n) != info.Size {
		return fmt.Errorf("read symlink %s: %w", info.Key, err)
	}
	at, err := c.Symlink(ctx, Owner{a.UID, a.GID}, parent, name, string(target))
	if err != nil {
		return err
	}
	if a.HasMtime {
		_, err = c.SetAttr(ctx, at.Ino, nil, SetAttr{Valid: SetMtime, Mtime: a.Mtime})
	}
	return err
}

// restoreParents makes the directories above a path that are missing, and returns the last
// of them with the name in it.
func (c *Cache) restoreParents(ctx context.Context, path string) (Ino, string, error) {
	dir, err := c.record(catalog.Root)
	for err == nil {
		head, rest, more := strings.Cut(path, "/")
		if !more {
			return dir.Ino, head, nil
		}
		next, ferr := c.findAny(ctx, dir.Ino, head)
		if errors.Is(ferr, iofs.ErrNotExist) {
			if _, ferr = c.Mkdir(ctx, Owner{dir.UID, dir.GID}, dir.Ino, head, 0o755); ferr == nil || errors.Is(ferr, iofs.ErrExist) {
				next, ferr = c.findAny(ctx, dir.Ino, head)
			}
		}
		if err = ferr; err == nil && !isDir(next) {
			err = errNotDir
		}
		dir, path = next, rest
	}
	return 0, "", fmt.Errorf("make the directory for it: %w", err)
}

// restoreReason says why, and what to do.
func restoreReason(err error) string {
	switch {
	case errors.Is(err, iofs.ErrExist):
		return "the name exists: move it away, or restore with --to another path"
	case errors.Is(err, ErrNotFound):
		return "it has left the trash meanwhile: see depotfs trash list"
	}
	return err.Error()
}
