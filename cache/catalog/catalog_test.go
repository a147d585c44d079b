package catalog_test

import (
	"context"
	"errors"
	"os"
	"reflect"
	"syscall"
	"testing"

	"depotfs/cache/catalog"
)

// open opens a catalog that the test's end closes.
func open(t testing.TB, dir string, o catalog.Options) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func reopen(t testing.TB, c *catalog.Catalog, dir string) *catalog.Catalog {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, catalog.Options{})
}

func update(t testing.TB, c *catalog.Catalog, fn func(*catalog.Tx) error) {
	t.Helper()
	if err := c.Update(fn); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, c *catalog.Catalog, fn func(*catalog.Tx) error) {
	t.Helper()
	if err := c.View(fn); err != nil {
		t.Fatal(err)
	}
}

func TestNewAndReopened(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, catalog.Options{FirstIno: 1000})
	if !c.New() || c.Unclean() || c.Epoch() == 0 {
		t.Fatalf("new catalog: New %v, Unclean %v, Epoch %d", c.New(), c.Unclean(), c.Epoch())
	}
	epoch := c.Epoch()
	first, err := c.NextIno()
	if err != nil || first != 1001 {
		t.Fatalf("first number above 1000: %d, %v", first, err)
	}
	want := sampleInode(first)
	update(t, c, func(tx *catalog.Tx) error { return tx.PutInode(want) })

	c = reopen(t, c, dir)
	if c.New() || c.Unclean() || !c.SameBoot() || c.Epoch() != epoch {
		t.Fatalf("reopened: New %v, Unclean %v, SameBoot %v, Epoch %d, was %d", c.New(), c.Unclean(), c.SameBoot(), c.Epoch(), epoch)
	}
	view(t, c, func(tx *catalog.Tx) error {
		got, err := tx.Inode(first)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
		return nil
	})
	if n, err := c.NextIno(); err != nil || n <= first {
		t.Errorf("number after reopen: %d, %v; %d was used", n, err, first)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, catalog.Options{})
	if _, err := catalog.Open(dir, catalog.Options{}); !errors.Is(err, catalog.ErrInUse) {
		t.Fatalf("second open: %v", err)
	}
}

// Badger has a lock of its own. Who holds that, if only for a moment, has not damaged anything.
func TestBadgersLockIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir, catalog.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	if _, err := catalog.Open(dir, catalog.Options{}); !errors.Is(err, catalog.ErrInUse) || errors.Is(err, catalog.ErrDamaged) {
		t.Fatalf("open: %v", err)
	}
}

func TestAfterClose(t *testing.T) {
	c := open(t, t.TempDir(), catalog.Options{})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	nothing := func(*catalog.Tx) error { return nil }
	for name, err := range map[string]error{"Update": c.Update(nothing), "View": c.View(nothing), "Sync": c.Sync(context.Background())} {
		if !errors.Is(err, catalog.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// sampleInode has something in every field.
func sampleInode(ino catalog.Ino) *catalog.Inode {
	return &catalog.Inode{
		Ino: ino, Mode: 0o100644, UID: 1, GID: 2, Rdev: 3, Nlink: 2, Size: 4, Blocks: 5, Atime: -6, Mtime: 7, Ctime: 8, Target: "to",
		Links: []catalog.Link{{Parent: 1, Name: "a"}, {Parent: 9, Name: "b\xff"}},
		State: 3, Gen: 10, Stamp: catalog.Stamp{Ino: 11, Size: 12, Mtime: 13, Ctime: 14},
		Base: catalog.Version{Gen: 15, Size: 16, CRC64: 1 << 63, HasCRC: true}, BaseLimit: 17,
		Objects: []catalog.Object{{Key: "k", ETag: "e", VersionID: "v", Gen: 18}, {Key: "l"}},
		Flags:   catalog.FlagPinned | catalog.FlagOrphan, DirtySince: 19, FinishedAt: 20, LastUsed: 21,
	}
}
