package catalog

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	badger "github.com/dgraph-io/badger/v4"
)

// formatVersion is the version of the whole catalog, in the first record. It
// is incremented when an older depotfs must not touch the catalog any more.
const formatVersion = 2 // 1 had no journal

// Names of records of kindMeta.
const (
	metaFormat = "format"
	metaEpoch  = "epoch"
	metaInos   = "inos"    // numbers below are handed out or given up
	metaSeqs   = "numbers" // the same of cookies, generations and intents
	metaTick   = "tick"    // counts Syncs: see floor
	metaTotals = "totals"  // Totals at the last clean stop
	// metaFlushed is the number of the last commit that is in Badger; those after it are
	// in the journal.
	metaFlushed = "flushed"
)

// Options are what a Catalog needs from its owner. All fields but Log may be left zero.
type Options struct {
	Log *slog.Logger
	// ReserveInos is told a new high-water mark before numbers below it are
	// handed out, and keeps it where it outlives the state directory. Its error
	// is NextIno's.
	ReserveInos func(upTo Ino) error
	// FirstIno is that mark when the catalog is new: its numbers start above.
	FirstIno Ino
	// MaxMapped is how many bytes of the tables Trim leaves mapped (default 96 MiB).
	MaxMapped int64
	// Now is the clock (default time.Now).
	Now func() time.Time
}

// Catalog is the open database. All methods may be called concurrently.
type Catalog struct {
	dir     string
	o       Options
	log     *slog.Logger
	lock    *os.File // held with flock for as long as the catalog is open
	db      *badger.DB
	epoch   uint64
	isNew   bool
	unclean bool
	same    bool

	inos numbers
	seqs numbers

	commit  sync.Mutex // serialises Updates and flushes; guards journal
	journal journal

	state   sync.RWMutex // held for moments, after commit; guards what Views begin with:
	overlay *overlay     // (who holds commit may read it without)
	seq     uint64       // number of the last commit

	tally  tally
	recent recent
	syncer syncer
	room   room

	closed atomic.Bool
	closer sync.Once
}

