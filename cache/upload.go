package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"strconv"
	"syscall"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
	"depotfs/cache/layout"
)

// metaVersion is the user metadata that marks which version of which zone's
// catalog an object is: so an upload whose answer was lost is recognised.
const metaVersion = "depotfs-version"

// versionMark is the value of metaVersion for one content generation of ours.
func (c *Cache) versionMark(gen uint64) string {
	return c.epochMark() + strconv.FormatUint(gen, 10)
}

// epochMark begins all marks of this catalog.
func (c *Cache) epochMark() string { return strconv.FormatUint(c.cat.Epoch(), 16) + "-" }

// sending is one version of a file on its way to the depot.
type sending struct {
	job   *job
	aside bool // not under the file's own key: it has no place in the order
	n     *node
	rec   *catalog.Inode // as it was when the upload began
	path  string
	key   string
	// formerKey says that key is of a name that the file has no more: moveObjects follows.
	formerKey bool
	file      *os.File
	stamp     catalog.Stamp
	crc       uint64
	zeros     extent.Set // where the file is zeros, as far as is known
	opts      PutOptions
	bar       *transfer
	// seen is the share's time when the stamp was taken of a file that was open for
	// writing and quiet; 0 for others.
	seen int64

	plan []plannedPart  // nil until it is made, and for a single PUT
	sums *grainSums     // what is known of this version
	base *grainSums     // what is known of the version that it derives from; nil where nothing is
	from catalog.Object // which is this object
	zero zeroObject     // from which zeros are copied; its size is 0 where they are sent

	p      *partial // of a file that lacks bytes: partialsend.go
	writes int      // what was written into it when the upload began
}

// sendFile uploads a dirty file, if it may go now.
func (c *Cache) sendFile(ctx context.Context, d *depot, j *job, rec *catalog.Inode, cl layout.Class, path string) error {
	w, err := c.lookAtWriter(rec.Ino, c.share.Now)
	if err != nil {
		return err
	}
	if w.inDepot {
		if there, err := c.inPlace(rec); err != nil || there {
			return errors.Join(err, c.keepWatch(w, path, rec.Ino, nil))
		}
		return c.keepWatch(w, path, rec.Ino, func() error { return c.moveObjects(ctx, d, rec) })
	}
	if w.open {
		_, urgent := c.urgent.Load(rec.Ino)
		err = c.mayGoOpen(j, w, rec, cl, path, urgent)
	} else {
		err = c.mayGo(j, rec, cl, path)
	}
	if err != nil {
		return err
	}
	n := c.acquire(rec.Ino)
	defer c.drop(n)
	if err := c.withName(rec.Ino, false, func(now *catalog.Inode, p string) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		rec, path = now, p
		return c.load(n, now, p)
	}); err != nil {
		if err = c.takeIn(rec.Ino, err); errors.Is(err, errUnsettled) {
			return c.settleVanished(ctx, d, rec.Ino)
		}
		if errors.Is(err, errLost) || errors.Is(err, iofs.ErrNotExist) && c.scans.misses(rec.Ino) {
			c.unorder(rec.Ino) // nobody waits for what is not there
			return laterError{c.now().Add(c.cfg.ScanInterval), "removed from the share"}
		}
		return err
	}
	lost, err := c.yieldsTo(rec, path)
	if err != nil {
		return err
	}
	if !n.whole.Load() {
		if lost != nil {
			err = c.complete(ctx, n)
			if err == nil {
				err = laterError{c.now().Add(stampGrain), "is kept as a conflict"}
			}
			return err
		}
		if done, err := c.sendPartial(ctx, d, j, n, cl, path, w.open); done || err != nil {
			return err
		}
		if err := c.complete(ctx, n); err != nil {
			if errors.Is(err, ErrGone) {
				err = cmp.Or(c.baseReplaced(ctx, d, n, path), err)
			}
			return fmt.Errorf("fetch the rest of a file that was written in part: %w", err)
		}
		if w.open { // it moved to its place just now
			return laterError{c.now().Add(stampGrain), "open for writing"}
		}
	}
	ctx, stop, err := c.beginUpload(ctx, n, w.open)
	if err != nil {
		return err
	}
	defer stop()
	rec, err = c.record(rec.Ino)
	if err != nil {
		return err
	}
	if rec.State != Dirty { // the depot's version, after all (see vanished)
		return c.moveObjects(ctx, d, rec)
	}
	s := &sending{job: j, n: n, rec: rec, path: path}
	if w.open {
		if s.seen, err = c.share.Now(); err != nil {
			return err
		}
	}
	if s.file, err = unnoticed(n.file); err != nil {
		return fmt.Errorf("open %q to read it: %w", path, err)
	}
	defer s.file.Close()
	if w.open {
		passWrites(s.file)
	}
	if err := c.takeStamp(s, cl); err != nil {
		return err
	}
	if it := c.queueItem(rec.Ino); it != nil { // its size may not have been known before
		if to := c.place(it, s.rec, cl); to.Lane > j.lane {
			c.work.Reschedule(rec.Ino, c.now(), to)
			return laterError{c.now(), "goes in parts"}
		}
	}
	j.setOut()
	s.bar = c.uploads.add(path, s.stamp.Size)
	defer c.uploads.remove(s.bar)
	err = c.send(ctx, d, s)
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, errWriter) || errors.Is(cause, errRemoved)) {
		return cause
	}
	return err
}

