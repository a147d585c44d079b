package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// SetAttr changes attributes. h, which may be nil, is the handle through which a
// length is set.
func (c *Cache) SetAttr(ctx context.Context, ino Ino, h *Handle, s SetAttr) (Attr, error) {
	if s.Valid&SetSize != 0 {
		if err := c.setSize(ctx, ino, h, s.Size); err != nil {
			return Attr{}, err
		}
	}
	if s.Valid != SetSize {
		if err := c.setRest(ino, s); err != nil {
			return Attr{}, err
		}
	}
	return c.Attr(ctx, ino)
}

func (c *Cache) setSize(ctx context.Context, ino Ino, h *Handle, size int64) error {
	if h != nil && h.write {
		return h.Truncate(ctx, size)
	}
	rec, err := c.record(ino)
	if err != nil {
		return err
	}
	if isDir(rec) {
		return syscall.EISDIR
	}
	h, err = c.Open(ctx, ino, syscall.O_WRONLY)
	if err != nil {
		return err
	}
	defer h.Release()
	return h.Truncate(ctx, size)
}

// setRest changes mode, owner and times; nothing to change still moves ctime.
func (c *Cache) setRest(ino Ino, s SetAttr) error {
	n := c.peek(ino)
	if n != nil {
		defer c.drop(n)
		n.mu.Lock()
		file := n.file
		whole := n.whole.Load()
		n.mu.Unlock()
		if file != nil && whole {
			return c.setOpen(n, file, s)
		}
	}
	err := c.withName(ino, true, func(rec *catalog.Inode, path string) error {
		if !inShare(rec) {
			return c.setRemote(n, rec, path, s)
		}
		before, err := c.share.Stat(path)
		if errors.Is(err, iofs.ErrNotExist) && isRegular(rec) {
			return c.setRemote(n, rec, path, s) // vanished; the next open notices
		}
		if err != nil {
			return err
		}
		if err := c.setInShare(path, before, s); err != nil {
			return fmt.Errorf("set attributes of %q: %w", path, err)
		}
		after, err := c.share.Stat(path)
		if err != nil {
			return err
		}
		return c.noteAttrs(rec.Ino, path, before, after)
	})
	if errors.Is(err, iofs.ErrNotExist) && ino == catalog.Root {
		return c.setRoot(s)
	}
	if errors.Is(err, iofs.ErrNotExist) {
		return c.setUnnamed(n, ino, s)
	}
	return err
}

// setRoot changes the attributes of the share's own directory.
func (c *Cache) setRoot(s SetAttr) error {
	before, err := c.share.Stat("")
	if err != nil {
		return err
	}
	if err := c.setInShare("", before, s); err != nil {
		return fmt.Errorf("set attributes of the root: %w", err)
	}
	after, err := c.share.Stat("")
	if err != nil {
		return err
	}
	_, err = c.change(catalog.Root, func(_ *catalog.Tx, r *catalog.Inode) error {
		r.Mode, r.UID, r.GID = after.Mode, after.UID, after.GID
		r.Atime, r.Mtime, r.Ctime = after.Atime, after.Mtime, after.Ctime
		return nil
	})
	return err
}

// setUnnamed changes a removed directory or an unlinked file that is not whole:
// nobody but its holders will see.
func (c *Cache) setUnnamed(n *node, ino Ino, s SetAttr) error {
	r, err := c.change(ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		c.applyAttrs(r, s)
		return nil
	})
	if err == nil {
		setPartial(n, r, s)
	}
	return err
}

// setOpen works on the backing file of an open inode, whatever its name is.
func (c *Cache) setOpen(n *node, file *os.File, s SetAttr) error {
	before, err := c.share.StatFile(file, false)
	if err != nil {
		return err
	}
	fd := int(file.Fd())
	if uid, gid := s.owner(); uid >= 0 || gid >= 0 || s.Valid == 0 {
		if err := c.mayKeepOwner(ignoringEINTR(func() error { return unix.Fchown(fd, uid, gid) }), before, uid, gid); err != nil {
			return err
		}
	}
	if s.Valid&SetMode != 0 {
		if err := unix.Fchmod(fd, s.Mode&0o7777); err != nil {
			return err
		}
	}
	if at, mt := s.times(c.nanos()); at != nil || mt != nil {
		if err := c.share.UtimesFile(file, at, mt); err != nil {
			return err
		}
	}
	after, err := c.share.StatFile(file, false)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.clean == before.Stamp() {
		n.clean = after.Stamp()
	}
	rec, err := c.record(n.ino)
	if err != nil {
		return err
	}
	return c.noteAttrs(n.ino, c.pathText(rec), before, after)
}

