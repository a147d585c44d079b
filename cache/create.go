package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// Create makes a regular file and opens it. A name that exists answers EEXIST:
// the caller looks names up first.
func (c *Cache) Create(ctx context.Context, who Owner, parent Ino, name string, mode uint32, flags int) (Attr, *Handle, error) {
	if err := checkName(parent, name); err != nil {
		return Attr{}, nil, err
	}
	var h *Handle
	rec, err := c.make(who, parent, name, mode&0o7777|syscall.S_IFREG, func(path string, rec *catalog.Inode) (*os.File, error) {
		f, err := c.share.OpenFile(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL, mode&0o7777)
		if err != nil {
			return nil, err
		}
		n := c.acquire(rec.Ino)
		n.file = f
		n.whole.Store(true)
		n.handles, n.openedAt = 1, c.nanos()
		n.unsynced.Store(true)
		write := flags&syscall.O_ACCMODE != syscall.O_RDONLY
		if write {
			n.writers = 1
		}
		h = &Handle{c: c, n: n, file: f, write: write}
		return f, nil
	})
	if err != nil {
		if h != nil {
			c.abandon(h)
		}
		return Attr{}, nil, err
	}
	return recorded(rec), h, nil
}

// abandon closes a handle whose file never got a record.
func (c *Cache) abandon(h *Handle) {
	h.done.Store(true)
	h.n.mu.Lock()
	h.n.handles, h.n.writers = 0, 0
	h.n.mu.Unlock()
	c.drop(h.n)
}

// Mknod makes a regular file (as knfsd creates files), FIFO, socket or device.
func (c *Cache) Mknod(ctx context.Context, who Owner, parent Ino, name string, mode, rdev uint32) (Attr, error) {
	if err := checkName(parent, name); err != nil {
		return Attr{}, err
	}
	if mode&syscall.S_IFMT == 0 {
		mode |= syscall.S_IFREG
	}
	rec, err := c.make(who, parent, name, mode, func(path string, rec *catalog.Inode) (*os.File, error) {
		return nil, c.share.Mknod(path, mode, rdev)
	})
	if err != nil {
		return Attr{}, err
	}
	return c.attrOf(rec), nil
}

// Mkdir makes a directory.
func (c *Cache) Mkdir(ctx context.Context, who Owner, parent Ino, name string, mode uint32) (Attr, error) {
	if err := checkName(parent, name); err != nil {
		return Attr{}, err
	}
	rec, err := c.make(who, parent, name, mode&0o7777|syscall.S_IFDIR, func(path string, rec *catalog.Inode) (*os.File, error) {
		rec.Flags |= catalog.FlagHere
		if c.listed.Load() { // while the store is off nobody knows what the depot will have here
			rec.Flags |= catalog.FlagListed
		}
		return nil, c.share.Mkdir(path, mode&0o7777)
	})
	if err != nil {
		return Attr{}, err
	}
	return c.attrOf(rec), nil
}

// Symlink makes a symbolic link.
func (c *Cache) Symlink(ctx context.Context, who Owner, parent Ino, name, target string) (Attr, error) {
	if err := checkName(parent, name); err != nil {
		return Attr{}, err
	}
	rec, err := c.make(who, parent, name, 0o777|syscall.S_IFLNK, func(path string, rec *catalog.Inode) (*os.File, error) {
		rec.Target = target
		return nil, c.share.Symlink(target, path)
	})
	if err != nil {
		return Attr{}, err
	}
	return c.attrOf(rec), nil
}

