package catalog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"depotfs/cache/catalog"
)

// What Inode and Lookup answer is never older than a commit that has returned, and
// never goes back, however many readers and writers meet.
func TestRecentIsNeverOld(t *testing.T) {
	const inos, writers, readers, rounds = 40, 3, 3, 3000
	c := open(t, t.TempDir(), catalog.Options{})
	var committed [inos]atomic.Int64 // Size of the newest record whose Update has returned
	name := func(i int) string { return fmt.Sprintf("n%d", i) }
	var group sync.WaitGroup
	var writing atomic.Int64
	writing.Store(writers)
	for w := range writers {
		r := rand.New(rand.NewPCG(1, uint64(w)))
		group.Go(func() {
			defer writing.Add(-1)
			for range rounds {
				i := r.IntN(inos)
				ino := catalog.Ino(10 + i)
				var size int64
				update(t, c, func(tx *catalog.Tx) error {
					size = 1
					n, err := tx.Inode(ino)
					if err == nil {
						size = n.Size + 1
					} else if !errors.Is(err, catalog.ErrNotFound) {
						return err
					}
					return errors.Join(tx.PutInode(&catalog.Inode{Ino: ino, Mode: 0o100644, Size: size}),
						tx.PutDirent(catalog.Dirent{Parent: 1, Name: name(i), Ino: ino, Cookie: uint64(size) + 2}),
						tx.PutQueue(&catalog.QueueItem{Ino: ino, Since: size}))
				})
				for old := committed[i].Load(); old < size && !committed[i].CompareAndSwap(old, size); old = committed[i].Load() {
				}
			}
		})
	}
	for w := range readers {
		r := rand.New(rand.NewPCG(2, uint64(w)))
		group.Go(func() {
			var seen [inos]int64
			for writing.Load() > 0 {
				i := r.IntN(inos)
				least := max(committed[i].Load(), seen[i])
				var got int64
				var err error
				switch r.IntN(3) {
				case 0:
					var n *catalog.Inode
					if n, err = c.Inode(catalog.Ino(10 + i)); err == nil {
						got = n.Size
					}
				case 1:
					var d catalog.Dirent
					if d, err = c.Lookup(1, name(i)); err == nil {
						got = int64(d.Cookie) - 2
					}
				default:
					var q *catalog.QueueItem
					if q, err = c.QueueItem(catalog.Ino(10 + i)); err == nil {
						got = q.Since
					}
				}
				if err != nil && (least > 0 || !errors.Is(err, catalog.ErrNotFound)) {
					t.Errorf("record %d, version %d committed: %v", i, least, err)
				} else if got < least {
					t.Errorf("record %d: got version %d after %d was committed or seen", i, got, least)
				}
				seen[i] = max(seen[i], got)
			}
		})
	}
	group.Wait()
}

// What is gone is gone at once, and what was not there is there at once.
func TestRecentKnowsWhatIsMissing(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	for round := range 3 {
		if _, err := c.Lookup(1, "a"); !errors.Is(err, catalog.ErrNotFound) {
			t.Fatalf("round %d: a name that is not there: %v", round, err)
		}
		if _, err := c.Inode(7); !errors.Is(err, catalog.ErrNotFound) {
			t.Fatalf("round %d: an inode that is not there: %v", round, err)
		}
		update(t, c, func(tx *catalog.Tx) error {
			return errors.Join(tx.NewInode(&catalog.Inode{Ino: 7, Mode: 0o100644}), tx.NewDirent(catalog.Dirent{Parent: 1, Name: "a", Ino: 7}))
		})
		if d, err := c.Lookup(1, "a"); err != nil || d.Ino != 7 {
			t.Fatalf("round %d: got %v, %v", round, d, err)
		}
		if err := c.Update(func(tx *catalog.Tx) error {
			return errors.Join(tx.DeleteInode(7), errors.New("changed my mind"))
		}); err == nil {
			t.Fatal("no error")
		}
		if n, err := c.Inode(7); err != nil || n.Mode != 0o100644 {
			t.Fatalf("round %d: after a change that was given up: %v, %v", round, n, err)
		}
		update(t, c, func(tx *catalog.Tx) error { return errors.Join(tx.DeleteInode(7), tx.DeleteDirent(1, "a")) })
	}
	if got := c.Totals().Files; got != 0 {
		t.Errorf("%d files are counted", got)
	}
}

// However much was read, a bounded part is kept.
func TestRecentIsBounded(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	for i := range 50_000 {
		if _, err := c.Inode(catalog.Ino(i + 1)); !errors.Is(err, catalog.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if n := c.Recent(); n > 2*64*256 || n < 64*256/2 {
		t.Errorf("%d records are kept", n)
	}
}
