package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	badger "github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

// syncer makes commits durable, many callers at a time.
type syncer struct {
	commits atomic.Uint64 // transactions that Badger has committed
	running chan struct{} // holds one token while a round runs
	rounds  sync.WaitGroup

	mu   sync.Mutex
	next *round // the round that new callers join; guarded by mu

	// The rest belongs to the holder of the token.
	c        *Catalog
	disk     disk
	dir      *os.File
	floor    *os.File // see type floor
	tick     uint64   // the last one committed
	synced   uint64   // commits that are durable
	names    []string // data files when the directory was last synced
	manifest prefix   // of MANIFEST at that time
	failed   error    // a sync that failed is never tried again
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
	if err := c.flush(); err != nil {
		return fmt.Errorf("sync catalog: %w", err)
	}
	return c.syncFlushed(ctx)
}

// syncFlushed is Sync of what Badger has. It takes no lock that an Update holds.
func (c *Catalog) syncFlushed(ctx context.Context) error {
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
// its number to the floor file, so that a later Open can tell when a log or
// MANIFEST was cut below it.
func (s *syncer) syncOnce() error {
	s.tick++
	if err := s.c.putMeta(metaTick, s.tick); err != nil {
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
		if s.manifest, err = s.syncManifest(); err != nil {
			return err
		}
		s.names = names
	}
	return floor{s.tick, s.manifest}.write(s.floor)
}

// syncManifest describes MANIFEST, which changes whenever tables come or go.
// Badger syncs it too, but perhaps after we have read it.
func (s *syncer) syncManifest() (prefix, error) {
	path := filepath.Join(s.c.dir, badger.ManifestFilename)
	b, err := os.ReadFile(path)
	if err != nil {
		return prefix{}, err
	}
	return prefixOf(b), fdatasync(path)
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
