package cache

import (
	"errors"
	iofs "io/fs"
	"sync"

	"depotfs/cache/catalog"
)

// moves recognises files that others renamed in the share: the share's inode number,
// size and mtime that vanished under one name have come to be under another. The file
// is still compared by checksum before it counts as the depot's version; but then a
// copy inside the store does, and nothing is sent. It is memory only: what it forgets
// is uploaded under the new name, and stays under the old one.
type moves struct {
	mu      sync.Mutex // guards below; held for moments
	arrived map[uint64]Ino
	left    map[uint64]departure
	pairs   []departure
}

// departure is a file that vanished from its name.
type departure struct {
	ino   Ino // that had the name
	to    Ino // that has the file now; 0: not known yet
	at    catalog.Link
	stamp catalog.Stamp
	base  uint64 // generation of what the depot had of it
	held  bool   // its backing file is open: nothing else can have its number
}

// is says whether a file is the one that left.
func (d *departure) is(s catalog.Stamp) bool {
	return sameContent(s, d.stamp) || d.held && s.Ino == d.stamp.Ino
}

// maxMoves bounds what is remembered: more than are renamed between two looks.
const maxMoves = 10_000

func (m *moves) init() {
	m.arrived, m.left = map[uint64]Ino{}, map[uint64]departure{}
}

// arrive notes a file that was found under a new name.
func (m *moves) arrive(rec *catalog.Inode) {
	if !isRegular(rec) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if d, ok := m.left[rec.Stamp.Ino]; ok {
		delete(m.left, rec.Stamp.Ino)
		d.to = rec.Ino
		m.pairs = append(m.pairs, d)
		return
	}
	if len(m.arrived) >= maxMoves {
		clear(m.arrived)
	}
	m.arrived[rec.Stamp.Ino] = rec.Ino
}

// leave notes a file that is missing under its name, and says whether it has been
// found under another one already. With a file whose base is a version that its maker
// could not see nothing goes along: that version is there again where it was.
func (m *moves) leave(rec *catalog.Inode, held bool) bool {
	if !isRegular(rec) || rec.Stamp.Ino == 0 || len(rec.Links) != 1 || rec.Flags&catalog.FlagUnseen != 0 {
		return false
	}
	d := departure{ino: rec.Ino, at: rec.Links[0], stamp: rec.Stamp, base: rec.Base.Gen, held: held}
	m.mu.Lock()
	defer m.mu.Unlock()
	if to, ok := m.arrived[rec.Stamp.Ino]; ok && to != rec.Ino { // itself: the last of its names here
		delete(m.arrived, rec.Stamp.Ino)
		d.to = to
		m.pairs = append(m.pairs, d)
		return true
	}
	if len(m.left) >= maxMoves {
		clear(m.left)
	}
	m.left[rec.Stamp.Ino] = d
	return false
}

// restored notes that the name of a file that left is another inode's by now.
func (m *moves) restored(old, next *catalog.Inode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d, ok := m.left[old.Stamp.Ino]; ok && d.ino == old.Ino {
		d.ino = next.Ino
		m.left[old.Stamp.Ino] = d
	}
}

// again has a pair looked at once more, later.
func (m *moves) again(d departure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pairs = append(m.pairs, d)
}

func (m *moves) take() []departure {
	m.mu.Lock()
	defer m.mu.Unlock()
	pairs := m.pairs
	m.pairs = nil
	return pairs
}

// followMoves ends the names whose files have others now. No lock may be held.
func (c *Cache) followMoves() error {
	var errs []error
	for _, d := range c.moves.take() {
		err := c.followMove(d)
		if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, iofs.ErrNotExist) && !errors.Is(err, errMoved) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c *Cache) followMove(m departure) error {
	l := m.at // who was given another name here keeps it
	return c.withDir(l.Parent, func(d lockedDir) error {
		rec, err := c.find(l.Parent, l.Name)
		if err != nil {
			return err
		}
		path := join(d.path, l.Name)
		_, err = c.share.StatSync(path)
		if !errors.Is(notThere(err), iofs.ErrNotExist) || rec.Ino != m.ino || len(rec.Links) != 1 {
			return err // it is there again: a copy, or another file
		}
		switch rec.State {
		case Clean, Dirty:
			if !m.is(rec.Stamp) {
				return nil
			}
		case Remote: // restored when it was missed, and not read since
			if rec.Base.Gen != m.base {
				return nil // read, written and evicted
			}
		default:
			return nil
		}
		open := false
		if n := c.peek(rec.Ino); n != nil {
			defer c.drop(n)
			n.mu.Lock()
			defer n.mu.Unlock()
			if open = n.handles > 0; open && !n.whole.Load() {
				return nil // read from its object already
			}
			c.cancelUpload(n, rec)
		}
		if done, err := c.endMoved(d, rec, m, l, path, open); err != nil || !done {
			return err
		}
		c.log.Info("file was renamed in the share", "from", path, "inode", m.to)
		c.scans.found(rec.Ino)
		if !open {
			c.removePartial(rec)
		}
		c.kick(rec.Ino)
		c.kick(m.to)
		c.kickRemovals(rec, path)
		c.changed.wake()
		c.entryChanged(l.Parent, l.Name)
		return nil
	})
}

// endMoved is the catalog's side: the old name goes, and what the depot has of it is
// the base of the file under its new name. done is false where that is another file
// by now, or just on its way to the depot.
func (c *Cache) endMoved(d lockedDir, rec *catalog.Inode, m departure, l catalog.Link, path string, open bool) (done bool, err error) {
	dst, err := c.share.Stat(d.path)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return false, err
	}
	here := err == nil
	err = c.cat.Update(func(tx *catalog.Tx) error {
		done = false
		to, err := inode(tx, m.to)
		if err != nil {
			return err
		}
		old, err := inode(tx, rec.Ino)
		if err != nil {
			return err
		}
		_, uerr := tx.Upload(m.to)
		switch {
		case !m.is(to.Stamp):
			return nil // another file by now
		case old.Flags&catalog.FlagUnseen != 0:
			return nil // whose base is another version than theirs
		case to.State == Clean: // sent already: the old objects are not needed
		case to.State != Dirty:
			return nil
		case len(to.Objects) > 0, to.Base.Gen != 0, to.Flags&catalog.FlagUnseen != 0: // it has the base of what it replaced
		case !errors.Is(uerr, catalog.ErrNotFound): // on its way
			c.moves.again(m)
			return uerr
		default:
			if err := inherit(tx, old, to); err != nil {
				return err
			}
		}
		to.Flags |= old.Flags & catalog.FlagPinned
		if err := tx.PutInode(to); err != nil {
			return err
		}
		if err := c.announceFound(tx, old, to, path); err != nil {
			return err
		}
		if err := c.removeLink(tx, old.Ino, l, path, open, nil); err != nil {
			return err
		}
		done = true
		if here {
			return c.touchDir(tx, l.Parent, dst, 0)
		}
		return c.touchRemoteDir(tx, l.Parent, 0)
	})
	return done, err
}
