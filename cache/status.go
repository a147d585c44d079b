package cache

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
)

// statusProblems bounds how many problems status shows.
const statusProblems = 100

// Status describes the mount as a whole. Version, Mountpoint and Passthrough are
// the caller's to fill in.
func (c *Cache) Status(ctx context.Context) (Status, error) {
	t := c.cat.Totals()
	s := Status{Zone: c.zoneName(), CacheDir: c.cfg.CacheDir, StateDir: c.cfg.StateDir, Deploy: c.cfg.Deploy, Since: c.since,
		Limits: LimitStatus{Transfers: c.Transfers()}, Store: c.storeStatus(), Zones: c.zonesStatus(), Adoption: c.adoptionStatus(),
		Cache: CacheStatus{Files: t.Files, Dirs: t.Dirs,
			Resident: t.ByState[Clean] + t.ByState[Dirty], Partial: t.ByState[Partial] + t.ByState[PartialDirty], Remote: t.ByState[Remote],
			Bytes: t.BytesByState[Clean] + t.BytesByState[Dirty], Unshowable: c.badNames.Load(), OldestCheckSeconds: c.oldestCheck(), Fetching: []Transfer{},
			ReadHits: c.reads.hits.Load(), ReadMisses: c.reads.misses.Load()},
		Problems: c.problems.list(statusProblems)}
	s.Trash, s.Conflicts = c.trashStatus()
	s.Cache.Refetched = c.fetches.counted()
	c.mu.Lock()
	live := make([]*node, 0, len(c.nodes))
	for _, n := range c.nodes {
		n.refs++
		live = append(live, n)
	}
	c.mu.Unlock()
	for _, n := range live {
		n.mu.Lock()
		if n.handles > 0 {
			s.Cache.OpenFiles++
		}
		if n.p != nil && !n.whole.Load() {
			n.p.mu.Lock()
			tr, flying := Transfer{Done: n.p.here.Len(), Total: n.p.size}, n.p.plan.Len() > 0
			n.p.mu.Unlock()
			if flying {
				if rec, err := c.record(n.ino); err == nil {
					tr.Path = c.pathText(rec)
					s.Cache.Fetching = append(s.Cache.Fetching, tr)
				}
			}
		}
		n.mu.Unlock()
		c.drop(n)
	}
	slices.SortFunc(s.Cache.Fetching, func(a, b Transfer) int { return cmp.Compare(a.Path, b.Path) })
	p, err := c.pending()
	s.Pending = p
	held, deletes, herr := c.heldProblems()
	s.Deletes = deletes
	s.Problems = append(held, s.Problems...)
	s.Problems = s.Problems[:min(len(s.Problems), statusProblems)]
	return s, errors.Join(err, herr)
}

func (c *Cache) storeStatus() StoreStatus {
	d := c.depot.Load()
	if d == nil {
		s := StoreStatus{State: "off", Listing: "waiting", StoreUsage: StoreUsage{Requests: map[string]int64{}}}
		if since, yes, err := c.Disabled(); yes || err != nil {
			s.Reason = "disabled by `depotfs disable` at " + since.Format(time.RFC3339)
		}
		return s
	}
	d.mu.Lock()
	s := StoreStatus{State: d.state, Bucket: d.info.Bucket, Endpoint: d.info.Endpoint, Prefix: c.cfg.Prefix, DepotID: d.id, Capabilities: d.caps}
	if d.err != nil {
		s.Error = d.err.Error()
	}
	d.mu.Unlock()
	s.StoreUsage = d.store.Usage()
	switch {
	case c.listed.Load():
		s.Listing = "done"
	case d.joined():
		s.Listing = "running"
	default:
		s.Listing = "waiting"
	}
	return s
}

// pendingSum is the last sum over the queue. Adding up a million files takes seconds,
// and people and programs ask every second or two.
type pendingSum struct {
	mu   sync.Mutex // guards below; held while the queue is added up
	sum  PendingStatus
	at   time.Time     // when that was done
	took time.Duration // and for how long
	// oldest is when the oldest change was made whose bytes wait, in ns; 0: none do.
	oldest int64
}

const (
	// slowSum is from when on a sum is used again. Below it, status is exact.
	slowSum = 200 * time.Millisecond
	// sumShare: adding up takes at most one part in so many of the time.
	sumShare = 10
)

// pending says what the depot does not have yet.
func (c *Cache) pending() (PendingStatus, error) {
	s := &c.pendingSum
	s.mu.Lock()
	defer s.mu.Unlock()
	start := time.Now()
	var err error
	if s.took <= slowSum || start.Sub(s.at) >= sumShare*s.took {
		var sum PendingStatus
		if sum, s.oldest, err = c.sumPending(); err == nil {
			s.sum, s.at, s.took = sum, time.Now(), time.Since(start)
		}
	}
	sum := s.sum
	if s.oldest > 0 { // it grows older meanwhile
		sum.OldestSeconds = max(0, time.Duration(c.nanos()-s.oldest).Seconds())
	}
	return sum, err
}

