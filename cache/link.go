package cache

import (
	"context"
	"depotfs/cache/catalog"
	"depotfs/cache/share"
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"
)

// Link gives a file one more name. What is not whole here is fetched first: the
// share must have the bytes under both names.
func (c *Cache) Link(ctx context.Context, ino Ino, parent Ino, name string) (Attr, error) {
	if err := checkName(parent, name); err != nil {
		return Attr{}, err
	}
	for try := 0; ; try++ {
		rec, err := c.linkOver(ctx, ino, parent, name)
		switch {
		case errors.Is(err, errMoved):
			continue
		case errors.Is(err, errOutside) && try < maxLooks:
			if lerr := errors.Join(c.lookAtInodes(ino), c.lookAtDirs(parent)); lerr != nil {
				return Attr{}, lerr
			}
			if c.followsRemoval(parent) {
				return Attr{}, err
			}
			continue
		case err != nil:
			return Attr{}, err
		}
		c.kickRec(rec)
		return c.attrOf(rec), nil
	}
}

// linkOver is one try of Link: errMoved where names changed meanwhile, errOutside where
// others removed them from the share.
func (c *Cache) linkOver(ctx context.Context, ino Ino, parent Ino, name string) (*catalog.Inode, error) {
	rec, err := c.record(ino)
	if err != nil {
		return nil, err
	}
	if isDir(rec) {
		return nil, syscall.EPERM
	}
	if isRegular(rec) && !resident(rec.State) {
		h, err := c.Open(ctx, ino, syscall.O_RDONLY)
		if err != nil {
			return nil, err
		}
		defer h.Release()
		if err := c.complete(ctx, h.n); err != nil {
			return nil, err
		}
	}
	if _, err := c.findAny(ctx, parent, name); !errors.Is(err, iofs.ErrNotExist) {
		if err == nil {
			err = syscall.EEXIST
		}
		return nil, err
	}
	return c.linkOnce(ino, parent, name)
}

func (c *Cache) linkOnce(ino, parent Ino, name string) (*catalog.Inode, error) {
	if c.gone.Load() {
		return nil, ErrMarker
	}
	c.tree.RLock()
	defer c.tree.RUnlock()
	rec, err := c.record(ino)
	if err != nil {
		return nil, err
	}
	var from Ino
	if len(rec.Links) > 0 {
		from = rec.Links[0].Parent
	}
	defer c.dirs.lock(from, parent)()
	again, err := c.record(ino)
	if err != nil {
		return nil, err
	}
	if len(again.Links) != len(rec.Links) || len(rec.Links) > 0 && again.Links[0] != rec.Links[0] {
		return nil, errMoved
	}
	rec = again
	d, err := c.lookDir(parent)
	if err != nil {
		return nil, err
	}
	if _, err := c.find(parent, name); !errors.Is(err, iofs.ErrNotExist) {
		if err == nil {
			err = syscall.EEXIST
		}
		return nil, err
	}
	if len(d.rec.Links) == 0 && parent != catalog.Root {
		return nil, iofs.ErrNotExist // the directory was removed
	}
	if err := c.makeHere(d); err != nil {
		return nil, err
	}
	src := share.OpenPath(uint64(ino)) // made by Tmpfile or unlinked while open
	if len(rec.Links) > 0 {
		fd, err := c.lookDir(from)
		if err != nil {
			return nil, err
		}
		src = join(fd.path, rec.Links[0].Name)
	}
	path := join(d.path, name)
	orphan := len(rec.Links) == 0
	if orphan {
		err = c.share.Rename(src, path, share.NoReplace)
	} else {
		err = c.share.Link(src, path)
	}
	if err != nil {
		return nil, fmt.Errorf("link %q to %q: %w", src, path, lost(err))
	}
	return c.linkInCatalog(d, rec, name, path)
}

func (c *Cache) linkInCatalog(d lockedDir, rec *catalog.Inode, name, path string) (*catalog.Inode, error) {
	st, err := c.share.Stat(path)
	if err != nil {
		return nil, err
	}
	dst, err := c.share.Stat(d.path)
	if err != nil {
		return nil, err
	}
	now := c.nanos()
	out, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		r.Links = append(r.Links, catalog.Link{Parent: d.rec.Ino, Name: name})
		r.Nlink = uint32(len(r.Links))
		r.Ctime = st.Ctime
		if s := st.Stamp(); s.Ino == r.Stamp.Ino && s.Size == r.Stamp.Size && s.Mtime == r.Stamp.Mtime {
			r.Stamp = s
		}
		if r.Flags&catalog.FlagOrphan != 0 {
			if r.Flags&catalog.FlagHeld != 0 {
				r.Objects = nil
			}
			r.Flags &^= catalog.FlagOrphan | catalog.FlagHeld
			r.Stamp, r.DirtySince = st.Stamp(), now
			c.noteFinished(r, now)
		}
		if err := tx.PutDirent(catalog.Dirent{Parent: d.rec.Ino, Name: name, Ino: r.Ino, Type: r.Mode & syscall.S_IFMT}); err != nil {
			return err
		}
		if err := c.touchDir(tx, d.rec.Ino, dst, 0); err != nil {
			return err
		}
		return c.enqueueMove(tx, r, path)
	})
	return out, err
}

// stampLeft takes the new ctime of a file that lost one of its names through us: with
// its old stamp it would pass for one that others have changed.
func (c *Cache) stampLeft(tx *catalog.Tx, r *catalog.Inode) {
	if r.State != Clean {
		return
	}
	dir, err := dirPath(tx, r.Links[0].Parent)
	if err != nil {
		return // the next look at the file compares its bytes
	}
	st, err := c.share.Stat(join(dir, r.Links[0].Name))
	if s := st.Stamp(); err == nil && s.Ino == r.Stamp.Ino && s.Size == r.Stamp.Size && s.Mtime == r.Stamp.Mtime {
		r.Stamp, r.Ctime = s, st.Ctime
	}
}
