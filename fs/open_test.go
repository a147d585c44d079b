package fs

import (
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// device counts what is registered.
type device struct {
	mu   sync.Mutex
	last int32
	open map[int32]bool
	fail syscall.Errno
}

func (d *device) RegisterBackingFd(m *fuse.BackingMap) (int32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != 0 {
		return 0, d.fail
	}
	d.last++
	d.open[d.last] = true
	return d.last, 0
}

func (d *device) UnregisterBackingFd(id int32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open[id] {
		panic("not registered")
	}
	delete(d.open, id)
	return 0
}

func newTable(works bool) (*openTable, *device) {
	d := &device{open: map[int32]bool{}}
	t := &openTable{device: d}
	t.works.Store(works)
	return t, d
}

func TestOpenTableKeepsTheModeOfTheFirstOpen(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tc := range []struct {
		name          string
		works         bool
		first, second bool // resident
		want          ioMode
	}{
		{"resident", true, true, true, passthrough},
		{"resident, whatever the second says", true, true, false, passthrough},
		{"not here", true, false, false, direct},
		{"came while open", true, false, true, direct},
		{"no passthrough", false, true, true, cached},
		{"no passthrough, not here", false, false, false, cached},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tab, dev := newTable(tc.works)
			m1, id1, first, err := tab.open(7, f, tc.first, true)
			if m1 != tc.want || !first || err != nil {
				t.Fatalf("first open: got mode %d, first writer %v, %v; want mode %d", m1, first, err, tc.want)
			}
			m2, id2, first, err := tab.open(7, f, tc.second, true)
			if m2 != m1 || id2 != id1 || first || err != nil {
				t.Errorf("second open: got mode %d id %d first %v, %v; want %d, %d, false", m2, id2, first, err, m1, id1)
			}
			if got, want := tab.unseenWriters(7), tc.want == passthrough; got != want {
				t.Errorf("unseen writers: got %v, want %v", got, want)
			}
			tab.release(7, true)
			if want := tc.want == passthrough; (len(dev.open) == 1) != want {
				t.Errorf("registered while one handle is open: %v, want %v", dev.open, want)
			}
			tab.release(7, true)
			if len(dev.open) != 0 || tab.unseenWriters(7) {
				t.Errorf("still registered after the last release: %v", dev.open)
			}
			if m3, _, _, _ := tab.open(7, f, true, false); m3 == direct {
				t.Error("a resident file that nobody has open must not stay in direct mode")
			}
		})
	}
}

func TestOpenTableFallsBack(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tc := range []struct {
		errno syscall.Errno
		works bool // for other files, afterwards
	}{{syscall.EPERM, false}, {syscall.ENOTTY, false}, {syscall.ELOOP, false}, {syscall.EMFILE, true}, {syscall.ENOMEM, true}} {
		t.Run(tc.errno.Error(), func(t *testing.T) {
			tab, dev := newTable(true)
			dev.fail = tc.errno
			mode, _, _, err := tab.open(1, f, true, false)
			if mode != cached || err != tc.errno {
				t.Fatalf("got mode %d, %v; want cached, %v", mode, err, tc.errno)
			}
			dev.fail = 0
			if mode, _, _, _ := tab.open(1, f, true, false); mode != cached {
				t.Errorf("same file again: got mode %d, want cached as the first", mode)
			}
			mode, _, _, _ = tab.open(2, f, true, false)
			if got := mode == passthrough; got != tc.works {
				t.Errorf("another file passes through: %v, want %v", got, tc.works)
			}
		})
	}
}

func TestOpenTableConcurrently(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tab, dev := newTable(true)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 2000 {
				ino := cache.Ino(j % 3)
				mode, id, _, _ := tab.open(ino, f, true, i%2 == 0)
				dev.mu.Lock()
				ok := dev.open[id]
				dev.mu.Unlock()
				if mode != passthrough || !ok {
					t.Errorf("got mode %d with backing %d, registered %v", mode, id, ok)
				}
				tab.release(ino, i%2 == 0)
			}
		})
	}
	wg.Wait()
	if len(dev.open) != 0 {
		t.Errorf("leaked: %v", dev.open)
	}
}

func TestFileTable(t *testing.T) {
	var tab fileTable
	a, b := &openFile{handle: &lhandle{}}, &openFile{handle: &lhandle{}}
	fa, fb := tab.add(a), tab.add(b)
	if fa == 0 || fa == fb {
		t.Fatalf("got numbers %d and %d, want two that are not 0", fa, fb)
	}
	if tab.get(fa) != a.handle || tab.get(fb) != b.handle || tab.get(99) != nil {
		t.Error("get returns another file")
	}
	if tab.remove(fa) != a || tab.remove(fa) != nil || tab.get(fa) != nil || tab.open.Load() != 1 {
		t.Error("a removed file is still there")
	}
}