// beginUpload makes the upload known to writers, who cancel it; quiet allows those
// that are there.
func (c *Cache) beginUpload(ctx context.Context, n *node, quiet bool) (context.Context, func(), error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.writers > 0 && !quiet {
		return nil, nil, errWriter
	}
	ctx, cancel := context.WithCancelCause(ctx)
	n.upload = cancel
	return ctx, func() {
		n.mu.Lock()
		n.upload = nil
		n.mu.Unlock()
		cancel(nil)
	}, nil
}

// cancelUpload stops an upload of a file that loses a name; n.mu is held.
func (c *Cache) cancelUpload(n *node, rec *catalog.Inode) {
	if n.upload != nil && len(rec.Links) == 1 {
		n.upload(errRemoved)
	}
}

// takeStamp makes the bytes durable and takes the stamp that the upload stands
// for. fsync comes first: it write-protects shared mappings, so that a later
// store through one moves mtime. A file that moved since its last look is given
// its settle time again.
func (c *Cache) takeStamp(s *sending, cl layout.Class) error {
	if err := s.file.Sync(); err != nil && !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("make %q durable before its upload: %w", s.path, err)
	}
	st, err := c.share.StatFile(s.file, true)
	if err != nil {
		return err
	}
	s.stamp = st.Stamp()
	old := s.rec.Stamp
	if s.seen == 0 {
		if young, err := c.youngFor(s.stamp); err != nil || young > 0 {
			return cmp.Or[error](err, laterError{c.now().Add(young), "was just written"})
		}
	}
	if s.seen > 0 && (old != s.stamp || s.seen-lastChange(s.stamp, s.seen) <= stampGrain) {
		return laterError{c.now().Add(stampGrain), "was just written"}
	}
	gen, err := c.attemptGen(s)
	if err != nil {
		return err
	}
	if old == s.stamp && gen == s.rec.Gen {
		return nil
	}
	now := c.now()
	touched := old.Size != s.stamp.Size || old.Mtime != s.stamp.Mtime
	// An open must find either the old stamp or the notice that it is old.
	s.n.mu.Lock()
	s.rec, err = c.change(s.rec.Ino, func(_ *catalog.Tx, r *catalog.Inode) error {
		setAttrs(r, st)
		r.Stamp, r.Gen = s.stamp, gen
		if touched {
			c.noteFinished(r, now.UnixNano())
		}
		return nil
	})
	if err == nil && old != s.stamp {
		c.inodeChanged(s.rec.Ino)
	}
	s.n.mu.Unlock()
	if err != nil {
		return err
	}
	if touched {
		c.reorder(s.rec)
	}
	if _, urgent := c.urgent.Load(s.rec.Ino); touched && !urgent && c.settleFor(s.rec, cl) > 0 {
		return laterError{now.Add(c.settleFor(s.rec, cl)), "was just written"}
	}
	return nil
}

