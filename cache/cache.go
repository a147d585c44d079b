package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
	"depotfs/cache/queue"
	"depotfs/cache/share"
)

// Cache is the heart of one mount: see doc.go for its nouns, states and locks.
// All exported methods may be called concurrently.
type Cache struct {
	cfg   Config
	log   *slog.Logger
	rules layout.Rules
	now   func() time.Time

	cat    *catalog.Catalog
	share  *share.Share
	lock   *share.Lock
	marker sync.Mutex // held while the marker in the share is read or changed; guards lock
	// shareID is what the marker must say; set by New.
	shareID string
	since   time.Time
	bootID  string // of this boot of the machine: page caches survive a kill, not a boot

	tree sync.RWMutex // held shared while a path is in use, exclusively while a directory moves
	dirs dirLocks     // one lock per directory: its names in share and catalog

	mu    sync.Mutex    // guards nodes and the refs of every node
	nodes map[Ino]*node // what is open or being worked on

	dirSeen  sync.Map // Ino -> int64: share mtime of the directory when we last agreed with it
	evicting sync.Map // Ino -> struct{}: moved aside, not at its plain path
	used     sync.Map // Ino -> int64 ns: last use, written to the catalog now and then

	work     *queue.Queue[Ino]    // inodes whose depot side may be behind
	removals *queue.Queue[string] // keys to delete
	urgent   sync.Map             // Ino -> struct{}: flush asked, do not wait for quiet
	problems problemList
	uploads  transferList

	pendingSum pendingSum
	changed    broadcast // something left the queue or failed: waiters look again
	order      orders
	failing    sync.Map    // Ino -> time.Time: since when its uploads fail
	sought     sync.Map    // Ino -> time.Time: until when its version is not looked for again (keptversion.go)
	overflow   atomic.Bool // the queue in memory is full; the catalog has more

	scans    scans
	adoption adoption
	trash    trashCount
	compares compares
	moves    moves
	brake    brakeState
	copied   copied
	applying sync.Mutex    // held while a record of another zone is applied; before tree, and over no request
	held     atomic.Uint64 // counts the records that were held
	holding  atomic.Bool   // records of other zones may wait (held.go)
	heldWake chan struct{} // what they wait for may have happened
	eager    eager
	gone     atomic.Bool // the share's marker is missing: nothing is changed there

	cleanLog *share.CleanLog
	proofs   atomic.Pointer[map[string]share.CleanRecord] // what the log said when the catalog was made anew; nil when that is over

	depot        atomic.Pointer[depot] // nil: the store is off
	switching    chan struct{}         // held by who switches the store on or off
	lastDepot    *depot                // the one that Disable ended; guarded by switching
	newDepot     chan struct{}         // signals Run that depot changed
	told         atomic.Bool           // this zone has belonged to a depot: others are told what it does
	skew         atomic.Int64          // ns: the store's clock minus ours, as far as it is known
	latest       atomic.Int64          // ns by the store's clock: the latest that anybody did and we know of (causal.go)
	latestKept   atomic.Int64          // and what of it the catalog has
	newsWake     chan struct{}         // something is to be told
	newsNow      chan struct{}         // somebody waits until it is told
	listening    listener
	zones        zoneTable
	relistWanted atomic.Bool  // a journal was damaged: the listing says what it told
	listed       atomic.Bool  // every name of the depot is in the catalog
	badNames     atomic.Int64 // objects whose keys cannot be shown
	reads        readCount    // of files that are not whole

	fetches   *dispatch
	transfers atomic.Pointer[Transfers]
	laneSlots [lanes]*queue.Slots // how many of each lane are worked on at once
	partSlots *queue.Slots        // parts in flight, over all files
	early     *queue.Slots        // files on their way before it is their turn to arrive
	fills     chan struct{}

	run    atomic.Pointer[runState] // non-nil while Run runs
	closed atomic.Bool
}

// runState is what background work needs while Run runs.
type runState struct {
	ctx   context.Context
	group *errgroup.Group
}