// make creates one name: in the share by mk, which returns the file if it opened it,
// then in the catalog. A crash in between leaves a file that the next look at the
// directory adopts.
func (c *Cache) make(who Owner, parent Ino, name string, mode uint32, mk func(path string, rec *catalog.Inode) (*os.File, error)) (*catalog.Inode, error) {
	ino, err := c.cat.NextIno()
	if err != nil {
		return nil, err
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return nil, err
	}
	rec := &catalog.Inode{Ino: ino, Mode: mode, Gen: gen, Links: []catalog.Link{{Parent: parent, Name: name}}}
	err = c.inDir(parent, func(d lockedDir) error {
		if len(d.rec.Links) == 0 && parent != catalog.Root {
			return iofs.ErrNotExist // the directory was removed
		}
		if _, err := c.named(parent, name); !errors.Is(err, iofs.ErrNotExist) {
			if err == nil {
				err = syscall.EEXIST
			}
			return err
		}
		if err := c.makeHere(d); err != nil {
			return err
		}
		path := join(d.path, name)
		file, err := mk(path, rec)
		if err != nil {
			if errors.Is(err, iofs.ErrExist) {
				// Others made it in the share: from now on it is known.
				if st, serr := c.share.Stat(path); serr == nil {
					_, _ = c.adopt(d, name, st)
				}
			}
			return err
		}
		st, err := c.own(who, d.rec, path, file, rec)
		if err != nil {
			return err
		}
		return c.addName(d, rec, path, st)
	})
	if err != nil {
		return nil, err
	}
	c.scans.heat(parent, c.now())
	c.kickRec(rec)
	return rec, nil
}

// own gives a new file its owner, as a local file system would, and stats it; file is
// nil where it is not open.
func (c *Cache) own(who Owner, dir *catalog.Inode, path string, file *os.File, rec *catalog.Inode) (st share.Stat, err error) {
	if file != nil {
		st, err = c.share.StatFile(file, false)
	} else {
		st, err = c.share.Stat(path)
	}
	if err != nil {
		return st, err
	}
	gid := who.GID
	if dir.Mode&syscall.S_ISGID != 0 {
		gid = dir.GID
		if isDir(rec) {
			rec.Mode |= syscall.S_ISGID
		}
	}
	again := false
	if st.UID != who.UID || st.GID != gid {
		if err := c.share.Chown(path, int(who.UID), int(gid)); err != nil && (os.Geteuid() == 0 || !errors.Is(err, iofs.ErrPermission)) {
			return st, err
		}
		again = true
	}
	// chown clears set-id bits, and mkdir of some file systems ignores them.
	if !isSymlink(rec) && (again || st.Mode&0o7777 != rec.Mode&0o7777) && rec.Mode&0o7777 != st.Mode&0o777 {
		if err := c.share.Chmod(path, rec.Mode&0o7777); err != nil {
			return st, err
		}
		again = true
	}
	if again {
		return c.share.Stat(path)
	}
	return st, nil
}

// addName writes the record of a file that exists in the share, its name and the
// directory's changed times, in one transaction.
func (c *Cache) addName(d lockedDir, rec *catalog.Inode, path string, st share.Stat) error {
	now := c.nanos()
	setAttrs(rec, st)
	rec.Stamp = st.Stamp()
	rec.Nlink = 1
	if isDir(rec) {
		rec.Nlink = 2
	}
	rec.DirtySince, rec.LastUsed = now, now
	c.noteFinished(rec, now)
	if rec.Flags&catalog.FlagAdopted != 0 {
		rec.FinishedAt, rec.KnownAt = min(now, st.Mtime), 0 // finished when its writer left it, not when we found it
	}
	dst, err := c.share.Stat(d.path)
	if err != nil {
		return err
	}
	err = c.cat.Update(func(tx *catalog.Tx) error {
		r := *rec
		if isRegular(&r) {
			r.State = Absent
			if err := step(&r, evCreate); err != nil {
				return err
			}
		} else {
			r.Flags |= catalog.FlagAttrDirty
		}
		// The directory's lock is held and the number is new: there is nothing to replace.
		if err := tx.NewDirent(catalog.Dirent{Parent: d.rec.Ino, Name: r.Links[0].Name, Ino: r.Ino, Type: r.Mode & syscall.S_IFMT}); err != nil {
			return err
		}
		if err := c.touchDir(tx, d.rec.Ino, dst, subdirs(&r)); err != nil {
			return err
		}
		if err := c.enqueueNew(tx, &r, path); err != nil {
			return err
		}
		if err := tx.NewInode(&r); err != nil {
			return err
		}
		*rec = r
		return nil
	})
	if err != nil {
		return fmt.Errorf("record %q: %w", path, err)
	}
	return nil
}

