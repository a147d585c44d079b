package cache_test

import (
	"bytes"
	"context"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// late is a zone over the store of another one that has not been there yet.
func (e *env) late(zone string) *env {
	z := &env{t: e.t, share: e.t.TempDir(), state: e.t.TempDir(), mem: e.mem, store: storetest.NewFaulty(e.mem), zone: zone, poll: 24 * time.Hour}
	e.t.Cleanup(z.close)
	return z
}

// listed waits until a zone has listed the depot.
func (e *env) listed() {
	e.t.Helper()
	e.waitFor("the depot is listed", func() bool { s, err := e.c.Status(e.t.Context()); return err == nil && s.Store.Listing == "done" })
}

// A new zone knows the depot as it is from the listing. Reading how it came to be so must
// not bring back, for however short, what was before: readers would fail.
func TestNewZoneKeepsWhatItListed(t *testing.T) {
	a := newZones(t, 1)[0]
	was, is := bytes.Repeat([]byte("was "), 5000), bytes.Repeat([]byte("is  "), 5000)
	steps := []func(){
		func() { a.write("changed", was); a.write("deleted", was); a.write("again", was); a.mkdirAll("dir") },
		func() { a.write("changed", is); a.unlink("deleted"); a.unlink("again"); a.rmdir("dir") },
		func() { a.write("again", is); a.write("dir", is) },
	}
	for _, step := range steps {
		step()
		a.flush()
	}
	b := a.late("b")
	b.open()
	b.listed()
	before := b.names()
	changed, again := b.inoOf("changed"), b.inoOf("again")
	h, err := b.c.Open(context.Background(), changed, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	b.refresh()
	if after := b.names(); !maps.Equal(after, before) {
		t.Errorf("the listing showed %v; after the journals were read %v", before, after)
	}
	if b.inoOf("changed") != changed || b.inoOf("again") != again {
		t.Error("files that were listed as they are were replaced by what they had been")
	}
	buf := make([]byte, len(is))
	if n, err := h.ReadAt(context.Background(), buf, 0); n != len(is) || !bytes.Equal(buf, is) {
		t.Errorf("a handle from before reads %d bytes, %v", n, err)
	}
	b.mustRead("changed", is)
	b.mustRead("again", is)
	// From here on it hears as all do.
	a.write("changed", was)
	a.unlink("again")
	tell(a, b)
	sameTrees(a, b)
	b.wantNone("again")
}

// What is told after the listing began may still be older than what it showed, or newer: the
// store is asked which.
func TestNewZoneHearsOfWhatWasListedMeanwhile(t *testing.T) {
	a := newZones(t, 1)[0]
	a.write("x", []byte("one"))
	a.write("y", []byte("one"))
	a.flush()
	b := a.late("b")
	var told atomic.Bool
	b.store.Inject(storetest.Before(storetest.List, func(_ context.Context, key string) error {
		if key != "p/" || !told.CompareAndSwap(false, true) {
			return nil
		}
		for _, text := range []string{"two", "three"} {
			a.write("x", []byte(text))
			a.flush()
		}
		return nil
	}).Always())
	b.open()
	b.listed()
	if !told.Load() {
		t.Fatal("nothing happened while it listed")
	}
	x := b.inoOf("x")
	a.write("y", []byte("later"))
	a.flush()
	b.refresh()
	if b.inoOf("x") != x {
		t.Error("the version that was listed was replaced")
	}
	b.mustRead("x", []byte("three"))
	b.mustRead("y", []byte("later"))
	sameTrees(a, b)
}

// A daemon that ends while it lists goes on knowing what came before the listing.
func TestNewZoneEndsWhileItLists(t *testing.T) {
	a := newZones(t, 1)[0]
	for _, text := range []string{"one", "two"} {
		a.write("x", []byte(text))
		a.flush()
	}
	b := a.late("b")
	b.store.Inject(storetest.LoseAnswer(storetest.List).On("p/").After(1).Always()) // of where the journals end is known
	b.open()
	b.waitFor("x is known", func() bool { _, err := b.lookup("x"); return err == nil })
	x := b.inoOf("x")
	a.write("x", []byte("three"))
	a.flush()
	b.close()
	b.store.Clear()
	b.open()
	b.listed()
	if b.inoOf("x") != x {
		t.Fatal("the name has another inode")
	}
	b.refresh()
	b.mustRead("x", []byte("three"))
	sameTrees(a, b)
}

// inoOf is the inode of a path.
func (e *env) inoOf(path string) cache.Ino {
	e.t.Helper()
	a, err := e.lookup(path)
	if err != nil {
		e.t.Fatalf("lookup %q: %v", path, err)
	}
	return a.Ino
}

// What is below a file of a new zone's own cannot be taken in from the listing; it comes with
// the journals, whatever else there is of the directory by then.
func TestNewZoneHasAFileInTheWay(t *testing.T) {
	t.Parallel()
	a := newZones(t, 1)[0]
	body := pattern(1, 500)
	a.mkdirAll("d")
	for _, name := range []string{"d/1", "d/2", "d/3"} {
		a.write(name, body)
		a.flush()
	}
	b := a.late("b")
	b.store.SetDown(true)
	b.open()
	b.write("d", pattern(2, 500))
	b.store.SetDown(false)
	b.listed()
	b.refresh()
	tell(a, b)
	tell(a, b)
	sameTrees(a, b)
	b.mustRead("d/2", body)
}
