package cache_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/journal"
	"depotfs/cache/storetest"
)

// A directory that one zone removes while another one puts a file in it is there again, as
// it was.
func TestDirectoryThatIsMadeAgain(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	a.mkdirAll("d")
	a.chmod("d", 0o710)
	a.write("d/f", pattern(1, 100))
	tell(zs...)
	b.unlink("d/f")
	b.rmdir("d")
	b.flush()
	c.write("d/g", pattern(2, 100))
	c.flush()
	tell(zs...)
	sameTrees(zs...)
	for _, e := range zs {
		e.wantMode("d", 0o710)
		e.mustRead("d/g", pattern(2, 100))
	}
}

// A zone that deletes a file does not mean the directory that has its name elsewhere by
// then, nor the other way round.
func TestDeleteOfTheOtherKind(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.write("file", pattern(1, 100))
	a.mkdirAll("dir")
	tell(a, b)
	a.unlink("file")
	a.mkdirAll("file")
	a.rmdir("dir")
	a.write("dir", pattern(2, 100))
	a.flush()
	pause()
	b.unlink("file")
	b.rmdir("dir")
	b.flush()
	tell(a, b)
	sameTrees(a, b)
	for _, e := range zs {
		e.wantMode("file", 0o755)
		e.mustRead("dir", pattern(2, 100))
	}
	a.wantObject("p/file/", nil)
	a.wantObject("p/dir", pattern(2, 100))
}

// A directory that was known by what is in it is in the depot still when a user has emptied
// it.
func TestEmptiedDirectoryStays(t *testing.T) {
	t.Parallel()
	a := newZones(t, 1)[0]
	body := pattern(1, 100)
	for _, key := range []string{"p/d/f", "p/e/g/h"} {
		if _, err := a.mem.Put(context.Background(), key, bytes.NewReader(body), 100, cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b := a.late("b")
	b.open()
	b.listed()
	b.unlink("d/f")
	b.rename("e/g", "x")
	b.flush()
	for _, key := range []string{"p/d/", "p/e/"} {
		b.wantObject(key, nil)
	}
	b.rmdir("d")
	b.flush()
	if _, there := b.object("p/d/"); there {
		t.Error("the directory went, and its marker stays")
	}
}

// Who removes a directory removes its marker; a zone in which it stays, because a user has a
// file in it, puts the marker again when the file has gone.
func TestEmptiedDirectoryThatWasRemovedElsewhere(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("d")
	tell(zs...)
	b.write("d/f", pattern(1, 100))
	a.rmdir("d")
	a.flush()
	if _, there := a.object("p/d/"); there {
		t.Fatal("the directory went, and its marker stays")
	}
	b.flush()
	b.refresh()
	b.unlink("d/f")
	tell(zs...)
	sameTrees(zs...)
	a.wantObject("p/d/", nil)
}

// Who removes a directory need not have heard of the marker that another zone has put for it,
// and that zone does not take away what others have put there since.
func TestMarkerOfARemovedDirectory(t *testing.T) {
	t.Parallel()
	ahead := time.Now().Add(time.Hour).UnixNano()
	for _, others := range []bool{false, true} {
		a := newZones(t, 1)[0]
		a.mkdirAll("d")
		a.flush()
		if others {
			if _, err := a.mem.Put(context.Background(), "p/d/", bytes.NewReader(nil), 0, cache.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		a.apply(journal.Record{Op: journal.Rmdir, Path: "d", Time: ahead, Zone: "z"})
		a.wantNone("d")
		a.flush()
		if _, there := a.object("p/d/"); there != others {
			t.Errorf("the marker of others %v: it is there: %v", others, there)
		}
	}
}

// A marker that arrives when another zone has deleted its directory goes.
func TestDirectoryRemovedWhileItsMarkerIsPut(t *testing.T) {
	t.Parallel()
	a := newZones(t, 1)[0]
	r := journal.Record{Op: journal.Rmdir, Path: "d", Time: time.Now().Add(time.Hour).UnixNano(), Zone: "z"}
	a.store.Inject(storetest.Before(storetest.Put, func(context.Context, string) error { return cache.ApplyRecord(context.Background(), a.c, r) }).On("p/d/"))
	a.mkdirAll("d")
	a.waitFor("the directory goes", func() bool { _, err := a.lookup("d"); return err != nil })
	a.waitFor("its marker goes", func() bool {
		_, there := a.object("p/d/")
		return a.store.Calls(storetest.Put) > 0 && !there && a.store.Pending() == 0 && a.store.Calls(storetest.Delete) > 0
	})
}