// New opens share and catalog and brings both to a consistent state. It starts
// nothing. The caller must Close the Cache.
func New(cfg Config) (*Cache, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	sh, err := share.Open(cfg.CacheDir, share.Options{Log: cfg.Log, Fault: cfg.ShareFault})
	if err != nil {
		return nil, fmt.Errorf("open cache directory %s: %w", cfg.CacheDir, err)
	}
	c := &Cache{
		cfg: cfg, log: cfg.Log, rules: cfg.Rules, now: cfg.Now, share: sh, since: cfg.Now(),
		nodes: map[Ino]*node{}, newDepot: make(chan struct{}, 1), newsWake: make(chan struct{}, 1), newsNow: make(chan struct{}, 1),
		switching: make(chan struct{}, 1),
		fetches:   newDispatch(cfg.Limits.Fetches),
		fills:     make(chan struct{}, backgroundFills),
		heldWake:  make(chan struct{}, 1),
	}
	if c.bootID, err = share.BootID(); err != nil {
		return nil, errors.Join(err, sh.Close())
	}
	c.dirs.init()
	c.changed.init()
	c.order.init()
	c.listening.init()
	c.zones.init()
	c.scans.init()
	c.adoption.init()
	c.compares.init()
	c.moves.init()
	c.brake.init()
	c.eager.init()
	c.work = queue.New[Ino](int(lanes), c.now)
	c.removals = queue.New[string](1, c.now)
	c.initTransfers()
	c.trash.init(cfg.TrashRetention)
	if err := c.open(); err != nil {
		err = errors.Join(err, c.release())
		return nil, err
	}
	return c, nil
}

// backgroundFills is how many files are completed in the background at once:
// enough to keep a link busy, few enough that one of them ends soon.
const backgroundFills = 2

// open takes the share's lock, checks that share and catalog belong together,
// and recovers what an unclean stop left.
func (c *Cache) open() error {
	if err := c.preparePrivate(); err != nil {
		return err
	}
	lock, err := c.share.Lock(share.LockPath)
	if err != nil {
		if errors.Is(err, share.ErrLocked) {
			return fmt.Errorf("the cache directory %s is in use by another depotfs: unmount that one first", c.cfg.CacheDir)
		}
		return fmt.Errorf("lock cache directory: %w", err)
	}
	c.lock = lock
	marker, err := c.readMarker()
	if err != nil {
		return err
	}
	c.cat, err = catalog.Open(filepath.Join(c.cfg.StateDir, "catalog"), catalog.Options{
		Log: c.log, FirstIno: Ino(max(marker.InoHighWater, uint64(catalog.Root)+1)),
		ReserveInos: c.raiseHighWater,
	})
	if err != nil {
		return fmt.Errorf("open catalog in %s: %w", c.cfg.StateDir, err)
	}
	if err := c.matchMarker(marker); err != nil {
		return err
	}
	if err := c.ensureRoot(); err != nil {
		return err
	}
	if err := c.loadTelling(); err != nil {
		return err
	}
	return c.recover()
}

// Run owns all goroutines of the Cache and returns when ctx has ended and they have too.
func (c *Cache) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	c.run.Store(&runState{ctx: ctx, group: g})
	defer c.run.Store(nil)
	c.fetches.begin()
	g.Go(func() error { return c.fetchLoop(ctx) })
	g.Go(func() error { return c.attachLoop(ctx) })
	for lane := range lanes {
		g.Go(func() error { return c.workLane(ctx, lane) })
	}
	g.Go(func() error { return c.removeLoop(ctx) })
	g.Go(func() error { return c.newsLoop(ctx) })
	g.Go(func() error { return c.listenLoop(ctx) })
	g.Go(func() error { return c.zoneLoop(ctx) })
	g.Go(func() error { return c.relistLoop(ctx) })
	g.Go(func() error { return c.checkpointLoop(ctx) })
	g.Go(func() error { return c.keepLoop(ctx) })
	g.Go(func() error { return c.sweepLoop(ctx) })
	g.Go(func() error { return c.evictLoop(ctx) })
	g.Go(func() error { return c.scanLoop(ctx) })
	g.Go(func() error { return c.adoptLoop(ctx) })
	g.Go(func() error { return c.compareLoop(ctx) })
	g.Go(func() error { return c.watchShare(ctx) })
	g.Go(func() error { return c.brakeLoop(ctx) })
	g.Go(func() error { return c.heldLoop(ctx) })
	g.Go(func() error { return c.eagerLoop(ctx) })
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// spawn runs fn in the background while Run runs; it reports false where it does not.
func (c *Cache) spawn(fn func(ctx context.Context)) bool {
	rs := c.run.Load()
	if rs == nil || rs.ctx.Err() != nil {
		return false
	}
	rs.group.Go(func() error { fn(rs.ctx); return nil })
	return true
}

