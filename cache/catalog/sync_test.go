package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	badger "github.com/dgraph-io/badger/v4"
)

func openForTest(t testing.TB, dir string) *Catalog {
	t.Helper()
	c, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func put(t testing.TB, c *Catalog, name string, value []byte) {
	t.Helper()
	if err := c.Update(func(tx *Tx) error { return tx.PutSetting(name, value) }); err != nil {
		t.Fatal(err)
	}
}

func TestSyncersShareOneSync(t *testing.T) {
	c := openForTest(t, t.TempDir())
	entered, release := make(chan struct{}, 10), make(chan struct{})
	var calls atomic.Int32
	c.syncer.disk.fdatasync = func(path string) error {
		calls.Add(1)
		entered <- struct{}{}
		<-release
		return fdatasync(path)
	}
	put(t, c, "a", nil)
	first := make(chan error, 1)
	go func() { first <- c.Sync(context.Background()) }()
	<-entered

	// All of these come while the first sync runs: it may have missed their commits.
	const callers = 50
	put(t, c, "b", nil)
	var wg sync.WaitGroup
	var done atomic.Int32
	for range callers {
		wg.Go(func() {
			if err := c.Sync(context.Background()); err != nil {
				t.Error(err)
			}
			done.Add(1)
		})
	}
	for joined := 0; joined < callers; {
		c.syncer.mu.Lock()
		if c.syncer.next != nil {
			joined = c.syncer.next.callers
		}
		c.syncer.mu.Unlock()
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.Sync(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Sync with an ended context: %v", err)
	}
	release <- struct{}{}
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	<-entered
	if n := done.Load(); n != 0 {
		t.Errorf("%d callers returned from a sync that began before they came", n)
	}
	release <- struct{}{}
	wg.Wait()
	if n := calls.Load(); n != 2 {
		t.Errorf("%d fdatasyncs, want 2", n)
	}
	close(release)

	if err := c.Sync(context.Background()); err != nil || calls.Load() != 2 {
		t.Errorf("sync of nothing: %v, %d fdatasyncs", err, calls.Load())
	}
}

func TestFailedSyncIsNotForgotten(t *testing.T) {
	c := openForTest(t, t.TempDir())
	broken := errors.New("bad sector")
	c.syncer.disk.fdatasync = func(string) error { return broken }
	put(t, c, "a", nil)
	if err := c.Sync(context.Background()); !errors.Is(err, broken) {
		t.Fatalf("Sync: %v", err)
	}
	c.syncer.disk.fdatasync = fdatasync
	if err := c.Sync(context.Background()); !errors.Is(err, broken) {
		t.Errorf("the next Sync: %v; the kernel may have dropped the pages", err)
	}
	if err := c.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
}

// plug is a disk that remembers what reached it.
type plug struct {
	t     *testing.T
	dir   string
	logs  map[string][]byte // content at the last fdatasync
	names []string          // logs at the last sync of the directory
	calls int
}

func (p *plug) fdatasync(path string) error {
	p.calls++
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	p.logs[filepath.Base(path)] = b
	return err
}

func (p *plug) syncDir(*os.File) error {
	names, err := dataFiles(p.dir)
	p.names = names
	return err
}

// pull makes what is on the disk after a power cut: of the logs only what was
// synced; tables and MANIFEST as they are, because Badger syncs them itself.
func (p *plug) pull() string {
	p.t.Helper()
	for {
		image := p.t.TempDir()
		before, err := os.ReadFile(filepath.Join(p.dir, badger.ManifestFilename))
		if err != nil {
			p.t.Fatal(err)
		}
		entries, err := os.ReadDir(p.dir)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, e := range entries {
			name := e.Name()
			if isByproduct(name) || strings.HasSuffix(name, ".mem") && !slices.Contains(p.names, name) {
				continue
			}
			var b []byte
			if strings.HasSuffix(name, ".mem") {
				b = p.logs[name] // nil: the name came to the disk, the content did not
			} else if b, err = os.ReadFile(filepath.Join(p.dir, name)); errors.Is(err, os.ErrNotExist) {
				continue
			} else if err != nil {
				p.t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(image, name), b, 0o600); err != nil {
				p.t.Fatal(err)
			}
		}
		m, err := readMarker(image)
		if err != nil {
			p.t.Fatal(err)
		}
		m.boot = "the one before the power cut"
		if err := m.write(image); err != nil {
			p.t.Fatal(err)
		}
		after, err := os.ReadFile(filepath.Join(p.dir, badger.ManifestFilename))
		if err != nil {
			p.t.Fatal(err)
		}
		if string(before) == string(after) {
			return image
		}
		// Badger flushed or compacted meanwhile: not a picture of one moment.
	}
}

// TestPowerCut syncs right after Badger has turned to a new memory table, while
// the old one is waiting for being flushed, and looks at what would be left:
// everything that was committed before the Sync.
func TestPowerCut(t *testing.T) {
	const cuts = 5
	dir := t.TempDir()
	c := openForTest(t, dir)
	p := &plug{t: t, dir: dir, logs: map[string][]byte{}}
	c.syncer.disk = disk{p.fdatasync, p.syncDir}
	value := make([]byte, 300<<10)
	committed, met := 0, 0
	for cut := 0; cut < cuts || met == 0 && cut < 4*cuts; cut++ {
		for rotated := false; !rotated; committed++ {
			put(t, c, fmt.Sprint(committed), value)
			logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
			if err != nil {
				t.Fatal(err)
			}
			rotated = len(logs) > 1
		}
		p.calls = 0
		if err := c.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		if p.calls > 1 {
			met++
		}
		put(t, c, "not synced", value)
		after := openForTest(t, p.pull())
		if !after.Unclean() || after.SameBoot() {
			t.Errorf("after a power cut: Unclean %v, SameBoot %v", after.Unclean(), after.SameBoot())
		}
		err := after.View(func(tx *Tx) error {
			for i := range committed {
				if _, err := tx.Setting(fmt.Sprint(i)); err != nil {
					return fmt.Errorf("setting %d of %d after cut %d: %w", i, committed, cut, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if met == 0 {
		t.Error("no sync met a memory table that was waiting for being flushed: the test proves nothing")
	}
}

// TestSyncCostsOneFdatasync is about the normal case.
func TestSyncCostsOneFdatasync(t *testing.T) {
	c := openForTest(t, t.TempDir())
	var logs, dirs int
	c.syncer.disk = disk{
		func(string) error { logs++; return nil },
		func(*os.File) error { dirs++; return nil },
	}
	for i := range 5 {
		put(t, c, fmt.Sprint(i), nil)
		if err := c.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if logs != 5 || dirs != 0 {
		t.Errorf("5 syncs: %d fdatasyncs, %d directory syncs; want 5 and 0", logs, dirs)
	}
}

// copyDir copies the files of a catalog, without the holes.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if isByproduct(e.Name()) || e.Name() == lockName {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(to, e.Name()))
		if err == nil {
			_, err = f.Write(bytes.TrimRight(b, "\x00"))
			err = errors.Join(err, f.Truncate(int64(len(b))), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}
