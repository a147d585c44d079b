package cache_test

import (
	"context"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// What a zone did knowing of another one's batch is applied after that one, or, where that
// cannot be had, in the end without it.
func TestBatchesComeInCausalOrder(t *testing.T) {
	t.Parallel()
	for _, heals := range []bool{true, false} {
		zs := newZones(t, 3)
		a, b, c := zs[0], zs[1], zs[2]
		a.write("x", pattern(1, 1000))
		a.flush()
		b.refresh()
		b.write("y", pattern(2, 1000))
		b.flush()
		c.store.Inject(storetest.Fail(storetest.Get, cache.ErrDenied).On("journal/a/").Always())
		for range 2 {
			if err := c.c.Refresh(context.Background()); err == nil {
				t.Fatal("read all journals, and one of them cannot be read")
			}
			c.wantNone("y")
		}
		if heals {
			c.store.Clear()
			c.refresh()
			c.mustRead("x", pattern(1, 1000))
		} else {
			c.ahead.Add(int64(2 * time.Minute))
			_ = c.c.Refresh(context.Background())
		}
		c.mustRead("y", pattern(2, 1000))
	}
}

// What another zone has put under the key of a file that was renamed here goes along with
// it, also where another file waits to be put there before this zone has heard of it.
func TestNewFileWaitsForWhatIsToBeRenamed(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	a.write("x", pattern(1, 1000))
	tell(zs...)
	a.write("x", pattern(2, 1500))
	a.flush()
	pause()
	b.rename("x", "y")
	b.write("x", pattern(3, 2000))
	b.flush()
	tell(zs...)
	sameTrees(zs...)
	c.mustRead("y", pattern(2, 1500))
	c.mustRead("x", pattern(3, 2000))
	if kept := c.mem.Keys("p/.depotfs/conflicts/"); len(kept) > 0 {
		t.Errorf("what was renamed is kept as a conflict: %q", kept)
	}
}

// A rename of a file moves no directory that another zone has made under that name, and one
// of a directory no file.
func TestRenameMovesOnlyItsKind(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		zs := newZones(t, 3)
		a, b, c := zs[0], zs[1], zs[2]
		b.store.SetDown(true)
		b.mkdirAll("x")
		b.write("x/f", pattern(1, 1000))
		pause()
		a.write("x", pattern(2, 1000))
		tell(a, c)
		a.rename("x", "y")
		a.flush()
		if restart {
			c.refresh()
			c.restart()
		}
		b.store.SetDown(false)
		tell(zs...)
		sameTrees(zs...)
		for _, e := range zs {
			e.mustRead("x/f", pattern(1, 1000))
			e.mustRead("y", pattern(2, 1000))
		}
	}
}

// A file and a directory change places: what another zone has written to the file just before
// goes along with it, and what is in the directory with that.
func TestFileAndDirectoryChangePlaces(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b := zs[0], zs[1]
	a.write("x", pattern(1, 1000))
	a.mkdirAll("d")
	a.write("d/f", pattern(2, 1000))
	tell(zs...)
	b.write("x", pattern(3, 1500))
	b.write("d/g", pattern(4, 1500))
	b.flush()
	pause()
	p, name := a.parent("x")
	q, other := a.parent("d")
	if err := a.c.Rename(context.Background(), p, name, q, other, cache.RenameExchange); err != nil {
		t.Fatal(err)
	}
	tell(zs...)
	sameTrees(zs...)
	for _, e := range zs {
		e.mustRead("d", pattern(3, 1500))
		e.mustRead("x/f", pattern(2, 1000))
		e.mustRead("x/g", pattern(4, 1500))
	}
}
