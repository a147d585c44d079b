package cache_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"depotfs/cache/journal"
)

// Clocks that are wrong decide which of two versions has a name, and never that one of them
// is nowhere.

// keptSomewhere waits until the depot keeps bytes beside the tree.
func (e *env) keptSomewhere(body []byte) {
	e.t.Helper()
	e.waitFor("they are kept", func() bool {
		return slices.ContainsFunc(e.mem.Keys("p/.depotfs/"), func(key string) bool { return bytes.Equal(e.mem.Bytes(key), body) })
	})
}

// What a delete did not know of, and what another version did not replace, is kept.
func TestVersionThatNobodyKnewOf(t *testing.T) {
	t.Parallel()
	ahead := time.Now().Add(time.Hour).UnixNano()
	for _, trash := range []time.Duration{0, time.Hour} {
		for _, r := range []journal.Record{
			{Op: journal.Delete, Path: "x", Zone: "z", Key: "p/x"},
			{Op: journal.Put, Path: "x", Zone: "z", Key: "p/x", Size: 3, Mode: 0o100644, Mtime: 1},
		} {
			a := newZones(t, 1)[0]
			a.c.SetTrashRetention(trash)
			a.write("x", pattern(1, 1000))
			a.flush()
			unknown := pattern(2, 2000)
			a.write("x", unknown)
			a.flush()
			r.Time, r.ETag = ahead, "one-that-went"
			a.apply(r)
			a.keptSomewhere(unknown)
			a.waitFor("its object goes", func() bool { _, there := a.object("p/x"); return !there })
			if r.Op == journal.Delete {
				a.wantNone("x")
			}
		}
	}
}

// Versions that come, one after the other, with times before a delete are all kept.
func TestVersionsTooLateAreAllKept(t *testing.T) {
	t.Parallel()
	for _, trash := range []time.Duration{0, time.Hour} {
		a := newZones(t, 1)[0]
		a.c.SetTrashRetention(trash)
		a.write("x", pattern(1, 1000))
		a.flush()
		before := time.Now().UnixNano()
		pause()
		a.unlink("x")
		a.flush()
		for i := range 3 {
			body := pattern(uint64(10+i), 500)
			a.apply(a.putRecord("z", "x", before, body))
			a.waitFor("its object goes", func() bool { _, there := a.object("p/x"); return !there })
		}
		for i := range 3 {
			a.keptSomewhere(pattern(uint64(10+i), 500))
		}
		a.wantNone("x")
	}
}

// A file that others deleted, at a time before it was made, is read from the trash; that it
// is deleted here too reaches them.
func TestDeleteOfWhatIsInTheTrash(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.write("x", pattern(1, 1000))
	tell(a, b)
	info, err := a.mem.Head(context.Background(), "p/x")
	if err != nil {
		t.Fatal(err)
	}
	a.apply(journal.Record{Op: journal.Delete, Path: "x", Time: 1, Zone: "z", Key: "p/x", ETag: info.ETag, Trash: "p/.depotfs/trash/20200101T000000.000000000Z/z/x"})
	a.unlink("x")
	tell(a, b)
	b.wantNone("x")
}

// The object says of when it is what the other zones are told, also where a delete was heard
// of whose clock is ahead.
func TestMomentOfAnObject(t *testing.T) {
	t.Parallel()
	a := newZones(t, 1)[0]
	ahead := time.Now().Add(time.Hour).UnixNano()
	a.apply(journal.Record{Op: journal.Delete, Path: "x", Time: ahead, Zone: "z"})
	a.write("x", pattern(1, 1000))
	a.flush()
	if at := a.madeAt("p/x"); at <= ahead {
		t.Errorf("the object is of %d, the delete before it of %d", at, ahead)
	}
}

// Attributes of a file that is no more, set at a time after the next one of that name was
// made, are that one's in all zones: some hear of them last.
func TestAttributesOfTheFileBefore(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	a.write("x", pattern(1, 1000))
	tell(zs...)
	ahead := time.Now().Add(time.Hour).UnixNano()
	attrs := journal.Record{Op: journal.Attr, Path: "x", Time: ahead, Zone: "z", Mode: 0o100600, UID: me.UID, GID: me.GID, Mtime: 5}
	b.apply(attrs) // before the delete
	a.unlink("x")
	a.flush()
	pause()
	a.write("x", pattern(2, 1000))
	a.flush()
	c.refresh()
	c.apply(attrs) // last
	a.apply(attrs)
	tell(zs...)
	sameTrees(zs...)
	for _, e := range zs {
		e.wantMode("x", 0o600)
	}
}

// The version that loses a conflict takes nothing of the winner's attributes away, unless
// they were set later.
func TestAttributesOfALoser(t *testing.T) {
	t.Parallel()
	for _, later := range []bool{false, true} {
		zs := newZones(t, 2)
		a, b := zs[0], zs[1]
		a.write("x", pattern(1, 1000))
		tell(a, b)
		b.settle = time.Hour // until it flushes
		b.write("x", pattern(2, 1000))
		if !later {
			b.chmod("x", 0o600)
		}
		pause()
		a.write("x", pattern(3, 1000))
		a.flush()
		pause()
		want := uint32(0o644)
		if later {
			b.chmod("x", 0o600)
			want = 0o600
		}
		tell(b, a)
		tell(a, b)
		sameTrees(a, b)
		for _, e := range zs {
			e.wantMode("x", want)
			e.mustRead("x", pattern(3, 1000))
		}
		first, err := a.lookup("x")
		if err != nil {
			t.Fatal(err)
		}
		if second, err := b.lookup("x"); err != nil || second.Mtime != first.Mtime {
			t.Errorf("later %v: modified at %d in one zone and at %d in the other (%v)", later, first.Mtime, second.Mtime, err)
		}
	}
}
