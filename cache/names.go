package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

const maxName = 255 // bytes in a name, as ext4 and NFS have it

// checkName refuses what no directory entry may be called.
func checkName(parent Ino, name string) error {
	switch {
	case len(name) > maxName:
		return syscall.ENAMETOOLONG
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return syscall.EINVAL
	case hidden(parent, name):
		return syscall.EPERM
	}
	return nil
}

// hidden says whether a name of the share is depotfs's own.
func hidden(parent Ino, name string) bool { return parent == catalog.Root && name == share.Private }

// Lookup finds a name. A name that the catalog does not know is looked for in the
// share, and in the depot where its listing is not complete yet.
func (c *Cache) Lookup(ctx context.Context, parent Ino, name string) (Attr, error) {
	if len(name) > maxName {
		return Attr{}, syscall.ENAMETOOLONG
	}
	rec, err := c.named(parent, name)
	if errors.Is(err, iofs.ErrNotExist) && !hidden(parent, name) {
		rec, err = c.findOutside(ctx, parent, name)
		if errors.Is(err, iofs.ErrNotExist) && c.tells() {
			c.listenSoon() // another zone may have made it a moment ago
		}
	}
	if err != nil {
		return Attr{}, err
	}
	return c.attrOf(rec), nil
}

// find asks the catalog alone; the record is the caller's own.
func (c *Cache) find(parent Ino, name string) (*catalog.Inode, error) {
	rec, err := c.named(parent, name)
	if err != nil {
		return nil, err
	}
	return rec.Clone(), nil
}

// named is find for who only reads the record.
func (c *Cache) named(parent Ino, name string) (*catalog.Inode, error) {
	for {
		d, err := c.cat.Lookup(parent, name)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil, iofs.ErrNotExist
		}
		if err != nil {
			return nil, err
		}
		rec, err := inode(c.cat, d.Ino)
		if !errors.Is(err, ErrStale) {
			return rec, err
		}
		// The name went, or moved on, between the two questions.
		again, aerr := c.cat.Lookup(parent, name)
		if aerr == nil && again == d {
			return nil, err
		}
	}
}

// findOutside looks for a name that the catalog does not have.
func (c *Cache) findOutside(ctx context.Context, parent Ino, name string) (*catalog.Inode, error) {
	dir, err := inode(c.cat, parent)
	if err != nil {
		return nil, err
	}
	if !isDir(dir) {
		return nil, errNotDir
	}
	if c.gone.Load() {
		return nil, ErrMarker // nobody knows
	}
	if c.unlisted(dir) != nil {
		if err := c.importDir(ctx, dir); err != nil {
			return nil, err
		}
		if rec, err := c.find(parent, name); !errors.Is(err, iofs.ErrNotExist) {
			return rec, err
		}
	}
	if err := c.inShareAt(parent, name); err != nil {
		return nil, err // most unknown names are nowhere: nobody is kept from working
	}
	var rec *catalog.Inode
	err = c.withDir(parent, func(d lockedDir) error {
		if rec, err = c.find(parent, name); !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		st, err := c.share.Stat(join(d.path, name))
		if err != nil {
			return notThere(err)
		}
		rec, err = c.adopt(d, name, st)
		return err
	})
	return rec, err
}

// inShareAt asks the share for a name of a directory that nobody keeps in place.
func (c *Cache) inShareAt(parent Ino, name string) error {
	dpath, err := dirPath(c.cat, parent)
	for err == nil {
		_, serr := c.share.Stat(join(dpath, name))
		if serr == nil {
			return nil
		}
		asked := dpath
		if dpath, err = dirPath(c.cat, parent); err == nil && dpath == asked {
			return notThere(serr)
		}
	}
	return err
}

// notThere makes one error of the ways in which the share says that a name is not
// there; a symlink or file among the parents can only be the share's doing.
func notThere(err error) error {
	for _, e := range []error{syscall.ENOTDIR, syscall.ELOOP, syscall.EXDEV, syscall.ENAMETOOLONG} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w (%v)", iofs.ErrNotExist, err)
		}
	}
	return err
}

// Attr describes an inode by number.
func (c *Cache) Attr(_ context.Context, ino Ino) (Attr, error) {
	rec, err := inode(c.cat, ino)
	if err != nil {
		return Attr{}, err
	}
	return c.attrOf(rec), nil
}

// Parent describes the directory that a directory is in; the root's is itself.
func (c *Cache) Parent(ctx context.Context, ino Ino) (Attr, error) {
	rec, err := c.record(ino)
	if err != nil {
		return Attr{}, err
	}
	if ino == catalog.Root {
		return c.attrOf(rec), nil
	}
	if len(rec.Links) == 0 {
		return Attr{}, ErrStale
	}
	return c.Attr(ctx, rec.Links[0].Parent)
}

