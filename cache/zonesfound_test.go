package cache_test

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
	"depotfs/cache/journal"
	"depotfs/cache/storetest"
)

// What the zones' model has found, each in its smallest form.

// A removal that has not failed is not put off by a clock that is set back.
func TestRemovalAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ahead.Store(int64(time.Hour))
	e.restart()
	e.write("x", pattern(1, 2000))
	e.flush()
	e.store.SetDown(true)
	e.unlink("x")
	e.ahead.Store(0)
	e.restart()
	e.store.SetDown(false)
	e.waitFor("the object goes", func() bool { _, there := e.object("p/x"); return !there })
}

// A directory that took the name of a file for the sake of what was in it goes when that
// goes, if it was deleted before it was made anew by that.
func TestDirectoryOfWhatIsInItFades(t *testing.T) {
	t.Parallel()
	e := newZones(t, 1)[0]
	e.write("n", pattern(1, 2000))
	e.flush()
	at := e.now() - int64(time.Hour)
	marker := e.putRecord("d", "n/", at, nil)
	marker.Op, marker.Mode, marker.Path = journal.Mkdir, syscall.S_IFDIR|0o750, "n"
	inside := e.putRecord("d", "n/x", at+2e9, pattern(2, 2000))
	e.apply(marker)
	e.apply(inside)
	e.waitFor("the directory has the name", func() bool { _, err := e.lookup("n/x"); return err == nil })
	e.apply(journal.Record{Op: journal.Delete, Path: "n/x", Time: at + 3e9, Zone: "d", Key: inside.Key, ETag: inside.ETag})
	e.apply(journal.Record{Op: journal.Rmdir, Path: "n", Time: at + 1e9, Zone: "c"})
	e.wantNone("n")
}

// Attributes that another zone sets reach a file that is open for writing and was not written.
func TestAttributesOfAnOpenRemoteFile(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.write("f", pattern(1, 200_000))
	tell(a, b)
	b.evict("f")
	h := b.mustOpen("f", syscall.O_RDWR)
	a.chmod("f", 0o600)
	a.flush()
	b.refresh()
	h.Release()
	tell(a, b)
	sameTrees(a, b)
	if got, err := b.lookup("f"); err != nil || got.Mode&0o7777 != 0o600 {
		t.Errorf("b shows mode %o (%v)", got.Mode, err)
	}
}

// Attributes that another zone set of a file that was deleted here, later than the next file
// of the name was written, are not that one's in some zones and not in others.
func TestAttributesMeetTheNextFile(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.write("f", pattern(1, 2000))
	tell(a, b)
	b.settle = time.Hour // until it flushes
	b.store.SetDown(true)
	b.unlink("f")
	b.write("f", pattern(2, 3000))
	a.ahead.Store(int64(time.Minute))
	a.chmod("f", 0o600)
	a.flush()
	b.store.SetDown(false)
	b.refresh() // before it has sent its own
	tell(a, b)
	sameTrees(a, b)
	sameTimes("f", a, b)
}

// A directory that waits for a file to give way is there then, whatever became of what was in it.
func TestDirectoryThatWaitsIsMade(t *testing.T) {
	t.Parallel()
	e := newZones(t, 1)[0]
	e.write("n", pattern(1, 2000))
	e.flush()
	e.store.SetDown(true) // so that the file cannot be kept yet
	at := e.now() - int64(time.Hour)
	for i, path := range []string{"n", "n/s"} {
		r := e.putRecord("d", path+"/", at+int64(i), nil)
		r.Op, r.Mode, r.Path = journal.Mkdir, syscall.S_IFDIR|0o750, path
		e.apply(r)
	}
	e.apply(journal.Record{Op: journal.Rmdir, Path: "n/s", Time: at + 2, Zone: "d"})
	e.store.SetDown(false)
	e.waitFor("the directory has the name", func() bool {
		a, err := e.lookup("n")
		return err == nil && a.Mode&syscall.S_IFMT == syscall.S_IFDIR
	})
}

// A marker that another zone has put in the place of one that is to be removed stays: both
// are empty, and have one tag.
func TestMarkerOfAnotherZoneStays(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("d")
	a.flush()
	a.store.Inject(storetest.Fail(storetest.Delete, cache.ErrUnavailable).On("p/d/").Always())
	a.rmdir("d")
	b.mkdirAll("d") // it has not heard of either
	b.flush()
	a.store.Clear()
	tell(a, b)
	sameTrees(a, b)
	b.wantNames("d")
	if _, there := b.object("p/d/"); !there {
		t.Error("its marker is gone")
	}
}

