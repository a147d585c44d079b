package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// node is the live side of one inode: it exists while a handle is open or work
// on its bytes is under way.
type node struct {
	ino  Ino
	refs int // guarded by Cache.mu

	mu      sync.Mutex // guards below; may cover share calls and one catalog transaction, never the network
	file    *os.File   // the one backing file, from the first use to the last
	ro      bool       // the share gave file for reading only
	missing bool       // others removed the name of file, and it is all there is
	p       *partial   // what is here of a file that is not whole; nil for others
	handles int
	writers int
	// clean is the stamp that the file had when the first writer opened it in
	// state Clean; the zero Stamp when it was dirty already.
	clean    catalog.Stamp
	openedAt int64                   // ns; when that first writer came
	unsynced atomic.Bool             // the catalog may not durably know yet that the file exists and is dirty
	upload   context.CancelCauseFunc // non-nil while an upload is under way

	whole atomic.Bool // all bytes are in file and stay there while it is open

	hydration atomic.Pointer[hydration] // non-nil once what tools read first is being fetched
}

// acquire returns the node of ino; release must follow.
func (c *Cache) acquire(ino Ino) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[ino]
	if n == nil {
		n = &node{ino: ino}
		c.nodes[ino] = n
	}
	n.refs++
	return n
}

// peek is acquire for inodes that are live already; nil for others.
func (c *Cache) peek(ino Ino) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[ino]
	if n != nil {
		n.refs++
	}
	return n
}

// drop gives a reference back; the last one saves what the catalog must know and
// closes the backing file.
func (c *Cache) drop(n *node) {
	c.mu.Lock()
	if n.refs > 1 {
		n.refs--
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()

	// Saving comes before the node leaves the table: who comes next reads the catalog.
	n.mu.Lock()
	if n.p != nil {
		if err := c.saveExtents(n); err != nil {
			c.log.Warn("save extents", "ino", n.ino, "err", err)
		}
	}
	c.mu.Lock()
	n.refs--
	if n.refs > 0 {
		c.mu.Unlock()
		n.mu.Unlock()
		return
	}
	delete(c.nodes, n.ino)
	c.mu.Unlock()
	file, p := n.file, n.p
	n.file, n.p = nil, nil
	n.mu.Unlock()
	if p != nil {
		p.close()
	}
	if file != nil {
		file.Close()
	}
}

// settleNodes closes what is still open at a clean stop.
func (c *Cache) settleNodes() error {
	c.mu.Lock()
	var open []*node
	for _, n := range c.nodes {
		n.refs++
		open = append(open, n)
	}
	c.mu.Unlock()
	var errs []error
	for _, n := range open {
		n.mu.Lock()
		if n.writers > 0 {
			errs = append(errs, c.endWrite(n))
		}
		if n.p != nil {
			errs = append(errs, c.saveExtents(n))
		}
		n.mu.Unlock()
	}
	return errors.Join(errs...)
}

// load opens the backing file of n, whose name is kept in place by the caller and
// whose mutex is held.
func (c *Cache) load(n *node, rec *catalog.Inode, path string) error {
	if n.file != nil {
		return c.stillThere(n, rec, path)
	}
	if !isRegular(rec) {
		return fmt.Errorf("open %q: %w", path, syscall.EINVAL)
	}
	if resident(rec.State) {
		err := c.loadWhole(n, rec, path)
		switch _, aside := c.evicting.Load(rec.Ino); {
		case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENXIO):
			return errOutside // something else has the name
		case !errors.Is(notThere(err), iofs.ErrNotExist):
			return err
		case !aside && c.followsDelete(path) && rec.Flags&catalog.FlagUnseen == 0:
			return c.isMissing(rec, path)
		}
		c.moves.leave(rec, false)
		if rec, err = c.vanished(rec, path); err != nil {
			return err
		}
	} else if st, err := c.share.StatSync(path); err == nil && st.IsRegular() {
		return errOutside // others made a file of that name
	}
	return c.loadPartial(n, rec, path)
}