// attrOf is rec as stat shows it; what is open is asked of its backing file, since
// the kernel writes there without us.
func (c *Cache) attrOf(rec *catalog.Inode) Attr {
	a := recorded(rec)
	if !isRegular(rec) {
		return a
	}
	n := c.peek(rec.Ino)
	if n == nil {
		// The last handle may have closed since rec was read: what it left is on record.
		if now, err := c.cat.Inode(rec.Ino); err == nil {
			a = recorded(now)
		}
		return a
	}
	defer c.drop(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.file == nil:
	case n.whole.Load():
		if st, err := c.share.StatFile(n.file, false); err == nil {
			if st.Stamp() != rec.Stamp { // as after a promotion since rec was read
				if now, err := c.cat.Inode(rec.Ino); err == nil {
					rec, a = now, recorded(now)
				}
			}
			if st.Stamp() != rec.Stamp {
				a.Ctime = max(a.Ctime, st.Ctime) // what setxattr moved is on record only
			}
			a.Size, a.Blocks, a.Atime, a.Mtime = st.Size, st.Blocks, st.Atime, st.Mtime
			a.Mode = a.Mode&syscall.S_IFMT | st.Mode&0o7777 // writing clears set-id bits
		}
	default:
		n.p.mu.Lock()
		a.Size, a.Mtime = n.p.size, n.p.mtime
		a.Ctime = max(a.Ctime, n.p.ctime)
		a.Blocks = blocksOf(a.Size)
		n.p.mu.Unlock()
	}
	return a
}

// recorded is rec as stat shows it while nobody has the inode open.
func recorded(rec *catalog.Inode) Attr {
	a := Attr{Ino: rec.Ino, Mode: rec.Mode, Nlink: rec.Nlink, UID: rec.UID, GID: rec.GID, Rdev: rec.Rdev,
		Size: rec.Size, Blocks: rec.Blocks, Atime: rec.Atime, Mtime: rec.Mtime, Ctime: rec.Ctime}
	if isRegular(rec) && !resident(rec.State) {
		a.Blocks = blocksOf(rec.Size)
	}
	return a
}

// blocksOf is what stat shows for a file that is not here: what it would take if it
// were. Fewer blocks than bytes mean holes to tar and cp, and none at all nothing
// but zeros; they would not even read it.
func blocksOf(size int64) int64 { return (size + 511) / 512 }

// OpenDir notices what others changed in the directory.
func (c *Cache) OpenDir(ctx context.Context, ino Ino) error {
	rec, err := c.record(ino)
	if err != nil {
		return err
	}
	if !isDir(rec) {
		return errNotDir
	}
	if err := c.importDir(ctx, rec); err != nil {
		return err
	}
	c.scans.heat(ino, c.now())
	return c.agree(rec)
}

// ReadDirPlus is ReadDir with attributes; a name without them has Attr.Ino 0.
func (c *Cache) ReadDirPlus(_ context.Context, ino Ino, cookie uint64, fn func(DirEntry, Attr) bool) error {
	return c.cat.View(func(tx *catalog.Tx) error {
		return tx.ReadDir(ino, cookie, func(d catalog.Dirent) bool {
			var a Attr
			if rec, err := c.cat.Inode(d.Ino); err == nil { // attrOf reads it once more
				a = c.attrOf(rec)
			}
			return fn(DirEntry{Name: d.Name, Ino: d.Ino, Type: d.Type, Cookie: d.Cookie}, a)
		})
	})
}

// ReadDir lists a directory in the order of its cookies, from after the given one,
// until fn returns false. It calls fn with no lock held but inside a read
// transaction: fn must not change the tree.
func (c *Cache) ReadDir(_ context.Context, ino Ino, cookie uint64, fn func(DirEntry) bool) error {
	return c.cat.View(func(tx *catalog.Tx) error {
		return tx.ReadDir(ino, cookie, func(d catalog.Dirent) bool {
			return fn(DirEntry{Name: d.Name, Ino: d.Ino, Type: d.Type, Cookie: d.Cookie})
		})
	})
}

// SyncDir makes the names in a directory durable.
func (c *Cache) SyncDir(ctx context.Context, ino Ino) error {
	err := c.withDir(ino, func(d lockedDir) error {
		if d.rec.Flags&catalog.FlagHere == 0 {
			return nil
		}
		return c.share.SyncDir(d.path)
	})
	if err != nil && !errors.Is(err, ErrStale) {
		return err
	}
	return c.cat.Sync(context.WithoutCancel(ctx))
}

// Readlink returns what a symlink points to.
func (c *Cache) Readlink(_ context.Context, ino Ino) (string, error) {
	rec, err := inode(c.cat, ino)
	if err != nil {
		return "", err
	}
	if !isSymlink(rec) {
		return "", syscall.EINVAL
	}
	return rec.Target, nil
}

// Statfs describes the file system: with the store on, the depot's capacity
// however full the cache is, since CloudStack stops using a store at 90 %.
func (c *Cache) Statfs(context.Context) (Statfs, error) {
	st, err := c.share.Statfs()
	if err != nil {
		return Statfs{}, err
	}
	s := Statfs{BlockSize: 4096, NameLen: maxName,
		Total: st.Total, Free: st.Free, Avail: st.Avail, Files: st.Files, FilesFree: st.FilesFree}
	if c.depot.Load() == nil {
		return s, nil
	}
	t := c.cat.Totals()
	var used int64
	for _, b := range t.BytesByState {
		used += b
	}
	s.Total = c.cfg.Capacity
	s.Free = max(0, s.Total-used)
	s.Avail = s.Free
	s.Files = max(s.Files, 1<<32)
	s.FilesFree = s.Files - t.Files - t.Dirs
	return s, nil
}