func (c *Cache) setInShare(path string, before share.Stat, s SetAttr) error {
	if uid, gid := s.owner(); uid >= 0 || gid >= 0 || s.Valid == 0 {
		if err := c.mayKeepOwner(c.share.Chown(path, uid, gid), before, uid, gid); err != nil {
			return err
		}
	}
	if s.Valid&SetMode != 0 {
		if err := c.share.Chmod(path, s.Mode&0o7777); err != nil {
			return err
		}
	}
	if at, mt := s.times(c.nanos()); at != nil || mt != nil {
		return c.share.Utimes(path, at, mt)
	}
	return nil
}

// mayKeepOwner forgives a chown that would have changed nothing.
func (c *Cache) mayKeepOwner(err error, st share.Stat, uid, gid int) error {
	same := (uid < 0 || uint32(uid) == st.UID) && (gid < 0 || uint32(gid) == st.GID)
	if errors.Is(err, iofs.ErrPermission) && same {
		return nil
	}
	return err
}

// noteAttrs records what the share shows after we changed attributes there. A
// clean file's stamp follows, since we moved it.
func (c *Cache) noteAttrs(ino Ino, path string, before, after share.Stat) error {
	rec, err := c.change(ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if r.Stamp == before.Stamp() {
			r.Stamp = after.Stamp()
		}
		if isDir(r) {
			r.Mode, r.UID, r.GID = after.Mode, after.UID, after.GID
			r.Atime, r.Mtime, r.Ctime = after.Atime, after.Mtime, after.Ctime
		} else {
			setAttrs(r, after)
			r.Ctime = after.Ctime
		}
		if err := c.dressed(tx, r); err != nil {
			return err
		}
		if err := c.enqueueAttrs(tx, r, path); err != nil || holdsOnlyCopy(r.State) {
			return err
		}
		return c.announceAttrs(tx, r, path)
	})
	if err != nil {
		return err
	}
	c.kickRec(rec)
	return nil
}

// setRemote changes the attributes of what the share does not have.
func (c *Cache) setRemote(n *node, rec *catalog.Inode, path string, s SetAttr) error {
	r, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		c.applyAttrs(r, s)
		if err := c.dressed(tx, r); err != nil {
			return err
		}
		if err := c.enqueueAttrs(tx, r, path); err != nil || holdsOnlyCopy(r.State) {
			return err
		}
		return c.announceAttrs(tx, r, path)
	})
	if err != nil {
		return err
	}
	setPartial(n, r, s)
	c.kickRec(r)
	return nil
}

// setPartial gives a partial file that is open the times of its record r; n may be nil.
func setPartial(n *node, r *catalog.Inode, s SetAttr) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil {
		return
	}
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	if s.Valid&(SetMtime|SetMtimeNow) != 0 {
		n.p.mtime = r.Mtime // else it may be newer: writes are recorded later
	}
	n.p.ctime = r.Ctime
}

func (c *Cache) applyAttrs(r *catalog.Inode, s SetAttr) {
	now := c.nanos()
	if s.Valid&SetMode != 0 {
		r.Mode = r.Mode&syscall.S_IFMT | s.Mode&0o7777
	}
	if s.Valid&SetUID != 0 {
		r.UID = s.UID
	}
	if s.Valid&SetGID != 0 {
		r.GID = s.GID
	}
	if at, mt := s.times(now); at != nil || mt != nil {
		if at != nil {
			r.Atime = *at
		}
		if mt != nil {
			r.Mtime = *mt
		}
	}
	r.Ctime = now
}

// owner returns what to give to chown: -1 keeps.
func (s *SetAttr) owner() (uid, gid int) {
	uid, gid = -1, -1
	if s.Valid&SetUID != 0 {
		uid = int(s.UID)
	}
	if s.Valid&SetGID != 0 {
		gid = int(s.GID)
	}
	return uid, gid
}

// times returns the times to set, nil for those to keep.
func (s *SetAttr) times(now int64) (at, mt *int64) {
	pick := func(set, setNow SetValid, v int64) *int64 {
		switch {
		case s.Valid&setNow != 0:
			return &now
		case s.Valid&set != 0:
			return &v
		}
		return nil
	}
	return pick(SetAtime, SetAtimeNow, s.Atime), pick(SetMtime, SetMtimeNow, s.Mtime)
}
