package cache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
	"depotfs/cache/share"
)

// A file that somebody has open for writing is not finished because of a close: an
// NFS server keeps its descriptor for as long as it likes (NFSv3 has no close, and
// an NFSv4 client may hold an image open for days). What counts is quiet. Once the
// file has not changed for its settle time it is uploaded, and when the stamp still
// holds at the commit, the depot has what is here. Its state stays Dirty, because the next
// write goes past us and a power cut could hide it; node.clean remembers the stamp.
// While that holds nothing is pending. When it moves the file settles anew; at the
// last release it makes the file clean without another upload.

// openLook bounds how late a write is noticed that comes through a descriptor that
// was quiet for long: the period of the scanner. An fsync brings the look forward.
const openLook = time.Minute

// openQuiet is for how long a file with a writer must not have changed before it is
// uploaded. Beside, the writers are local programs: they close what they have
// finished, and who pauses has not.
func (c *Cache) openQuiet(rec *catalog.Inode, cl layout.Class) time.Duration {
	quiet := c.settleFor(rec, cl)
	if c.cfg.Deploy == Beside {
		quiet = max(quiet, c.cfg.Limits.MaxDirtyAge)
	}
	return max(quiet, provenQuiet)
}

// provenQuiet is how old a stamp must be before it can tell that nothing was
// written after it was taken: older than the grain of the share's clock.
const provenQuiet = stampGrain + 100*time.Millisecond

// unnoticed opens a file again for reading: without moving its time of access, which
// is what others see of a read, where we may.
func unnoticed(f *os.File) (*os.File, error) {
	path := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	flags := unix.O_RDONLY | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags|unix.O_NOATIME, 0)
	if err != nil {
		fd, err = unix.Open(path, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil // errors name the file, not the descriptor
}

// passWrites waits until writes that have begun are done. A write moves mtime when
// it begins, and may then wait for the disk for longer than any settle time with
// half of its bytes in place. It holds the inode's lock meanwhile, which is taken
// by looking for a hole on ext4, btrfs and tmpfs, and by reading on XFS and NFS.
func passWrites(f *os.File) {
	var b [1]byte
	_, _ = f.ReadAt(b[:], 0)
	_, _ = unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE)
}

// lastChange is when the bytes of a file with this stamp may last have changed, as
// far as can be told at the time at. A time of modification in the future is not
// the clock's: NFS servers keep there what makes a creation exclusive.
func lastChange(s catalog.Stamp, at int64) int64 {
	if s.Mtime > at {
		return s.Ctime
	}
	return max(s.Mtime, s.Ctime)
}

// inDepotLocked says whether the depot has the bytes of a file that is open for
// writing: the stamp is still the one that they were known by. n.mu is held.
func (c *Cache) inDepotLocked(n *node) bool {
	if n.writers == 0 || n.file == nil || !n.whole.Load() || n.clean == (catalog.Stamp{}) || !settled(n.clean, n.openedAt) {
		return false
	}
	st, err := c.share.StatFile(n.file, true)
	return err == nil && st.Stamp() == n.clean
}

