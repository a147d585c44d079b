package cache

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

// move is a rename that was looked at and may go ahead.
type move struct {
	from, to      lockedDir
	oldName, name string
	src, dst      *catalog.Inode // dst nil: the new name is free
	exchange      bool
	oldPath, path string
	before        catalog.Stamp // of what moves in the share, before it does
	by            author
	at            int64  // byOthers: when, by the store's clock
	zone          string // byOthers: which zone
	remade        bool   // byOthers: the names are those of the other zone's rename, not below them
}

// Rename moves a name, over another one if need be, as renameat2(2) does.
func (c *Cache) Rename(ctx context.Context, oldParent Ino, oldName string, newParent Ino, newName string, flags RenameFlags) error {
	if flags&^(RenameNoReplace|RenameExchange) != 0 || flags == RenameNoReplace|RenameExchange {
		return syscall.EINVAL
	}
	if err := checkName(newParent, newName); err != nil {
		return err
	}
	for try := 0; ; try++ {
		src, err := c.findAny(ctx, oldParent, oldName)
		if err != nil {
			return err
		}
		dst, err := c.findAny(ctx, newParent, newName)
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		if dst != nil && isDir(dst) {
			if err := c.importDir(ctx, dst); err != nil {
				return err
			}
		}
		err = c.renameOnce(src, dst, oldParent, oldName, newParent, newName, flags)
		switch {
		case errors.Is(err, errMoved):
			continue
		case errors.Is(err, errOutside) && try < maxLooks:
			over := Ino(0)
			if dst != nil {
				over = dst.Ino
			}
			if lerr := errors.Join(c.lookAtInodes(src.Ino, over), c.lookAtDirs(oldParent), c.lookAtDirs(newParent)); lerr != nil {
				return lerr
			}
			if c.followsRemoval(newParent) {
				return err
			}
			continue
		}
		return err
	}
}

// lookAtInodes takes in what others did to the first names of inodes; 0 is none.
func (c *Cache) lookAtInodes(inos ...Ino) error {
	for _, ino := range inos {
		if ino == 0 {
			continue
		}
		err := c.lookAtInode(ino)
		if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, iofs.ErrNotExist) && !errors.Is(err, errUnsettled) {
			return err
		}
	}
	return nil
}

// lost says of an error of the share whether a name is missing that we know.
func lost(err error) error {
	if errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errOutside, err)
	}
	return err
}

// renameOnce answers errMoved when the names changed since they were looked up, and
// errOutside when the share does not have them any more.
func (c *Cache) renameOnce(src, dst *catalog.Inode, oldParent Ino, oldName string, newParent Ino, newName string, flags RenameFlags) error {
	if c.gone.Load() {
		return ErrMarker
	}
	dirs := []Ino{oldParent, newParent}
	movesDir := isDir(src)
	if dst != nil && isDir(dst) {
		dirs = append(dirs, dst.Ino)
		movesDir = movesDir || flags&RenameExchange != 0
	}
	if movesDir { // the paths of everything below change
		c.tree.Lock()
		defer c.tree.Unlock()
	} else {
		c.tree.RLock()
		defer c.tree.RUnlock()
	}
	defer c.dirs.lock(dirs...)()

	m := move{by: byUs, oldName: oldName, name: newName, exchange: flags&RenameExchange != 0}
	var err error
	if m.src, err = c.find(oldParent, oldName); err != nil {
		return err
	}
	if m.dst, err = c.find(newParent, newName); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	if m.src.Ino != src.Ino || (m.dst == nil) != (dst == nil) || dst != nil && m.dst.Ino != dst.Ino {
		return errMoved
	}
	if m.from, err = c.lookDir(oldParent); err != nil {
		return err
	}
	if m.to, err = c.lookDir(newParent); err != nil {
		return err
	}
	m.oldPath, m.path = join(m.from.path, oldName), join(m.to.path, newName)
	switch {
	case hidden(oldParent, oldName):
		return syscall.EPERM
	case m.dst == nil && m.exchange:
		return iofs.ErrNotExist
	case m.dst != nil && flags&RenameNoReplace != 0:
		return syscall.EEXIST
	case m.dst != nil && m.dst.Ino == m.src.Ino:
		return nil // two names of one file: POSIX says do nothing
	}
	if err := c.mayMove(&m); err != nil {
		return err
	}
	return c.moveLocked(&m)
}