// send brings one version to the depot and records it.
func (c *Cache) send(ctx context.Context, d *depot, s *sending) error {
	encoded, err := c.chooseKey(s)
	if err != nil {
		return err
	}
	if _, err := c.settleAttempt(ctx, d, s.rec.Ino, s.key, s.goesOn); err != nil {
		return err
	}
	rec, err := c.sendVersion(ctx, d, s, encoded)
	if err != nil || rec == nil {
		return err
	}
	return c.moveObjects(ctx, d, rec) // with no key locked: it locks this one, and others
}

// sendVersion is the part of send that holds the key's lock. It returns the record
// of a file that is clean now, nil for one that lost its name to the depot's version.
func (c *Cache) sendVersion(ctx context.Context, d *depot, s *sending, encoded bool) (*catalog.Inode, error) {
	unlock, err := d.keys.lock(ctx, s.key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if r, err := c.yieldsTo(s.rec, s.path); err != nil {
		return nil, err
	} else if r != nil {
		return nil, c.yieldName(ctx, d, s, r)
	}
	if s.isSame() {
		rec, err := c.unwritten(ctx, d, s)
		if err != nil {
			return nil, err
		}
		return c.arrived(s, rec, "the depot has this version already")
	}
	if s.rec.Flags&catalog.FlagAdopted != 0 {
		if rec, done, err := c.compareAdopted(ctx, d, s); done || err != nil {
			return rec, err
		}
	}
	if same, err := c.isBase(s); err != nil {
		return nil, err
	} else if same {
		return c.stillBase(s)
	}
	s.opts, err = c.guard(ctx, d, s.key, s.rec)
	if err != nil {
		return nil, err
	}
	s.opts.Metadata = c.metadata(s.rec, s.path, encoded, s.rec.Gen)
	if encoded && !layout.PathFits(s.path) {
		if err := c.putCompanion(ctx, d, s.key, s.path); err != nil {
			return nil, err
		}
	}
	info, err := c.put(ctx, d, s)
	if errors.Is(err, ErrChanged) && s.formerKey {
		if err := c.leaveFormerKey(ctx, d, s); err != nil {
			return nil, err
		}
	}
	switch {
	case errors.Is(err, ErrChanged) && s.p != nil:
		info, err = c.resolvePartialClash(ctx, d, s, err)
	case errors.Is(err, ErrChanged):
		info, err = c.resolveClash(ctx, d, s)
	}
	d.report(err)
	if err != nil {
		return nil, err
	}
	c.arrives(s.rec)
	rec, err := c.committed(s, info, byUs)
	if err != nil {
		return nil, err
	}
	if rec, err = c.arrived(s, rec, "uploaded"); err == nil && s.rec.Flags&catalog.FlagAdopted != 0 {
		c.adoption.count(func(r *adoptionRecord) { r.Uploaded++ })
	}
	return rec, err
}

// arrived ends an upload whose object is on record as the version of s.
func (c *Cache) arrived(s *sending, rec *catalog.Inode, how string) (*catalog.Inode, error) {
	switch {
	case rec.State == Clean:
		c.copied.forget(rec.Ino)
		c.noteClean(rec, s.path)
	case c.lacks(rec):
		return nil, errMoving
	}
	c.log.Info(how, "path", s.path, "key", s.key, "size", s.stamp.Size, "gen", rec.Base.Gen)
	return rec, nil
}

// metadata is what the object says of the file besides its bytes.
func (c *Cache) metadata(rec *catalog.Inode, path string, encoded bool, gen uint64) map[string]string {
	a := layout.Attrs{Mode: rec.Mode, HasOwner: true, UID: rec.UID, GID: rec.GID, HasMtime: true, Mtime: rec.Mtime}
	if encoded {
		a.Path = path
	}
	m := layout.Encode(a)
	m[metaVersion] = c.versionMark(gen)
	c.withMade(m, rec, gen)
	return m
}