// subdirs is by how much rec changes its parent's link count.
func subdirs(r *catalog.Inode) int {
	if isDir(r) {
		return 1
	}
	return 0
}

// touchDir writes a directory's times after its names changed.
func (c *Cache) touchDir(tx *catalog.Tx, dir Ino, st share.Stat, dirs int) error {
	rec, err := inode(tx, dir)
	if err != nil {
		return err
	}
	rec.Mtime, rec.Ctime, rec.Size, rec.Blocks = st.Mtime, st.Ctime, st.Size, st.Blocks
	rec.Nlink = uint32(int64(rec.Nlink) + int64(dirs))
	return tx.PutInode(rec)
}

// makeHere makes a directory exist in the share; its lock is held.
func (c *Cache) makeHere(d lockedDir) error {
	if d.rec.Flags&catalog.FlagHere != 0 {
		return nil
	}
	return c.makeParents(d.rec.Ino)
}

// makeParents makes a directory and all above it exist in the share.
func (c *Cache) makeParents(dir Ino) error {
	var missing []*catalog.Inode
	var paths []string
	if err := c.cat.View(func(tx *catalog.Tx) error {
		for ino := dir; ino != catalog.Root; {
			rec, err := inode(tx, ino)
			if err != nil {
				return err
			}
			if rec.Flags&catalog.FlagHere != 0 || len(rec.Links) == 0 {
				return nil
			}
			p, err := dirPath(tx, ino)
			if err != nil {
				return err
			}
			missing, paths = append(missing, rec), append(paths, p)
			ino = rec.Links[0].Parent
		}
		return nil
	}); err != nil {
		return err
	}
	for i := len(missing) - 1; i >= 0; i-- {
		rec, path := missing[i], paths[i]
		err := c.share.Mkdir(path, rec.Mode&0o7777)
		if err == nil {
			err = c.share.Chown(path, int(rec.UID), int(rec.GID))
			if errors.Is(err, iofs.ErrPermission) && os.Geteuid() != 0 {
				err = nil
			}
		}
		if err != nil && !errors.Is(err, iofs.ErrExist) {
			return fmt.Errorf("make directory %q in the share: %w", path, err)
		}
		if _, err := c.change(rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
			r.Flags |= catalog.FlagHere
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// Tmpfile makes a file without a name (O_TMPFILE) and opens it.
func (c *Cache) Tmpfile(ctx context.Context, who Owner, parent Ino, mode uint32, flags int) (Attr, *Handle, error) {
	if c.gone.Load() {
		return Attr{}, nil, ErrMarker
	}
	ino, err := c.cat.NextIno()
	if err != nil {
		return Attr{}, nil, err
	}
	path := share.OpenPath(uint64(ino))
	f, err := c.share.OpenFile(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL, mode&0o7777)
	if err != nil {
		return Attr{}, nil, fmt.Errorf("make temporary file %s: %w", path, err)
	}
	rec := &catalog.Inode{Ino: ino, Mode: mode&0o7777 | syscall.S_IFREG, State: Dirty, Flags: catalog.FlagOrphan}
	dir, err := c.record(parent)
	if err != nil {
		f.Close()
		return Attr{}, nil, err
	}
	st, err := c.own(who, dir, path, f, rec)
	if err == nil {
		setAttrs(rec, st)
		rec.Stamp = st.Stamp()
		rec.Nlink = 0
		err = c.cat.Update(func(tx *catalog.Tx) error { return tx.PutInode(rec) })
	}
	if err != nil {
		f.Close()
		return Attr{}, nil, err
	}
	n := c.acquire(ino)
	n.file, n.handles, n.openedAt = f, 1, c.nanos()
	n.whole.Store(true)
	write := flags&syscall.O_ACCMODE != syscall.O_RDONLY
	if write {
		n.writers = 1
	}
	return c.attrOf(rec), &Handle{c: c, n: n, file: f, write: write}, nil
}