// Open opens the catalog in dir, which is created when it is missing. The
// errors that a person must see are ErrInUse, ErrNewer and ErrDamaged; after
// these nothing in dir was changed that a repair would need.
//
// All tables are read and verified, which also warms the page cache, and after
// an unclean stop all inodes are counted: either takes up to a second per
// million files on a local disk.
func Open(dir string, o Options) (_ *Catalog, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxMapped == 0 {
		o.MaxMapped = defaultMapped
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create catalog: %w", err)
	}
	c := &Catalog{dir: dir, o: o, log: o.Log}
	c.room.dir, c.room.min = dir, minRoom
	c.recent.init()
	c.overlay = newOverlay()
	if c.lock, err = lockDir(dir); err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open catalog %s: %w", dir, err)
			if c.db != nil {
				c.closeBadger()
			}
			c.syncer.close()
			c.journal.f.Close()
			c.lock.Close()
		}
	}()
	if err := c.room.check(); err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	old, err := c.inspect()
	if err != nil {
		return nil, err
	}
	c.isNew = old.phase == phaseCreating
	c.unclean = old.phase == phaseOpen
	c.same = !c.isNew && old.boot == boot
	if err := repairLogs(dir, c.unclean && c.same); err != nil {
		return nil, err
	}
	mark := marker{phase: phaseOpen, boot: boot}
	if c.isNew {
		mark.phase = phaseCreating
	}
	if err := mark.write(dir); err != nil {
		return nil, err
	}
	if err := discardByproducts(dir); err != nil {
		return nil, err
	}
	if !c.unclean { // after a clean stop a journal is somebody else's
		if err := os.Remove(filepath.Join(dir, journalName)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if err := c.openBadger(); err != nil {
		return nil, err
	}
	if c.journal.f, err = openJournal(dir); err != nil {
		return nil, err
	}
	if c.isNew {
		err = c.create()
	} else {
		err = c.load()
	}
	if err != nil {
		return nil, err
	}
	if err := c.syncer.open(c); err != nil {
		return nil, err
	}
	if err := c.Sync(context.Background()); err != nil {
		return nil, err
	}
	if c.isNew {
		mark.phase = phaseOpen
		if err := mark.write(dir); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// inspect decides from the files alone, before Badger changes any of them,
// what state the catalog is in.
func (c *Catalog) inspect() (marker, error) {
	old, err := readMarker(c.dir)
	if errors.Is(err, os.ErrNotExist) {
		names, err := dataFiles(c.dir)
		if err != nil {
			return marker{}, err
		}
		if len(names) > 0 {
			return marker{}, damagedf("the file %s is missing", markerName)
		}
		old.phase = phaseCreating
	} else if err != nil {
		return marker{}, err
	}
	if old.phase == phaseCreating {
		// Nobody ever got to use it: start afresh.
		return old, wipe(c.dir)
	}
	return old, verify(c.dir, old)
}

// openBadger turns every way in which Badger refuses its files into ErrDamaged.
func (c *Catalog) openBadger() (err error) {
	defer guard(&err)
	db, err := badger.Open(badgerOptions(c.dir, c.log))
	if err != nil {
		return refused(err)
	}
	c.db = db
	return nil
}

func (c *Catalog) create() error {
	var b [8]byte
	for c.epoch == 0 {
		if _, err := rand.Read(b[:]); err != nil {
			return err
		}
		c.epoch = binary.BigEndian.Uint64(b[:])
	}
	// Cookies must be greater than 2; a little distance from . and .. costs nothing.
	const firstSeq = 16
	inos, seqs := max(uint64(c.o.FirstIno)+1, uint64(Root)+1), uint64(firstSeq)
	c.inos.init(c, metaInos, inos, c.o.ReserveInos)
	c.seqs.init(c, metaSeqs, seqs, nil)
	c.tally.init()
	c.syncer.commits.Add(1)
	return c.direct(func(txn *badger.Txn) error {
		return errors.Join(
			setMeta(txn, metaFormat, formatVersion), setMeta(txn, metaEpoch, c.epoch), setMeta(txn, metaFlushed, 0),
			setMeta(txn, metaInos, inos), setMeta(txn, metaSeqs, seqs), setMeta(txn, metaTick, 0))
	})
}

func (c *Catalog) load() error {
	var inos, seqs, format uint64
	err := c.View(func(tx *Tx) (err error) {
		if format, err = tx.meta(metaFormat); err != nil {
			return err
		}
		if format > formatVersion {
			return fmt.Errorf("format version %d: %w", format, ErrNewer)
		}
		var tick uint64
		for name, to := range map[string]*uint64{metaEpoch: &c.epoch, metaInos: &inos, metaSeqs: &seqs, metaTick: &tick} {
			if *to, err = tx.meta(name); err != nil {
				return err
			}
		}
		if f, err := readFloor(c.dir); err != nil {
			return err
		} else if tick < f.tick {
			return damagedf("sync %d was done, but the last one in the log is %d", f.tick, tick)
		}
		if format > 1 {
			c.seq, err = tx.meta(metaFlushed)
		}
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return damagedf("%v", err)
	}
	if err != nil {
		return err
	}
	if format < formatVersion { // an older depotfs must not overlook the journal
		if err := c.direct(func(txn *badger.Txn) error {
			return errors.Join(setMeta(txn, metaFormat, formatVersion), setMeta(txn, metaFlushed, 0))
		}); err != nil {
			return err
		}
	}
	if err := c.replay(c.same); err != nil {
		return err
	}
	c.inos.init(c, metaInos, inos, c.o.ReserveInos)
	c.seqs.init(c, metaSeqs, seqs, nil)
	c.tally.init()
	if !c.unclean {
		if err := c.tally.load(c); !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return c.tally.count(c)
}

// Close makes everything durable and leaves a marker that lets the next Open
// notice any damage done meanwhile. It waits for Syncs under way; no other
// method may be running. Later calls return nil.
func (c *Catalog) Close() error {
	var err error
	c.closer.Do(func() { err = c.close() })
	return err
}

func (c *Catalog) close() error {
	err := c.tally.save(c)
	if serr := c.Sync(context.Background()); err == nil {
		err = serr
	}
	c.closed.Store(true)
	c.syncer.close()
	defer c.lock.Close()
	if jerr := c.journal.f.Close(); err == nil {
		err = jerr
	}
	if cerr := c.closeBadger(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("close catalog %s: %w", c.dir, err)
	}
	boot, err := bootID()
	if err != nil {
		return fmt.Errorf("close catalog %s: %w", c.dir, err)
	}
	// Sync emptied it. One that is there after a clean stop is none of this catalog's.
	if err := os.Remove(filepath.Join(c.dir, journalName)); err != nil {
		return fmt.Errorf("close catalog %s: %w", c.dir, err)
	}
	mark := marker{phase: phaseClean, boot: boot}
	if mark.files, err = attest(c.dir); err == nil {
		err = mark.write(c.dir)
	}
	if err != nil {
		return fmt.Errorf("close catalog %s: %w", c.dir, err)
	}
	return nil
}

func (c *Catalog) closeBadger() (err error) {
	defer guard(&err)
	return c.db.Close()
}

// New says that this Open created the catalog.
func (c *Catalog) New() bool { return c.isNew }

// Epoch is a random number made at creation, never 0: the generation of every inode number.
func (c *Catalog) Epoch() uint64 { return c.epoch }

// Unclean says that the last user of the catalog did not Close it.
func (c *Catalog) Unclean() bool { return c.unclean }

// SameBoot says that the machine has not been booted since the last Open:
// what was written to files since then is still there, fsynced or not.
func (c *Catalog) SameBoot() bool { return c.same }
