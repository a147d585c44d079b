package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"strconv"
	"strings"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// adoptPartials removes partial files that no inode claims, and what a kill left while a
// sidecar was begun or removed. Partial files with a sidecar hold bytes that somebody wrote
// and stay, where a person can find them.
func (c *Cache) adoptPartials() error {
	var names []string
	if err := c.share.ReadDir(share.PartialDir, func(name string, _ uint64, _ uint32) error {
		names = append(names, name)
		return nil
	}); err != nil {
		return err
	}
	there := make(map[string]bool, len(names))
	for _, n := range names {
		there[n] = true
	}
	for _, n := range names {
		base, sidecar := strings.CutSuffix(n, share.SidecarSuffix)
		var err error
		if strings.HasSuffix(n, share.TempSuffix) {
			err = c.unlinkPartial(n) // a sidecar that was never begun
		} else if sidecar && !there[base] {
			err = c.removeOrphan(base)
		}
		if err != nil {
			return err
		}
	}
	for _, n := range names {
		ino, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			continue
		}
		rec, err := c.record(Ino(ino))
		if err == nil && !resident(rec.State) && isRegular(rec) {
			if there[n+share.SidecarSuffix] && rec.State != PartialDirty { // the depot has got what it names
				if err := share.RemoveSidecar(c.share, ino); err != nil {
					return err
				}
			}
			continue
		}
		if err != nil && !errors.Is(err, ErrStale) {
			return err
		}
		if there[n+share.SidecarSuffix] {
			if err := c.restorePartial(Ino(ino)); err != nil {
				return err
			}
			continue
		}
		if err := c.unlinkPartial(n); err != nil {
			return err
		}
	}
	return nil
}

// removeOrphan removes the sidecar of a partial file that is gone: it became a whole
// file, or was removed.
func (c *Cache) removeOrphan(base string) error {
	ino, err := strconv.ParseUint(base, 10, 64)
	if err != nil {
		return nil
	}
	rec, err := c.record(Ino(ino))
	if err == nil && rec.State == PartialDirty {
		return nil // its bytes are missing, which is told elsewhere
	}
	if err != nil && !errors.Is(err, ErrStale) {
		return err
	}
	return share.RemoveSidecar(c.share, ino)
}

func (c *Cache) unlinkPartial(name string) error {
	if err := c.share.Unlink(share.PartialDir + "/" + name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	return nil
}

// restorePartial brings back a file that was written in part when the catalog was
// lost: its sidecar says which version of which object the rest is.
func (c *Cache) restorePartial(ino Ino) error {
	h, recs, err := share.ReadSidecar(c.share, uint64(ino))
	if err != nil {
		c.log.Error("a partial file with written bytes cannot be brought back", "file", share.PartialPath(uint64(ino)), "err", err)
		c.problems.add("lost", share.PartialPath(uint64(ino)), err.Error(), c.now())
		return nil
	}
	written, limit, size := share.Replay(h, recs, h.BootID == c.bootID)
	parent, name, err := c.importParents(h.Path)
	if err != nil || parent == 0 {
		return errors.Join(err, errors.New("the directory of "+h.Path+" cannot be made"))
	}
	if _, err := c.find(parent, name); err == nil {
		c.problems.add("conflict", h.Path, "bytes that were written before the catalog was lost are in "+share.PartialPath(uint64(ino)), c.now())
		return nil
	}
	next, err := c.cat.NextIno()
	if err != nil {
		return err
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return err
	}
	if err := c.renumberPartial(ino, next); err != nil {
		return fmt.Errorf("bring back %s: %w", share.PartialPath(uint64(ino)), err)
	}
	now := c.nanos()
	return c.withDir(parent, func(d lockedDir) error {
		return c.cat.Update(func(tx *catalog.Tx) error {
			base := h.Base
			if base.Gen == 0 {
				base.Gen = 1
			}
			rec := &catalog.Inode{Ino: next, Gen: gen, Mode: defaultFile, Nlink: 1, Size: size, Mtime: now, Atime: now, Ctime: now,
				State: PartialDirty, Base: base, BaseLimit: limit, DirtySince: now, FinishedAt: now,
				Links: []catalog.Link{{Parent: parent, Name: name}}}
			if h.Key != "" {
				if err := c.claim(tx, rec, catalog.Object{Key: h.Key, ETag: h.ETag, Gen: base.Gen}); err != nil {
					return err
				}
			}
			if err := tx.PutDirent(catalog.Dirent{Parent: parent, Name: name, Ino: next, Type: defaultFile &^ 0o7777}); err != nil {
				return err
			}
			if err := tx.PutExtents(next, catalog.Extents{Here: written, Written: written}); err != nil {
				return err
			}
			if err := c.putQueue(tx, rec, 0, false); err != nil {
				return err
			}
			return tx.PutInode(rec)
		})
	})
}

// renumberPartial gives a partial file and its sidecar the number of a new inode. Bytes
// with no log beside them are nobody's, so at each step one of the two names has both; a
// share that has no hard links (CIFS) cannot do that, and there a kill between two steps
// would lose them.
func (c *Cache) renumberPartial(ino, next Ino) error {
	from, to := share.PartialPath(uint64(ino)), share.PartialPath(uint64(next))
	err := c.share.Link(from, to)
	linked := err == nil
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) {
		err = c.share.Rename(from, to, share.NoReplace)
	}
	if err == nil {
		err = c.share.Rename(share.SidecarPath(uint64(ino)), share.SidecarPath(uint64(next)), share.NoReplace)
	}
	if err == nil && linked {
		err = c.share.Unlink(from)
	}
	return err
}

// syncCatalog is Sync where there is no caller to wait for.
func (c *Cache) syncCatalog() error { return c.cat.Sync(context.Background()) }