// The marker that was put here goes with its directory, also where that counts as another
// zone's, which made it later and removed it.
func TestMarkerOfADirectoryMadeTwice(t *testing.T) {
	t.Parallel()
	e := newZones(t, 1)[0]
	e.mkdirAll("d")
	e.flush()
	at := e.now() + int64(10*time.Second)
	e.apply(journal.Record{Op: journal.Mkdir, Path: "d", Time: at, Zone: "z", Key: "p/d/", ETag: "d41d8cd98f00b204e9800998ecf8427e", Mode: syscall.S_IFDIR | 0o755})
	e.apply(journal.Record{Op: journal.Rmdir, Path: "d", Time: at + 1, Zone: "z"})
	e.wantNone("d")
	e.waitFor("the marker goes", func() bool { _, there := e.object("p/d/"); return !there })
}

// Who sets attributes of a version that it knows from a listing has not finished that.
func TestAttributesOfAListedVersion(t *testing.T) {
	outside := time.Now()
	synctest.Test(t, func(t *testing.T) {
		h := newZoneHistory(t, 2, 1, outside, 0, 0)
		defer h.end()
		a, b := h.all[0], h.all[1]
		b.close()
		writes("x", "first")(h, a)
		a.flush()
		b.poll = time.Hour // it lists the depot, and hears of nothing before it has set them
		b.open()
		b.waitFor("the depot is listed", func() bool { s, err := b.c.Status(t.Context()); return err == nil && s.Store.Listing == "done" })
		a.settle = time.Hour // until it flushes
		writes("x", "second")(h, a)
		time.Sleep(time.Second) // the test's own time: what b does is to be later
		b.chmod("x", 0o600)
		b.flush()
		a.flush()
		tree := h.agree()
		if !strings.Contains(tree["x"], sumOf([]byte("second"))) {
			t.Errorf("all zones show %v", tree)
		}
	})
}

// A version that a delete did not know of is kept also where a third zone has put its object
// again, with attributes of its own, and has a new file of the name by then.
func TestDeleteThatDidNotKnowOfACopy(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	for _, e := range zs {
		e.c.SetTrashRetention(time.Hour)
	}
	c.write("x", pattern(1, 2000))
	tell(zs...)
	unknown := pattern(2, 2500)
	c.write("x", unknown)
	c.flush()
	a.refresh()
	a.chmod("x", 0o600)
	a.flush()
	pause()
	b.unlink("x")
	b.flush()
	a.refresh()
	a.write("x", pattern(3, 3000))
	a.flush()
	tell(zs...)
	sameTrees(zs...)
	a.keptSomewhere(unknown)
}

// A file that is renamed while it is uploaded to a name that another zone has given a file
// meanwhile is not taken for that one's older version.
func TestRenamedOntoAnothersObject(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	theirs, ours := pattern(1, 2000), pattern(2, 3000)
	b.write("n", theirs)
	b.flush()
	pause()
	a.store.Inject(storetest.Then(storetest.Put, func() { a.rename("x", "n") }).On("p/x"))
	a.write("x", ours)
	a.waitFor("the rename", func() bool { return a.store.Pending() == 0 })
	tell(a, b)
	sameTrees(a, b)
	a.mustRead("n", ours)
	a.keptSomewhere(theirs)
}

// The key of a version that was finished later is not given to one that had it before, and
// was renamed: else ours would be nowhere when a directory takes its name.
func TestKeyOfALaterVersionStays(t *testing.T) {
	t.Parallel()
	e := newZones(t, 1)[0]
	at := e.now() - int64(time.Hour)
	theirs := e.putRecord("c", "x", at, pattern(1, 2000))
	ours := pattern(2, 3000)
	if err := e.mem.Delete(t.Context(), "p/x", ""); err != nil {
		t.Fatal(err)
	}
	e.write("x", ours)
	e.flush()
	e.apply(journal.Record{Op: journal.Rename, From: "x", Path: "n", Time: at + 1e9, Zone: "b", Mode: syscall.S_IFREG})
	e.apply(theirs) // is under its old key, as far as its zone knew
	marker := e.putRecord("b", "x/", at+2e9, nil)
	marker.Op, marker.Mode, marker.Path = journal.Mkdir, syscall.S_IFDIR|0o750, "x"
	e.apply(marker)
	e.waitFor("the directory has the name", func() bool {
		a, err := e.lookup("x")
		return err == nil && a.Mode&syscall.S_IFMT == syscall.S_IFDIR
	})
	e.keptSomewhere(ours)
	e.waitFor("no object is left there", func() bool { _, there := e.object("p/x"); return !there })
}

// A file whose object a record of another name has taken is kept before a directory takes its
// name: its bytes are here alone.
func TestFileWithoutAnObjectIsKept(t *testing.T) {
	t.Parallel()
	e := newZones(t, 1)[0]
	ours := pattern(1, 3000)
	e.write("x", ours)
	e.flush()
	at := e.now() + int64(time.Second)
	theirs := e.putRecord("c", "x", at, pattern(2, 2000))
	theirs.Path = "n" // which has been renamed there, and is to be brought
	e.apply(theirs)
	marker := e.putRecord("b", "x/", at+1, nil)
	marker.Op, marker.Mode, marker.Path = journal.Mkdir, syscall.S_IFDIR|0o750, "x"
	e.apply(marker)
	e.keptSomewhere(ours)
}
