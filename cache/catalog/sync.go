package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// syncer makes commits durable, many callers at a time.
type syncer struct {
	commits atomic.Uint64 // committed transactions
	running chan struct{} // holds one token while a round runs
	rounds  sync.WaitGroup

	mu   sync.Mutex
	next *round // the round that new callers join; guarded by mu

	// The rest belongs to the holder of the token.
	c      *Catalog
	disk   disk
	dir    *os.File
	floor  *os.File
	tick   uint64   // the last one committed
	synced uint64   // commits that are durable
	names  []string // data files when the directory was last synced
	failed error    // a sync that failed is never tried again
}

// round is one sync that any number of callers wait for.
type round struct {
	callers int           // guarded by syncer.mu
	done    chan struct{} // closed at the end
	err     error         // valid after that
}

// disk is how things reach it; tests look on, and pull the plug.
type disk struct {
	fdatasync func(path string) error
	syncDir   func(dir *os.File) error
}

func (s *syncer) open(c *Catalog) (err error) {
	s.c, s.running = c, make(chan struct{}, 1)
	s.disk = disk{fdatasync, (*os.File).Sync}
	if s.dir, err = os.Open(c.dir); err != nil {
		return err
	}
	if s.floor, err = os.OpenFile(filepath.Join(c.dir, floorName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	return c.View(func(tx *Tx) error {
		s.tick, err = tx.meta(metaTick)
		return err
	})
}

// close also releases what an open that failed got. (Close of a nil file is an error, not a panic.)
func (s *syncer) close() {
	s.rounds.Wait()
	s.dir.Close()
	s.floor.Close()
}

// Sync returns when everything that was committed before the call survives a
// power cut. Callers that arrive while a sync runs share the next one. When ctx
// ends first, its error is returned and the sync goes on. After a sync has
// failed once the kernel may have dropped what it could not write, so all later
// ones fail too: the catalog must be opened again.
func (c *Catalog) Sync(ctx context.Context) error {
	if c.closed.Load() {
		return ErrClosed
	}
	s := &c.syncer
	s.mu.Lock()
	r := s.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		s.next = r
		s.rounds.Add(1)
		go s.run(r)
	}
	r.callers++
	s.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run waits for its turn, closes the round to newcomers, and syncs.
func (s *syncer) run(r *round) {
	defer s.rounds.Done()
	s.running <- struct{}{}
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	r.err = s.sync()
	<-s.running
	close(r.done)
}

func (s *syncer) sync() error {
	if s.failed != nil {
		return s.failed
	}
	commits := s.commits.Load()
	if commits == s.synced && s.names != nil {
		return nil
	}
	if err := s.syncOnce(); err != nil {
		s.failed = fmt.Errorf("sync catalog: %w", err)
		return s.failed
	}
	s.synced = commits
	return nil
}

// syncOnce commits a tick, makes it and all before it durable, and then writes
// its number to the floor file, so that a later Open can tell when the log was
// cut below it.
func (s *syncer) syncOnce() error {
	s.tick++
	if err := s.commitTick(); err != nil {
		return err
	}
	// Everything committed is now in the log of the active memory table, or of
	// one that waits for being flushed, or in a table that was synced before its
	// log was removed. (Badger's own Sync covers the first of these only.)
	names, err := dataFiles(s.c.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".mem") {
			if err := s.disk.fdatasync(filepath.Join(s.c.dir, name)); err != nil {
				return err
			}
		}
	}
	if !slices.Equal(names, s.names) {
		if err := s.disk.syncDir(s.dir); err != nil {
			return err
		}
		s.names = names
	}
	return writeFloor(s.floor, s.tick)
}

func (s *syncer) commitTick() (err error) {
	defer guard(&err)
	tx := Tx{c: s.c, txn: s.c.db.NewTransaction(true)}
	defer tx.txn.Discard()
	if err := tx.putMeta(metaTick, s.tick); err != nil {
		return err
	}
	return tx.commit()
}

// fdatasync covers what was written through Badger's mapping too: Linux marks a page
// of a shared mapping dirty in the file's cache at the first store after each write-back.
func fdatasync(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // flushed to a table meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return fmt.Errorf("fdatasync %s: %w", path, err)
	}
	return nil
}

// The floor file is 12 bytes: tick, CRC-32C of it. It is not synced itself: an
// older one is a weaker witness, not a false one, and a torn one is none.

func writeFloor(f *os.File, tick uint64) error {
	b := binary.BigEndian.AppendUint64(nil, tick)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	_, err := f.WriteAt(b, 0)
	return err
}

// checkFloor compares the last tick that was made durable with the one that is in the catalog.
func checkFloor(dir string, have uint64) error {
	b, err := os.ReadFile(filepath.Join(dir, floorName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(b) != 12 || crc32.Checksum(b[:8], castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		return nil
	}
	if floor := binary.BigEndian.Uint64(b); have < floor {
		return damagedf("sync %d was done, but the last one in the log is %d", floor, have)
	}
	return nil
}
