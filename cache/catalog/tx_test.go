package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"depotfs/cache/catalog"
)

func TestUpdatesThatMeetAreBothDone(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	const goroutines, times = 8, 50
	update(t, c, func(tx *catalog.Tx) error { return tx.PutInode(&catalog.Inode{Ino: 5, Mode: 0o100644}) })
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range times {
				err := c.Update(func(tx *catalog.Tx) error {
					n, err := tx.Inode(5)
					if err != nil {
						return err
					}
					n.Size++
					return tx.PutInode(n)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	view(t, c, func(tx *catalog.Tx) error {
		n, err := tx.Inode(5)
		if err != nil || n.Size != goroutines*times {
			t.Errorf("%d increments left %d, %v", goroutines*times, n.Size, err)
		}
		return err
	})
	if got := c.Totals().BytesByState[0]; got != goroutines*times {
		t.Errorf("totals count %d bytes", got)
	}
}

// TestRmdirMeetsCreate: a directory that was found empty does not get a name meanwhile.
func TestRmdirMeetsCreate(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	for dir := catalog.Ino(5); dir < 205; dir++ {
		update(t, c, func(tx *catalog.Tx) error { return tx.PutInode(&catalog.Inode{Ino: dir, Mode: 0o040755}) })
		var wg sync.WaitGroup
		wg.Go(func() {
			update(t, c, func(tx *catalog.Tx) error {
				if _, err := tx.Inode(dir); err != nil {
					return nil // it is gone
				}
				return tx.PutDirent(catalog.Dirent{Parent: dir, Name: "new", Ino: 6})
			})
		})
		update(t, c, func(tx *catalog.Tx) error {
			has, err := tx.HasChildren(dir)
			if err != nil || has {
				return err
			}
			return tx.DeleteInode(dir)
		})
		wg.Wait()
		view(t, c, func(tx *catalog.Tx) error {
			_, gone := tx.Inode(dir)
			if has, err := tx.HasChildren(dir); err != nil || has == (gone != nil) {
				t.Errorf("directory %d: has a name %v, removed %v, %v", dir, has, gone != nil, err)
			}
			return nil
		})
	}
}

func TestReadDirResumes(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	const names = 3000 // several batches
	for at := 0; at < names; at += 500 {
		update(t, c, func(tx *catalog.Tx) error {
			for i := at; i < at+500; i++ {
				if err := tx.PutDirent(catalog.Dirent{Parent: 9, Name: fmt.Sprint(i), Ino: catalog.Ino(i)}); err != nil {
					return err
				}
			}
			return tx.PutDirent(catalog.Dirent{Parent: 10, Name: fmt.Sprint(at), Ino: 1}) // a neighbour
		})
	}
	var all []catalog.Dirent
	list := func(after uint64, max int) (out []catalog.Dirent) {
		view(t, c, func(tx *catalog.Tx) error {
			return tx.ReadDir(9, after, func(d catalog.Dirent) bool { out = append(out, d); return len(out) < max })
		})
		return out
	}
	all = list(0, names+1)
	if len(all) != names || all[0].Cookie <= 2 {
		t.Fatalf("%d names, first %+v", len(all), all[0])
	}
	if !slices.IsSortedFunc(all, func(a, b catalog.Dirent) int { return int(a.Cookie) - int(b.Cookie) }) {
		t.Error("not in the order of cookies")
	}
	for _, i := range []int{0, 1, 31, 32, 33, 1500, names - 2} {
		if got := list(all[i].Cookie, 2); !reflect.DeepEqual(got, all[i+1:min(i+3, names)]) {
			t.Errorf("after entry %d: %v", i, got)
		}
	}
	if got := list(all[names-1].Cookie, 1); len(got) != 0 {
		t.Errorf("after the last: %v", got)
	}
	if got := list(^uint64(0), 1); len(got) != 0 {
		t.Errorf("after the greatest cookie: %v", got)
	}
	update(t, c, func(tx *catalog.Tx) error { return tx.DeleteDirent(9, all[1500].Name) })
	if got := list(all[1500].Cookie, 1); !reflect.DeepEqual(got, all[1501:1502]) {
		t.Errorf("after an entry that is gone: %v", got)
	}
	// A name that means something else now has one entry, behind all others.
	update(t, c, func(tx *catalog.Tx) error {
		return tx.PutDirent(catalog.Dirent{Parent: 9, Name: all[7].Name, Ino: 12345})
	})
	now := list(0, names+1)
	if len(now) != names-1 || now[len(now)-1].Ino != 12345 {
		t.Errorf("%d names, the last %+v", len(now), now[len(now)-1])
	}
}

func TestScansNestAndChange(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	update(t, c, func(tx *catalog.Tx) error {
		for i := catalog.Ino(2); i < 102; i++ {
			err := errors.Join(tx.PutInode(&catalog.Inode{Ino: i, Mode: 0o100644}), tx.PutQueue(&catalog.QueueItem{Ino: i}), tx.PutXattr(i, "a", nil), tx.PutXattr(i, "b", nil))
			if err != nil {
				return err
			}
		}
		return nil
	})
	update(t, c, func(tx *catalog.Tx) error {
		var inner error
		seen := 0
		err := tx.EachQueue(func(q *catalog.QueueItem) bool {
			seen++
			names, err := tx.Xattrs(q.Ino)
			if len(names) != 2 {
				t.Errorf("inode %d has %v", q.Ino, names)
			}
			inner = errors.Join(inner, err, tx.DeleteInode(q.Ino))
			return true
		})
		if seen != 100 {
			t.Errorf("%d items seen", seen)
		}
		return errors.Join(err, inner)
	})
	if n := c.Totals().Files; n != 0 {
		t.Errorf("%d files left", n)
	}
}

func TestLargeThings(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	var x catalog.Extents
	for i := range int64(150_000) { // every other block of a large image
		x.Here = append(x.Here, catalog.Range{Off: i * 8192, End: i*8192 + 4096})
	}
	update(t, c, func(tx *catalog.Tx) error { return tx.PutExtents(7, x) })
	view(t, c, func(tx *catalog.Tx) error {
		got, err := tx.Extents(7)
		if err != nil || !reflect.DeepEqual(got, x) {
			t.Errorf("%d of %d ranges, %v", len(got.Here), len(x.Here), err)
		}
		return nil
	})
	few := catalog.Extents{Here: x.Here[:1]}
	update(t, c, func(tx *catalog.Tx) error { return tx.PutExtents(7, few) })
	view(t, c, func(tx *catalog.Tx) error {
		if got, err := tx.Extents(7); err != nil || !reflect.DeepEqual(got, few) {
			t.Errorf("fewer ranges: %v, %v", got, err)
		}
		return nil
	})
	for i := range int64(200_000) {
		x.Here = append(x.Here, catalog.Range{Off: (1 << 40) + i*(1<<22), End: (1 << 40) + i*(1<<22) + 4096})
	}
	for name, fn := range map[string]func(tx *catalog.Tx) error{
		"extents": func(tx *catalog.Tx) error { return tx.PutExtents(8, x) },
		"setting": func(tx *catalog.Tx) error { return tx.PutSetting("big", make([]byte, 1<<20)) },
		"name":    func(tx *catalog.Tx) error { return tx.PutSetting(strings.Repeat("n", 70000), nil) },
		"transaction": func(tx *catalog.Tx) error {
			for i := range 200 {
				if err := tx.PutSetting(fmt.Sprint(i), make([]byte, 100<<10)); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		if err := c.Update(fn); !errors.Is(err, catalog.ErrTooBig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The largest upload that S3 allows can be forgotten in one transaction.
	for at := 0; at < 10000; at += 2000 {
		update(t, c, func(tx *catalog.Tx) error {
			for i := at; i < at+2000; i++ {
				if err := tx.PutPart(7, catalog.UploadPart{Number: i + 1, ETag: strings.Repeat("e", 32)}); err != nil {
					return err
				}
			}
			return tx.PutUpload(&catalog.Upload{Ino: 7})
		})
	}
	update(t, c, func(tx *catalog.Tx) error {
		if parts, err := tx.Parts(7); err != nil || len(parts) != 10000 || parts[9999].Number != 10000 {
			t.Errorf("%d parts, %v", len(parts), err)
		}
		return tx.DeleteInode(7)
	})
	view(t, c, func(tx *catalog.Tx) error {
		if parts, err := tx.Parts(7); err != nil || len(parts) != 0 {
			t.Errorf("%d parts left, %v", len(parts), err)
		}
		return nil
	})
}

func TestCopiesBelongToTheCaller(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	value := []byte("value")
	update(t, c, func(tx *catalog.Tx) error {
		if err := tx.PutXattr(5, "x", value); err != nil {
			return err
		}
		value[0] = '!'
		got, err := tx.Xattr(5, "x")
		if err != nil || string(got) != "value" {
			t.Errorf("got %q, %v", got, err)
		}
		got[0] = '?'
		return nil
	})
	view(t, c, func(tx *catalog.Tx) error {
		if got, err := tx.Xattr(5, "x"); err != nil || !bytes.Equal(got, []byte("value")) {
			t.Errorf("got %q, %v", got, err)
		}
		return nil
	})
}

func TestMissingThings(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	update(t, c, func(tx *catalog.Tx) error {
		for name, get := range map[string]func() error{
			"Inode":     func() error { _, err := tx.Inode(5); return err },
			"Lookup":    func() error { _, err := tx.Lookup(5, "n"); return err },
			"Xattr":     func() error { _, err := tx.Xattr(5, "n"); return err },
			"QueueItem": func() error { _, err := tx.QueueItem(5); return err },
			"Removal":   func() error { _, err := tx.Removal("k"); return err },
			"Upload":    func() error { _, err := tx.Upload(5); return err },
			"KeyOwner":  func() error { _, err := tx.KeyOwner("k"); return err },
			"Setting":   func() error { _, err := tx.Setting("s"); return err },
		} {
			if err := get(); !errors.Is(err, catalog.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		x, err := tx.Extents(5)
		if err != nil || x.Here != nil || x.Written != nil {
			t.Errorf("Extents: %v, %v", x, err)
		}
		return errors.Join(tx.DeleteInode(5), tx.DeleteDirent(5, "n"), tx.DeleteXattr(5, "n"), tx.DeleteExtents(5), tx.DeleteQueue(5),
			tx.DeleteRemoval("k"), tx.DeleteUpload(5), tx.DeleteIntent(5), tx.DeleteKeyOwner("k"), tx.DeleteSetting("s"))
	})
}

func TestDeleteInodeLeavesKeysOfOthers(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	update(t, c, func(tx *catalog.Tx) error {
		return errors.Join(
			tx.PutInode(&catalog.Inode{Ino: 5, Objects: []catalog.Object{{Key: "mine"}, {Key: "moved"}}}),
			tx.PutUpload(&catalog.Upload{Ino: 5, Key: "on its way"}),
			tx.SetKeyOwner("mine", 5), tx.SetKeyOwner("on its way", 5), tx.SetKeyOwner("moved", 6))
	})
	update(t, c, func(tx *catalog.Tx) error { return tx.DeleteInode(5) })
	view(t, c, func(tx *catalog.Tx) error {
		for _, key := range []string{"mine", "on its way"} {
			if ino, err := tx.KeyOwner(key); !errors.Is(err, catalog.ErrNotFound) {
				t.Errorf("%s still belongs to %d, %v", key, ino, err)
			}
		}
		if ino, err := tx.KeyOwner("moved"); err != nil || ino != 6 {
			t.Errorf("moved belongs to %d, %v", ino, err)
		}
		return nil
	})
}

func TestNumbersAreReservedFirst(t *testing.T) {
	dir := t.TempDir()
	var mark catalog.Ino
	refuse := error(nil)
	o := catalog.Options{FirstIno: 41, ReserveInos: func(upTo catalog.Ino) error {
		if refuse == nil {
			mark = upTo
		}
		return refuse
	}}
	c := open(t, dir, o)
	refuse = errors.New("the share is away")
	if n, err := c.NextIno(); !errors.Is(err, refuse) {
		t.Fatalf("number %d was handed out, %v", n, err)
	}
	refuse = nil
	last := catalog.Ino(41)
	for range 70_000 { // more than one block
		n, err := c.NextIno()
		if err != nil || n <= last || n >= mark {
			t.Fatalf("number %d after %d, %v; reserved below %d", n, last, err, mark)
		}
		last = n
	}
	lastGen, err := c.NextGen()
	if err != nil {
		t.Fatal(err)
	}
	for range 70_000 {
		n, err := c.NextCookie()
		if err != nil || n <= lastGen || n <= 2 {
			t.Fatalf("number %d after %d, %v", n, lastGen, err)
		}
		lastGen = n
	}
	c = reopen(t, c, dir)
	if n, err := c.NextIno(); err != nil || n <= last {
		t.Errorf("after a restart number %d, %v; %d was the last", n, err, last)
	}
	if n, err := c.NextCookie(); err != nil || n <= lastGen {
		t.Errorf("after a restart number %d, %v; %d was the last", n, err, lastGen)
	}
}
