package cache_test

import (
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/journal"
	"depotfs/cache/storetest"
)

// The bytes of a file that was renamed are gone when the zone comes to copy them: another one,
// not knowing of the rename, has replaced them, and has deleted its version since. The file is
// there, with what the trash has.
func TestRenamedBytesWereReplacedAndDeleted(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	for _, e := range zs {
		e.c.SetTrashRetention(time.Hour)
	}
	a.write("x", pattern(1, 2000))
	tell(zs...)
	b.evict("x")
	c.evict("x")
	b.store.SetDown(true)
	b.rename("x", "y")
	pause()
	replaced := pattern(2, 3000)
	a.write("x", replaced)
	a.flush()
	a.unlink("x")
	a.flush()
	b.store.SetDown(false)
	tell(zs...)
	tell(zs...)
	sameTrees(zs...)
	for _, e := range zs {
		e.wantNone("x")
		e.mustRead("y", replaced)
	}
}

// Attributes that another zone has set under the old name of a file before it hears of the
// rename are those of the file; ones that are set under the new name later stay.
func TestAttributesFollowARename(t *testing.T) {
	t.Parallel()
	for _, later := range []bool{false, true} {
		zs := newZones(t, 3)
		a, b, c := zs[0], zs[1], zs[2]
		a.write("x", pattern(1, 2000))
		tell(zs...)
		b.store.SetDown(true)
		b.rename("x", "y")
		pause()
		a.chmod("x", 0o600)
		a.flush()
		want := uint32(0o600)
		pause()
		if later {
			b.chmod("y", 0o640)
			want = 0o640
		}
		b.store.SetDown(false)
		tell(zs...)
		sameTrees(zs...)
		for _, e := range zs {
			if got, err := e.lookup("y"); err != nil || got.Mode&0o7777 != want {
				t.Errorf("set later: %v; zone %s shows mode %o (%v), want %o", later, e.zone, got.Mode, err, want)
			}
		}
		c.evict("y")
		c.mustRead("y", pattern(1, 2000))
	}
}

// Of attributes that two zones have set under the old name the later ones count, in whatever
// order they are heard of.
func TestAttributesOfTwoZonesFollowARename(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		a := newZones(t, 1)[0]
		a.write("x", pattern(1, 2000))
		a.flush()
		pause()
		first := journal.Record{Op: journal.Attr, Path: "x", Time: a.now(), Zone: "z", Mode: syscall.S_IFREG | 0o600}
		pause()
		second := journal.Record{Op: journal.Attr, Path: "x", Time: a.now(), Zone: "b", Mode: syscall.S_IFREG | 0o640}
		pause()
		a.rename("x", "y")
		for _, i := range order {
			a.apply([]journal.Record{first, second}[i])
		}
		a.wantMode("y", 0o640)
	}
}

// A file whose object another zone has replaced before the rename is not sent as it was, even
// while that zone has not told of it yet.
func TestReplacedBeforeARenameAndToldLate(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.write("x", pattern(1, 2000))
	tell(zs...)
	b.mustRead("x", pattern(1, 2000))
	a.store.Inject(storetest.Fail(storetest.Put, cache.ErrUnavailable).On("/journal/a/").Always())
	written := pattern(2, 3000)
	a.write("x", written)
	a.waitFor("a has sent it", func() bool {
		a.flushFor(50 * time.Millisecond)
		_, n := a.object("p/x")
		return n && len(a.mem.Bytes("p/x")) == 3000
	})
	pause()
	b.rename("x", "y")
	b.flushFor(time.Second)
	a.store.Clear()
	tell(zs...)
	tell(zs...)
	sameTrees(zs...)
	for _, e := range zs {
		e.wantNone("x")
		e.mustRead("y", written)
	}
}

// Who has another version of a file than the one that was renamed gives the new name that one.
func TestRenameSaysWhichVersion(t *testing.T) {
	t.Parallel()
	a := newZones(t, 1)[0]
	a.write("x", pattern(1, 1000))
	a.flush()
	pause()
	r := a.putRecord("z", "w", time.Now().UnixNano(), pattern(2, 1500))
	r.Op, r.From, r.Path, r.Mode = journal.Rename, "x", "y", syscall.S_IFREG|0o644
	a.apply(r)
	a.wantNone("x")
	if got, err := a.lookup("y"); err != nil || got.Size != 1500 {
		t.Errorf("y has %d bytes (%v), want those of the version that was renamed", got.Size, err)
	}
	if b, there := a.object("p/x"); !there || len(b) != 1000 {
		t.Error("the version that the other zone did not know of goes before that zone can have heard of it")
	}
}

// A rename of another zone names the key that its version had. Where a file was deleted here
// since that had its object there, that one still goes to the trash.
func TestRenameDoesNotEndARemoval(t *testing.T) {
	t.Parallel()
	a := newZones(t, 1)[0]
	a.c.SetTrashRetention(time.Hour)
	data := pattern(1, 1000)
	a.write("x", data)
	a.flush()
	a.store.SetDown(true)
	a.unlink("x")
	r := a.putRecord("z", "w", time.Now().UnixNano(), pattern(2, 1500))
	r.Op, r.From, r.Path, r.Key, r.Mode = journal.Rename, "w", "y", "p/x", syscall.S_IFREG|0o644
	a.apply(r)
	a.store.SetDown(false)
	a.flush()
	a.keptSomewhere(data)
}
