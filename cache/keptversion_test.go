package cache_test

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/journal"
	"depotfs/cache/storetest"
)

const (
	inTrash     = "p/.depotfs/trash/20991231T000000.000000000Z/z/"
	inConflicts = "p/.depotfs/conflicts/z/20991231T000000.000000000Z/"
)

// putBy has another tool than depotfs move an object of the depot.
func (e *env) putBy(from, to string) {
	e.t.Helper()
	info, err := e.mem.Head(context.Background(), from)
	if err == nil {
		_, err = e.mem.Copy(context.Background(), from, info.ETag, to, info.Size, cache.PutOptions{Metadata: info.Metadata, CRC64: info.CRC64, HasCRC64: true})
	}
	if err == nil {
		err = e.mem.Delete(context.Background(), from, "")
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// A file whose object is gone is read from where its bytes are kept, and has an object of
// its own again, whether somebody reads it or its key is to follow a rename. What was kept stays.
func TestVersionIsFoundWhereItIsKept(t *testing.T) {
	t.Parallel()
	for _, place := range []string{inTrash, inConflicts} {
		for _, renamed := range []bool{false, true} {
			e := newEnv(t)
			data := pattern(1, 5000)
			e.write("x", data)
			e.write("other", pattern(2, 5000))
			e.flush()
			e.evict("x")
			e.putBy("p/other", place+"x") // of that name and size, and not it
			e.putBy("p/x", place+"dir/x")
			name := "x"
			if renamed {
				e.rename("x", "y")
				name = "y"
			} else {
				e.mustRead(name, data)
			}
			e.flush()
			e.wantObject("p/"+name, data)
			e.wantObject(place+"dir/x", data)
			e.evict(name)
			e.mustRead(name, data)
		}
	}
}

// Where a record is wrong about what the trash has, the file is not given those bytes.
func TestTrashThatHasOtherBytes(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	data := pattern(1, 5000)
	a.write("x", data)
	a.write("other", pattern(2, 5000))
	tell(zs...)
	b.evict("x")
	b.store.SetDown(true)
	b.rename("x", "y")
	pause()
	info, err := a.mem.Head(context.Background(), "p/x")
	if err != nil {
		t.Fatal(err)
	}
	a.putBy("p/other", inTrash+"x")
	a.putBy("p/x", inConflicts+"x")
	b.apply(journal.Record{Op: journal.Delete, Path: "x", Time: time.Now().UnixNano(), Zone: "a", Key: "p/x", ETag: info.ETag, Trash: inTrash + "x"})
	b.store.SetDown(false)
	b.flush()
	b.mustRead("y", data)
	b.wantObject("p/y", data)
}

// A file that was renamed, and whose bytes another zone has overwritten, and those it has
// overwritten them with, is given up in the end: it can be read nowhere.
func TestRenamedFileWithoutBytesIsGivenUp(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	b := renamedInVain(zs...)
	b.waitFor("b gives the file up", func() bool {
		b.ahead.Add(int64(10 * time.Second))
		b.flushFor(100 * time.Millisecond)
		return b.names()["y"] == ""
	})
	tell(zs...)
	for _, e := range zs {
		e.wantNone("y")
	}
}

// It is what another zone has put under the key of its new name by then.
func TestRenamedFileWithoutBytesIsAnOlderVersion(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	b := renamedInVain(zs...)
	older := pattern(9, 700)
	if _, err := b.mem.Put(context.Background(), "p/y", bytes.NewReader(older), int64(len(older)), cache.PutOptions{Metadata: map[string]string{"depotfs-made": "1000 b", "depotfs-version": "other-1"}}); err != nil {
		t.Fatal(err)
	}
	b.waitFor("b takes the older version", func() bool {
		b.ahead.Add(int64(10 * time.Second))
		b.flushFor(100 * time.Millisecond)
		got, err := b.lookup("y")
		return err == nil && got.Size == int64(len(older))
	})
	tell(zs...)
	for _, e := range zs {
		e.mustRead("y", older)
	}
}

// renamedInVain has the second zone rename a file x to y whose bytes vanish before they are copied.
func renamedInVain(zs ...*env) *env {
	a, b := zs[0], zs[1]
	t := b.t
	t.Helper()
	a.write("x", pattern(1, 5000))
	tell(zs...)
	b.evict("x")
	b.store.SetDown(true)
	b.rename("x", "y")
	pause()
	a.write("x", pattern(2, 6000))
	a.flush()
	b.store.Inject(storetest.Before(storetest.Copy, func(ctx context.Context, _ string) error { return a.mem.Delete(ctx, "p/x", "") }).On("p/y").Always())
	b.store.SetDown(false)
	b.waitFor("b has tried", func() bool { b.flushFor(100 * time.Millisecond); return len(a.mem.Keys("p/x")) == 0 })
	if got := b.names()["y"]; got == "" {
		t.Error("it was given up at once: who has its bytes could not tell")
	}
	return b
}

// A deleted version's object is replaced before it goes, by another zone that does not know of
// the delete and finished its version before it: the trash keeps both.
func TestTrashKeepsBothOfOneKey(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	for _, e := range zs {
		e.c.SetTrashRetention(time.Hour)
	}
	first, second := pattern(1, 1000), pattern(2, 2000)
	a.write("x", first)
	tell(zs...)
	b.store.SetDown(true)
	b.write("x", second)
	pause()
	a.store.Inject(storetest.Fail(storetest.Delete, cache.ErrUnavailable).On("p/x").Always())
	a.unlink("x")
	a.flushFor(300 * time.Millisecond)
	b.store.SetDown(false)
	b.flush()
	a.refresh()
	a.store.Clear()
	tell(zs...)
	tell(zs...)
	sameTrees(zs...)
	a.wantNone("x")
	if keys := a.mem.Keys("p/x"); len(keys) > 0 {
		t.Errorf("%v is left", keys)
	}
	for _, want := range [][]byte{first, second} {
		if !slices.ContainsFunc(a.mem.Keys("p/.depotfs/trash/"), func(key string) bool { return bytes.Equal(a.mem.Bytes(key), want) }) {
			t.Errorf("the trash does not have the version of %d bytes", len(want))
		}
	}
}

// A zone that was away hears of two versions that were finished before it renamed the file: the
// last of them is the file, but no later than what was written under the new name since.
func TestRenamedFileTakesTheLastVersionBefore(t *testing.T) {
	t.Parallel()
	for _, since := range []bool{false, true} {
		zs := newZones(t, 2)
		a, b := zs[0], zs[1]
		a.write("x", pattern(1, 5000))
		tell(zs...)
		b.evict("x")
		b.store.SetDown(true)
		want := pattern(3, 5000)
		for _, data := range [][]byte{pattern(2, 6000), want} {
			a.write("x", data)
			a.flush()
		}
		pause()
		b.rename("x", "y")
		if since {
			pause()
			want = pattern(4, 100)
			a.write("y", want)
			a.flush()
		}
		b.store.SetDown(false)
		tell(zs...)
		tell(zs...)
		sameTrees(zs...)
		for _, e := range zs {
			e.wantNone("x")
			e.mustRead("y", want)
		}
	}
}

// Each version that another zone tells of late is the file's, if it was finished before the rename.
func TestEachVersionBeforeARenameIsTaken(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.write("x", pattern(1, 5000))
	tell(zs...)
	b.evict("x")
	b.store.SetDown(true)
	var puts []journal.Record
	for i := range 3 {
		pause()
		puts = append(puts, journal.Record{Op: journal.Put, Path: "x", Time: time.Now().UnixNano(), Zone: "a", Key: "p/x", ETag: "e" + strconv.Itoa(i), Size: int64(1000 + i), Mode: 0o100644})
	}
	pause()
	b.rename("x", "z")
	b.rename("z", "y")
	for _, r := range puts {
		b.apply(r)
		if got, err := b.lookup("y"); err != nil || got.Size != r.Size {
			t.Errorf("it has %d bytes (%v), want %d", got.Size, err, r.Size)
		}
	}
}

// Bytes that vanish while nobody tells of anything are waited for: another zone may have them.
func TestRenamedFileWithoutBytesStays(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	data := pattern(1, 5000)
	a.write("x", data)
	tell(zs...)
	b.evict("x")
	if err := a.mem.Delete(context.Background(), "p/x", ""); err != nil {
		t.Fatal(err)
	}
	b.rename("x", "y")
	b.flushFor(100 * time.Millisecond)
	b.ahead.Add(int64(5 * time.Minute)) // longer than it is waited for what others tell
	tries := b.store.Calls(storetest.Copy)
	b.waitFor("b tries again", func() bool {
		b.ahead.Add(int64(10 * time.Second))
		b.flushFor(100 * time.Millisecond)
		return b.store.Calls(storetest.Copy) > tries+2
	})
	a.refresh()
	a.mustRead("y", data)
	if b.names()["y"] == "" {
		t.Error("it is gone")
	}
}

// A zone that has the bytes of a file sends them, where the zone that renamed it has not, and a
// third one has replaced them.
func TestBytesOfARenamedFileAreSentByWhoHasThem(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	data, other := pattern(1, 5000), pattern(2, 6000)
	a.write("x", data)
	tell(zs...)
	c.mustRead("x", data)
	b.evict("x")
	b.store.Inject(storetest.Fail(storetest.Copy, cache.ErrUnavailable).On("p/y").Always())
	b.rename("x", "y")
	c.waitFor("c hears of the rename", func() bool {
		b.flushFor(100 * time.Millisecond)
		c.refresh()
		return c.names()["y"] != ""
	})
	b.store.SetDown(true)
	pause()
	a.write("x", other) // not knowing of it
	a.flush()
	c.refresh()
	c.mustRead("y", data)
	c.mustRead("x", other)
	c.flush()
	c.wantObject("p/y", data)
	b.store.Clear()
	b.store.SetDown(false)
	tell(zs...)
	tell(zs...)
	sameTrees(zs...)
	for _, e := range zs {
		e.mustRead("x", other)
		e.mustRead("y", data)
	}
}

// The rename of a file is applied while its upload finds another zone's later file under its
// former name: that one is not this file, nor is its object moved.
func TestRenamedWhileItLosesItsFormerName(t *testing.T) {
	t.Parallel()
	for _, inParts := range []bool{false, true} {
		zs := newZones(t, 2)
		a, b := zs[0], zs[1]
		if inParts {
			b.close()
			b.mem.MinPart, b.limits = modelGrain, cache.Limits{PartSize: modelGrain, SmallestPart: modelGrain}
			b.open()
			b.refresh()
		}
		a.write("x", pattern(1, 5000))
		tell(zs...)
		b.store.SetDown(true)
		ours, theirs := pattern(2, 4*modelGrain), pattern(3, 3000)
		b.write("x", ours)
		pause()
		a.rename("x", "y")
		a.write("x", theirs)
		a.flush()
		op := storetest.Put
		if inParts {
			op = storetest.Complete
		}
		var told atomic.Bool
		b.store.Inject(storetest.Before(op, func(context.Context, string) error {
			told.Store(true)
			b.refresh()
			return nil
		}).On("/conflicts/"))
		b.store.SetDown(false)
		b.flush()
		if !told.Load() {
			t.Fatal("nothing was kept as a conflict: the test tests nothing")
		}
		tell(zs...)
		if s, err := a.c.Status(context.Background()); err != nil || len(s.Problems) > 0 {
			t.Errorf("in parts: %v; zone a has the problems %+v (%v)", inParts, s.Problems, err)
		}
		sameTrees(zs...)
		for _, e := range zs {
			e.mustRead("x", theirs)
			e.mustRead("y", ours)
		}
		a.wantObject("p/x", theirs)
		a.wantObject("p/y", ours)
		if keys := a.mem.Keys("p/.depotfs/conflicts/"); len(keys) > 0 {
			t.Errorf("in parts: %v; kept is %v, and nothing lost its name", inParts, keys)
		}
	}
}