// mayMove checks what rename(2) forbids.
func (c *Cache) mayMove(m *move) error {
	if isDir(m.src) {
		if err := c.notBelow(m.src.Ino, m.to.rec.Ino); err != nil {
			return err
		}
	}
	if m.exchange {
		if isDir(m.dst) {
			return c.notBelow(m.dst.Ino, m.from.rec.Ino)
		}
		return nil
	}
	if m.dst == nil {
		return nil
	}
	switch {
	case isDir(m.src) && !isDir(m.dst):
		return syscall.ENOTDIR
	case !isDir(m.src) && isDir(m.dst):
		return syscall.EISDIR
	case isDir(m.dst):
		return c.emptyDir(m.dst, m.path)
	}
	return nil
}

// notBelow answers EINVAL when dir is top or below it.
func (c *Cache) notBelow(top, dir Ino) error {
	return c.cat.View(func(tx *catalog.Tx) error {
		for depth := 0; dir != catalog.Root && depth < maxDepth; depth++ {
			if dir == top {
				return syscall.EINVAL
			}
			rec, err := inode(tx, dir)
			if err != nil {
				return err
			}
			if len(rec.Links) == 0 {
				return iofs.ErrNotExist
			}
			dir = rec.Links[0].Parent
		}
		return nil
	})
}

// inShare says whether the share has something at the plain path of rec.
func inShare(rec *catalog.Inode) bool {
	switch {
	case rec == nil:
		return false
	case isDir(rec):
		return rec.Flags&catalog.FlagHere != 0
	case isRegular(rec):
		return resident(rec.State)
	}
	return true
}

// moveLocked does it: intent, share, catalog. All locks are held.
func (c *Cache) moveLocked(m *move) error {
	open := false
	if m.dst != nil && !m.exchange {
		if n := c.peek(m.dst.Ino); n != nil {
			defer c.drop(n)
			n.mu.Lock()
			defer n.mu.Unlock()
			open = n.handles > 0
			c.cancelUpload(n, m.dst)
		}
	}
	if inShare(m.src) || m.exchange && inShare(m.dst) {
		if err := c.makeHere(m.to); err != nil {
			return err
		}
		if err := c.makeHere(m.from); err != nil {
			return err
		}
	}
	intent := &catalog.Intent{Kind: catalog.IntentRename, Ino: m.src.Ino, From: m.oldPath, To: m.path,
		OldParent: m.from.rec.Ino, OldName: m.oldName, NewParent: m.to.rec.Ino, NewName: m.name, Time: c.nanos()}
	if m.exchange {
		intent.Kind = catalog.IntentExchange
	}
	if m.by == byOthers {
		intent.Time, intent.Zone, intent.Remade = m.at, m.zone, m.remade
	}
	if m.dst != nil {
		intent.Victim = m.dst.Ino
	}
	// What moves in the share tells recovery whether it has moved: the source, or the
	// other side of an exchange with a file that is not here.
	mover := ""
	switch {
	case inShare(m.src):
		mover = m.oldPath
	case m.exchange && inShare(m.dst):
		mover = m.path
	}
	if mover != "" {
		st, err := c.share.Stat(mover)
		if err != nil {
			return fmt.Errorf("rename %q: %w", m.oldPath, lost(err))
		}
		intent.ShareIno = st.Ino
		m.before = st.Stamp()
	}
	if err := c.cat.Update(func(tx *catalog.Tx) error { return tx.PutIntent(intent) }); err != nil {
		return err
	}
	if err := c.moveInShare(m); err != nil {
		_ = c.cat.Update(func(tx *catalog.Tx) error { return tx.DeleteIntent(intent.Seq) })
		return fmt.Errorf("rename %q to %q: %w", m.oldPath, m.path, lost(err))
	}
	if err := c.moveInCatalog(m, open, intent); err != nil {
		return err
	}
	if m.dst != nil && !m.exchange && !open {
		c.removePartial(m.dst)
	}
	c.kick(m.src.Ino)
	switch {
	case m.exchange:
		c.kick(m.dst.Ino)
	case m.dst != nil:
		c.kick(m.dst.Ino)
		c.kickRemovals(m.dst, m.path)
	}
	c.changed.wake()
	return nil
}

// moveInShare does the local rename, in whichever way src and dst exist there.
func (c *Cache) moveInShare(m *move) error {
	s, d := inShare(m.src), inShare(m.dst)
	switch {
	case m.exchange && s && d:
		return c.share.Rename(m.oldPath, m.path, share.Exchange)
	case m.exchange && d:
		return c.share.Rename(m.path, m.oldPath, share.NoReplace)
	case s:
		return c.share.Rename(m.oldPath, m.path, 0)
	case d && isDir(m.dst):
		return c.share.Rmdir(m.path)
	case d && !m.exchange:
		return c.share.Unlink(m.path)
	}
	return nil
}