// lacks says whether the depot lacks bytes of a file that we have.
func (c *Cache) lacks(rec *catalog.Inode) bool {
	if !isRegular(rec) || !holdsOnlyCopy(rec.State) {
		return false
	}
	n := c.peek(rec.Ino)
	if n == nil {
		return true
	}
	defer c.drop(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	return rec.State != Dirty || !c.inDepotLocked(n)
}

// openWriter is what is to be known of a file that somebody has open for writing.
type openWriter struct {
	open    bool // somebody has
	inDepot bool
	quiet   time.Duration // for how long it has not changed
	st      share.Stat
}

// lookAtWriter looks at a live file. clock is the share's.
func (c *Cache) lookAtWriter(ino Ino, clock func() (int64, error)) (openWriter, error) {
	n := c.peek(ino)
	if n == nil {
		return openWriter{}, nil
	}
	defer c.drop(n)
	n.mu.Lock()
	writers := n.writers
	n.mu.Unlock()
	if writers == 0 {
		return openWriter{}, nil
	}
	now, err := clock()
	if err != nil {
		return openWriter{open: true}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	w := openWriter{open: n.writers > 0}
	switch {
	case n.file == nil:
	case n.whole.Load():
		w.inDepot = c.inDepotLocked(n)
		if w.st, err = c.share.StatFile(n.file, true); err != nil {
			return w, err
		}
		w.quiet = max(0, time.Duration(now-lastChange(w.st.Stamp(), now)))
	default:
		n.p.mu.Lock()
		w.quiet = max(0, time.Duration(c.nanos()-n.p.mtime))
		n.p.mu.Unlock()
	}
	return w, nil
}

// mayGoOpen is mayGo for a file with a writer.
func (c *Cache) mayGoOpen(j *job, w openWriter, rec *catalog.Inode, cl layout.Class, path string, urgent bool) error {
	now := c.now()
	need := c.openQuiet(rec, cl)
	if urgent && c.cfg.Deploy != Beside {
		need = provenQuiet
	}
	if w.quiet < need {
		c.unorder(rec.Ino) // not finished: nobody waits for it
		if rec.DirtySince > 0 {
			if age := now.Sub(time.Unix(0, rec.DirtySince)); age > c.cfg.Limits.MaxDirtyAge {
				c.problems.add("busy", path, fmt.Sprintf("written to since %v and still open", age.Round(time.Second)), now)
			}
		}
		return laterError{now.Add(min(max(time.Second, need-w.quiet), openLook)), "open for writing"}
	}
	// It was finished with its last change, whenever we came to look.
	rec, err := c.change(rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		if w.st.Ino == 0 || r.Stamp == w.st.Stamp() && r.FinishedAt > 0 {
			return nil
		}
		c.noteChange(r, w.st, now.Add(-w.quiet).UnixNano())
		return nil
	})
	if err != nil {
		return err
	}
	c.reorder(rec)
	return c.mayOvertake(j, rec, path)
}

// noteChange records what a writer left at a time.
func (c *Cache) noteChange(r *catalog.Inode, st share.Stat, at int64) {
	if r.DirtySince == 0 && (r.Stamp.Size != st.Size || r.Stamp.Mtime != st.Mtime) {
		r.DirtySince = at
	}
	setAttrs(r, st)
	r.Stamp = st.Stamp()
	c.noteFinished(r, at)
}

// keepWatch is called for a file that is open for writing and whose bytes the depot
// has: it lets those go on that waited for it, has the object follow a rename, and
// says when to look again.
func (c *Cache) keepWatch(w openWriter, path string, ino Ino, follow func() error) error {
	c.leave(ino)
	for _, kind := range []string{"upload", "busy"} {
		c.problems.clear(kind, path)
	}
	if err := c.forgetFailures(ino); err != nil {
		return err
	}
	var later laterError
	if follow == nil {
	} else if err := follow(); errors.Is(err, ErrGone) {
		c.notInDepot(ino)
		return laterError{c.now(), "its object is gone; it is uploaded again"}
	} else if err != nil && !errors.As(err, &later) {
		return err
	}
	return laterError{c.now().Add(min(max(stampGrain, w.quiet/2), openLook)), "open for writing; the depot has it"}
}

// notInDepot takes back what was known of a live file.
func (c *Cache) notInDepot(ino Ino) {
	if n := c.peek(ino); n != nil {
		n.mu.Lock()
		n.clean = catalog.Stamp{}
		n.mu.Unlock()
		c.drop(n)
	}
}

// forgetFailures forgets the failed attempts of an upload that has arrived.
func (c *Cache) forgetFailures(ino Ino) error {
	it := c.queueItem(ino)
	if it == nil || it.Attempts == 0 {
		return nil
	}
	return c.cat.Update(func(tx *catalog.Tx) error {
		it, err := tx.QueueItem(ino)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		it.Attempts, it.LastError = 0, ""
		return tx.PutQueue(it)
	})
}

// isBase says whether the bytes to be sent are those that the depot has: only after
// a file was uploaded while it was open for writing, and nobody saw a change of its
// bytes since. Then reading it once may save sending it.
func (c *Cache) isBase(s *sending) (bool, error) {
	r := s.rec
	if _, ok := currentObject(r); !ok || s.p != nil || r.DirtySince != 0 || !r.Base.HasCRC || r.Base.Size != s.stamp.Size {
		return false, nil
	}
	crc, err := sumCRC(s.file, 0, s.stamp.Size)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return false, errMoving
	}
	if err != nil {
		return false, fmt.Errorf("read %q: %w", s.path, err)
	}
	return crc == r.Base.CRC64, c.unmoved(s)
}

// stillBase records that the depot has the bytes already, under a key that may be
// the one of an earlier name, with attributes that may be old.
func (c *Cache) stillBase(s *sending) (*catalog.Inode, error) {
	o, _ := currentObject(s.rec) // isBase has looked
	s.key, s.crc = o.Key, s.rec.Base.CRC64
	rec, err := c.committed(s, ObjectInfo{ETag: o.ETag, VersionID: o.VersionID}, byOthers)
	if err != nil {
		return nil, err
	}
	if rec, err = c.change(rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		r.Flags |= catalog.FlagAttrDirty
		return nil
	}); err != nil {
		return nil, err
	}
	return c.arrived(s, rec, "the depot has this version already")
}

// lookSoonLocked has a file looked at that is open for writing and may have changed
// since the depot got it; n.mu is held.
func (c *Cache) lookSoonLocked(n *node) {
	if n.clean != (catalog.Stamp{}) && c.depot.Load() != nil {
		c.work.Add(n.ino, c.now().Add(stampGrain))
	}
}

// inPlace says whether the depot has a file under all its names and no others, with
// its attributes.
func (c *Cache) inPlace(rec *catalog.Inode) (bool, error) {
	keys, _, err := c.wantedKeys(rec)
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		if !holds(rec, key) {
			return false, nil
		}
	}
	return len(rec.Objects) == len(keys) && rec.Flags&catalog.FlagAttrDirty == 0, nil
}