func (c *Cache) loadWhole(n *node, rec *catalog.Inode, path string) error {
	f, err := c.share.OpenFile(path, syscall.O_RDWR, 0)
	ro := false
	if errors.Is(err, iofs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ETXTBSY) {
		ro = true
		f, err = c.share.OpenFile(path, syscall.O_RDONLY, 0)
	}
	if err != nil {
		return err
	}
	st, err := c.share.StatFile(f, rec.State == Clean)
	if err != nil {
		f.Close()
		return err
	}
	if otherFile(rec, st) {
		f.Close()
		return errOutside
	}
	if rec.State == Clean && st.Stamp() != rec.Stamp {
		if err := c.changedOutside(rec, path, st); err != nil {
			f.Close()
			return err
		}
	}
	n.file, n.ro = f, ro
	n.whole.Store(true)
	return nil
}

// open says whether somebody has the file open.
func (n *node) open() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.handles > 0
}

// errLost: the share does not have a file any more that the depot never had.
var errLost = errors.New("the share lost it before it was uploaded")

// vanished deals with a resident file that the share does not have any more: what
// the depot has is remote again, what only the share had is gone with it.
func (c *Cache) vanished(rec *catalog.Inode, path string) (*catalog.Inode, error) {
	if err := c.checkMarker(); err != nil {
		return nil, err // not the file, the whole share is missing
	}
	if len(rec.Objects) == 0 || rec.Base.Gen == 0 {
		c.problems.add("lost", path, "the share lost a file that was not uploaded yet", c.now())
		now := c.now()
		c.scans.miss(rec.Ino, now)
		c.scans.heat(rec.Links[0].Parent, now)
		return nil, fmt.Errorf("open %q: %w: %w", path, errLost, syscall.EIO)
	}
	rec, err := c.change(rec.Ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if unsettled, err := c.unsettled(tx, r); unsettled || err != nil {
			return cmp.Or(err, errUnsettled)
		}
		if err := step(r, evVanish); err != nil {
			return err
		}
		toRemote(r)
		return c.putQueue(tx, r, 0, false) // a rename may still have to be followed
	})
	if errors.Is(err, errUnsettled) {
		c.work.Add(rec.Ino, c.now()) // the worker asks the depot
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	c.kickRec(rec)
	c.log.Warn("file vanished from the share; it is read from the depot", "path", path)
	c.inodeChanged(rec.Ino)
	return rec, nil
}

// toRemote makes rec show the depot's version.
func toRemote(r *catalog.Inode) {
	r.Stamp = catalog.Stamp{}
	r.Size, r.Gen, r.BaseLimit, r.Blocks = r.Base.Size, r.Base.Gen, r.Base.Size, 0
	r.DirtySince = 0
	r.Flags &^= catalog.FlagAdopted | catalog.FlagUnseen | catalog.FlagReplaces
}

// setAttrs copies what the share says of a file into its record. The ctime stays
// where nothing changed since we had it: it may be older than the share's.
func setAttrs(r *catalog.Inode, st share.Stat) {
	ctime := st.Ctime
	if st.Stamp() == r.Stamp {
		ctime = r.Ctime
	}
	r.Mode, r.UID, r.GID, r.Rdev = st.Mode, st.UID, st.GID, st.Rdev
	r.Size, r.Blocks = st.Size, st.Blocks
	r.Atime, r.Mtime, r.Ctime = st.Atime, st.Mtime, ctime
}

func isDir(r *catalog.Inode) bool     { return r.Mode&syscall.S_IFMT == syscall.S_IFDIR }
func isRegular(r *catalog.Inode) bool { return r.Mode&syscall.S_IFMT == syscall.S_IFREG }
func isSymlink(r *catalog.Inode) bool { return r.Mode&syscall.S_IFMT == syscall.S_IFLNK }

var errNotDir error = syscall.ENOTDIR