// notRunning is why nothing could be spawned: Run had not begun, which it may have by now, or
// is ending.
func (c *Cache) notRunning() error {
	if rs := c.run.Load(); c.closed.Load() || rs != nil && rs.ctx.Err() != nil {
		return fmt.Errorf("depotfs is stopping: %w", context.Canceled)
	}
	return fmt.Errorf("depotfs is starting or stopping: %w", ErrUnavailable)
}

// Close writes what a clean stop leaves and releases share and catalog. Run must
// have returned; handles that are still open are closed.
func (c *Cache) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	err := c.settleNodes()
	return errors.Join(err, c.flushUsed(), c.saveAdoption(), c.release())
}

func (c *Cache) release() error {
	var errs []error
	if c.cleanLog != nil {
		errs = append(errs, c.cleanLog.Close())
	}
	if c.cat != nil {
		errs = append(errs, c.cat.Close())
	}
	if c.lock != nil {
		errs = append(errs, c.lock.Close())
	}
	errs = append(errs, c.share.Close())
	return errors.Join(errs...)
}

// Epoch is the generation of every inode number of this catalog.
func (c *Cache) Epoch() uint64 { return c.cat.Epoch() }

// keepLoop writes last-use times, sweeps old multipart uploads and keeps the catalog small
// in memory.
func (c *Cache) keepLoop(ctx context.Context) error {
	used := time.NewTicker(usedInterval)
	defer used.Stop()
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	trim := time.NewTicker(trimInterval)
	defer trim.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-used.C:
			if err := c.flushUsed(); err != nil {
				c.log.Warn("write last-use times", "err", err)
			}
			if err := c.saveAdoption(); err != nil {
				c.log.Warn("record the numbers of adoption", "err", err)
			}
			c.tendProof()
		case <-trim.C:
			if err := c.cat.Trim(); err != nil {
				c.log.Warn("give memory back", "err", err)
			}
		case <-sweep.C:
			if d := c.depot.Load(); d != nil {
				c.sweepUploads(ctx, d)
			}
		}
	}
}

const (
	usedInterval  = 30 * time.Second // losing half a minute of last-use times only blurs the order of eviction
	trimInterval  = 5 * time.Second  // what a listing of a large tree maps meanwhile is some 30 MiB
	sweepInterval = 6 * time.Hour    // leaked parts cost money by the day
)

// flushUsed writes the last-use times collected in memory.
func (c *Cache) flushUsed() error {
	type use struct {
		ino Ino
		at  int64
	}
	var batch []use
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := c.cat.Update(func(tx *catalog.Tx) error {
			for _, u := range batch {
				rec, err := tx.Inode(u.ino)
				if errors.Is(err, catalog.ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				rec.LastUsed = max(rec.LastUsed, u.at)
				if err := tx.PutInode(rec); err != nil {
					return err
				}
			}
			return nil
		})
		batch = batch[:0]
		return err
	}
	var err error
	c.used.Range(func(k, v any) bool {
		c.used.CompareAndDelete(k, v)
		batch = append(batch, use{k.(Ino), v.(int64)})
		if len(batch) == 256 {
			err = flush()
		}
		return err == nil
	})
	return errors.Join(err, flush())
}

// nanos is now in nanoseconds since 1970, as the catalog stores times.
func (c *Cache) nanos() int64 { return c.now().UnixNano() }

func (c *Cache) entryChanged(parent Ino, name string) {
	if c.cfg.Notify != nil {
		c.cfg.Notify.EntryChanged(parent, name)
	}
}

func (c *Cache) inodeChanged(ino Ino) {
	if c.cfg.Notify != nil {
		c.cfg.Notify.InodeChanged(ino)
	}
}