// sumPending adds up the queue. oldest is when the oldest change was made whose bytes
// the depot lacks.
func (c *Cache) sumPending() (p PendingStatus, oldest int64, err error) {
	p = PendingStatus{Uploading: c.uploads.list()}
	var dirty []*catalog.Inode
	err = c.cat.View(func(tx *catalog.Tx) error {
		if err := tx.EachQueue(func(it *catalog.QueueItem) bool {
			rec, err := tx.Inode(it.Ino)
			if err != nil {
				return true
			}
			if isRegular(rec) && holdsOnlyCopy(rec.State) {
				dirty = append(dirty, rec)
			} else {
				p.Moves++
			}
			return true
		}); err != nil {
			return err
		}
		if err := tx.EachRemoval(func(r *catalog.Removal) bool {
			p.Removals++
			return true
		}); err != nil {
			return err
		}
		return tx.EachNews(0, func(uint64, []byte) bool {
			p.Records++
			return true
		})
	})
	for _, rec := range dirty {
		if !c.lacks(rec) {
			continue
		}
		p.Files++
		p.Bytes += rec.Size
		if at := rec.DirtySince; at > 0 && (oldest == 0 || at < oldest) {
			oldest = at
		}
	}
	for _, t := range p.Uploading {
		p.Bytes -= min(t.Done, p.Bytes)
	}
	return p, oldest, err
}

// resolve finds a path below the mount; "" is the root.
func (c *Cache) resolve(ctx context.Context, path string) (*catalog.Inode, error) {
	rec, err := c.record(catalog.Root)
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Split(path, "/") {
		if name == "" || name == "." {
			continue
		}
		if rec, err = c.findAny(ctx, rec.Ino, name); err != nil {
			return nil, fmt.Errorf("%q: %w", path, err)
		}
	}
	return rec, nil
}

// StatPath describes one file.
func (c *Cache) StatPath(ctx context.Context, path string) (FileStatus, error) {
	rec, err := c.resolve(ctx, path)
	if err != nil {
		return FileStatus{}, err
	}
	return c.fileStatus(rec, strings.Trim(path, "/")), nil
}

func (c *Cache) fileStatus(rec *catalog.Inode, path string) FileStatus {
	a := c.attrOf(rec)
	cl := c.rules.Of(path)
	f := FileStatus{Path: path, Ino: rec.Ino, Class: cl.Name, Size: a.Size, Mtime: time.Unix(0, a.Mtime),
		Pinned: rec.Flags&catalog.FlagPinned != 0, State: stateName(rec.State)}
	switch rec.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		f.Type = "file"
	case syscall.S_IFDIR:
		f.Type = "dir"
	case syscall.S_IFLNK:
		f.Type = "symlink"
	default:
		f.Type = "other"
	}
	if len(rec.Objects) > 0 {
		f.Key, f.ETag = rec.Objects[0].Key, rec.Objects[0].ETag
	}
	if !isRegular(rec) {
		f.State = "dirty"
		if len(rec.Objects) > 0 && rec.Flags&catalog.FlagAttrDirty == 0 || rec.Ino == catalog.Root || !uploads(rec, cl) {
			f.State = "clean"
		}
	}
	if rec.Base.HasCRC && rec.State != Dirty && rec.State != PartialDirty {
		f.CRC64 = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, rec.Base.CRC64))
	}
	c.liveStatus(&f, rec, a)
	if done, up := c.uploads.of(path); up && f.State == "dirty" && holdsOnlyCopy(rec.State) {
		f.State = "uploading"
		f.Pending = max(0, f.Size-done)
	}
	it := c.queueItem(rec.Ino)
	if it != nil {
		f.LastError = it.LastError
	}
	f.Why = c.why(rec, &f, cl.Upload, it)
	return f
}

// liveStatus adds what is known of open files and of bytes.
func (c *Cache) liveStatus(f *FileStatus, rec *catalog.Inode, a Attr) {
	switch {
	case !isRegular(rec):
	case resident(rec.State):
		f.Here = a.Size
	default:
		_ = c.cat.View(func(tx *catalog.Tx) error {
			ext, err := tx.Extents(rec.Ino)
			if err == nil {
				set := extent.FromRanges(ext.Here)
				f.Here = set.Len()
			}
			return err
		})
	}
	switch {
	case c.lacks(rec):
		f.Pending = a.Size
	case f.State == "dirty" && isRegular(rec):
		f.State = "clean" // uploaded while it is open for writing
	}
	n := c.peek(rec.Ino)
	if n == nil {
		return
	}
	defer c.drop(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	f.Open, f.Writers = n.handles, n.writers
	if n.p != nil && !n.whole.Load() {
		n.p.mu.Lock()
		f.Here = n.p.here.Len()
		if f.State == "remote" && f.Here > 0 {
			f.State = "partial"
		}
		n.p.mu.Unlock()
	}
}

func (c *Cache) queueItem(ino Ino) *catalog.QueueItem {
	var it *catalog.QueueItem
	_ = c.cat.View(func(tx *catalog.Tx) error {
		var err error
		it, err = tx.QueueItem(ino)
		return err
	})
	return it
}

// why says in one sentence what depotfs does with a file or waits for.
func (c *Cache) why(rec *catalog.Inode, f *FileStatus, upload bool, it *catalog.QueueItem) string {
	d := c.depot.Load()
	switch {
	case !upload:
		return "temporary by its name: it stays here and is never uploaded"
	case f.State == "uploading":
		return "is being uploaded"
	case f.State == "clean" && f.Writers > 0 && holdsOnlyCopy(rec.State):
		return "the depot has it; somebody has it open for writing, so it is looked at again"
	case it == nil && (f.State == "clean" || f.Type == "dir" || f.Type == "symlink"):
		return "the depot has it"
	case d == nil && f.State == "remote":
		return "the store is off: only the depot has its bytes, and reading it fails until the store is switched on"
	case d == nil && f.State == "partial":
		return "the store is off: reading what is not here fails until it is switched on"
	case f.State == "remote":
		return "only the depot has its bytes; they are fetched when they are read"
	case f.State == "partial":
		return "some bytes are here, the depot has all"
	case d == nil:
		return "the store is off: it waits until it is switched on"
	case f.Writers > 0 && c.cfg.Deploy == Beside:
		return "open for writing: it is uploaded when the last writer has closed it"
	case f.Writers > 0 && (it == nil || it.LastError == ""):
		return fmt.Sprintf("open for writing: it is uploaded when nobody has changed it for %v", c.openQuiet(rec, c.rules.Of(f.Path)))
	case it != nil && it.LastError != "":
		return fmt.Sprintf("the last of %d attempts failed; the next one follows by itself", it.Attempts)
	case !d.joined():
		return "the store does not answer: it waits"
	case it != nil && rec.State == Clean:
		return "its object is to be moved or its attributes to be updated"
	case c.compares.has(rec.Ino):
		return "found in the share: it is compared with the depot's object of the same size, or waits for that"
	case holdsOnlyCopy(rec.State):
		left := time.Unix(0, rec.FinishedAt).Add(c.settleFor(rec, c.rules.Of(f.Path))).Sub(c.now())
		if left > 0 {
			return fmt.Sprintf("waits until nobody has changed it for %v", c.settleFor(rec, c.rules.Of(f.Path)))
		}
		return "waits for its turn to be uploaded"
	}
	return "waits for its turn"
}

// Walk calls fn for path and everything below it whose state is the given one ("" is any).
func (c *Cache) Walk(ctx context.Context, path, state string, fn func(FileStatus) error) error {
	rec, err := c.resolve(ctx, path)
	if err != nil {
		return err
	}
	return c.walk(ctx, rec, strings.Trim(path, "/"), func(rec *catalog.Inode, path string) error {
		f := c.fileStatus(rec, path)
		if state != "" && f.State != state {
			return nil
		}
		return fn(f)
	})
}

// walk visits rec and everything below it, directories before what is in them.
func (c *Cache) walk(ctx context.Context, rec *catalog.Inode, path string, fn func(rec *catalog.Inode, path string) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := fn(rec, path); err != nil || !isDir(rec) {
		return err
	}
	if err := c.OpenDir(ctx, rec.Ino); err != nil {
		return err
	}
	for cookie := uint64(0); ; {
		var batch []DirEntry
		if err := c.ReadDir(ctx, rec.Ino, cookie, func(e DirEntry) bool {
			batch = append(batch, e)
			return len(batch) < 500
		}); err != nil {
			return err
		}
		if len(batch) == 0 {
			return nil
		}
		cookie = batch[len(batch)-1].Cookie
		for _, e := range batch {
			child, err := c.record(e.Ino)
			if errors.Is(err, ErrStale) {
				continue
			}
			if err == nil {
				err = c.walk(ctx, child, join(path, e.Name), fn)
			}
			if err != nil && !errors.Is(err, iofs.ErrNotExist) && !errors.Is(err, ErrStale) {
				return err
			}
		}
	}
}

// Warnings are things about the share that a person should know at the mount.
func (c *Cache) Warnings() []string { return c.share.MountWarnings() }
