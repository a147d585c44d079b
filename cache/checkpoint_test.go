package cache_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/journal"
	"depotfs/cache/storetest"
)

// sumUp has a zone write a checkpoint and trim the journals. Zones say with their next beat
// how far they have read: restarting them has them say so now.
func (e *env) sumUp() {
	e.t.Helper()
	if err := cache.Checkpoint(context.Background(), e.c); err != nil {
		e.t.Fatalf("zone %s: checkpoint: %v", e.zone, err)
	}
}

// batches is how many batches of a zone are in the depot.
func (e *env) batches(zone string) int { return len(e.mem.Keys("p/.depotfs/journal/" + zone + "/")) }

// chat makes n batches of a zone.
func (e *env) chat(n int) {
	e.t.Helper()
	for i := range n {
		e.write("chat", []byte(fmt.Sprint(i, time.Now())))
		e.flush()
	}
}

// saysSo has zones tell the depot how far they have read.
func saysSo(zs ...*env) {
	for _, e := range zs {
		e.restart()
		e.refresh()
	}
}

// What all zones have read goes, but for the last batch; what one of them has not read stays,
// until it was removed by a person.
func TestTrimWaitsForTheLastZone(t *testing.T) {
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	a.write("x", []byte("x"))
	tell(zs...)
	c.close() // it has read the first
	before := a.batches("a")
	a.chat(5)
	a.unlink("x")
	a.flush()
	b.refresh()
	saysSo(b)
	a.sumUp()
	if n := a.batches("a"); n < 6 {
		t.Fatalf("%d batches are left of %d; zone c has not read 6 of them", n, before+6)
	}
	c.open()
	c.refresh()
	c.wantNone("x")
	sameTrees(zs...)
	saysSo(c)
	a.sumUp()
	if n := a.batches("a"); n != 1 {
		t.Errorf("%d batches are left, all have read all: want the last", n)
	}
	c.close()
	a.chat(4)
	b.refresh()
	saysSo(b)
	a.sumUp()
	if n := a.batches("a"); n < 4 {
		t.Errorf("%d batches are left, zone c has not read 4", n)
	}
	if err := a.c.RemoveZone(context.Background(), "c"); err != nil {
		t.Fatal(err)
	}
	a.sumUp()
	if n := a.batches("a"); n != 1 {
		t.Errorf("%d batches are left for a zone that was removed", n)
	}
	// The numbers go on, and those who have read all go on with them.
	a.restart()
	a.chat(2)
	tell(a, b)
	sameTrees(a, b)
}

// A zone that comes when the journals were trimmed has what they said from a checkpoint: also
// of what the listing does not show.
func TestNewZoneStartsFromCheckpoint(t *testing.T) {
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("d/empty")
	a.write("d/x", []byte("first"))
	a.write("d/y", []byte("y"))
	tell(zs...)
	a.write("d/x", []byte("second"))
	b.rename("d/y", "d/z")
	tell(zs...)
	b.write("d/y", []byte("another y"))
	a.chmod("d/x", 0o600) // the object's metadata does not have it
	tell(zs...)
	saysSo(zs...)
	a.sumUp()
	if n, m := a.batches("a"), a.batches("b"); n != 1 || m != 1 {
		t.Fatalf("%d and %d batches are left", n, m)
	}
	a.chat(2) // behind the checkpoint
	n := a.late("c")
	n.open()
	n.listed()
	x, y, z := n.inoOf("d/x"), n.inoOf("d/y"), n.inoOf("d/z") // mounted and usable
	n.refresh()
	b.refresh()
	if n.inoOf("d/x") != x || n.inoOf("d/y") != y || n.inoOf("d/z") != z {
		t.Error("files were replaced by what they are")
	}
	sameTrees(a, b, n)
	// It knows since when the names are: what is older does not count.
	old := a.putRecord("b", "d/x", time.Now().Add(-time.Hour).UnixNano(), []byte("old"))
	old.Key, old.ETag = "p/d/x", "other"
	n.apply(old)
	n.mustRead("d/x", []byte("second"))
	for _, e := range []*env{a, b, n} {
		e.wantNone("gone")
	}
	n.write("d/new", []byte("from the new one"))
	tell(a, b, n)
	sameTrees(a, b, n)
}

// A zone that was away for longer than the journals are kept loses what was deleted meanwhile,
// bytes and all, has what was renamed without fetching it again, and keeps what it made itself.
func TestZoneThatWasAwayMissesNoDelete(t *testing.T) {
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	a.mkdirAll("d")
	for _, name := range []string{"d/gone", "d/moved", "d/stays", "d/written"} {
		a.write(name, []byte(name))
	}
	tell(zs...)
	for _, name := range []string{"d/gone", "d/moved", "d/stays", "d/written"} {
		c.mustRead(name, []byte(name)) // here
	}
	c.close()
	a.unlink("d/gone")
	a.rename("d/moved", "d/there")
	a.write("d/written", []byte("anew"))
	a.flush()
	a.chat(3)
	b.refresh()
	saysSo(b)
	// What a trim does when the zone was away for too long: it is past waiting for.
	a.forget("p/.depotfs/zones/c.json")
	a.sumUp()
	if n := a.batches("a"); n != 1 {
		t.Fatalf("%d batches are left", n)
	}
	c.open()
	c.refresh()
	c.wantNone("d/gone")
	c.wantNone("d/moved")
	for _, name := range []string{"d/written", "chat"} { // which are fetched by themselves
		c.waitFor(name+" to be here", func() bool {
			st, err := c.c.StatPath(context.Background(), name)
			return err == nil && st.State == "clean"
		})
	}
	gets := c.store.Calls(storetest.Get)
	c.mustRead("d/there", []byte("d/moved"))
	c.mustRead("d/stays", []byte("d/stays"))
	if n := c.store.Calls(storetest.Get) - gets; n > 0 {
		t.Errorf("%d requests for bytes that are here", n)
	}
	c.mustRead("d/written", []byte("anew"))
	tell(zs...)
	sameTrees(zs...)
}

// A batch, or a page, that goes while it is read costs nothing: the next look has it from a
// checkpoint.
func TestTrimMeetsReader(t *testing.T) {
	for _, what := range []string{"journal/a/", "checkpoint/"} {
		zs := newZones(t, 2)
		a, b := zs[0], zs[1]
		a.write("x", []byte("x"))
		tell(zs...)
		b.close()
		a.unlink("x")
		a.flush()
		a.chat(3)
		a.forget("p/.depotfs/zones/b.json")
		if what == "checkpoint/" {
			a.sumUp()
		}
		once := false
		b.store.Inject(storetest.Before(storetest.Get, func(_ context.Context, key string) error {
			if once || !strings.Contains(key, what) || strings.HasSuffix(key, ".json") {
				return nil
			}
			once = true
			if what == "checkpoint/" { // the one that is read goes with the second one after it
				a.sumUp()
				a.sumUp()
				a.chat(1)
				a.sumUp()
				return nil
			}
			for _, k := range a.mem.Keys("p/.depotfs/zones/b.json") {
				a.forget(k) // as if it were away for too long
			}
			a.sumUp()
			return nil
		}).Always())
		b.open()
		b.listed()
		b.waitFor("its loops run", func() bool { return !errors.Is(b.c.Refresh(context.Background()), cache.ErrUnavailable) })
		for try := 0; ; try++ {
			err := b.c.Refresh(context.Background())
			if err == nil {
				break
			}
			if try == 3 || !errors.Is(err, cache.ErrNotFound) && !errors.Is(err, cache.ErrUnavailable) {
				t.Fatalf("%s: refresh: %v", what, err)
			}
		}
		if !once {
			t.Fatalf("%s: nothing was trimmed", what)
		}
		b.wantNone("x")
		tell(zs...)
		sameTrees(zs...)
	}
}

// A daemon that ends at any request while it writes a checkpoint or trims loses nothing.
func TestCheckpointEndsAnywhere(t *testing.T) {
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	for i := 0; ; i++ {
		a.write("x", []byte(fmt.Sprint(i)))
		a.write("y", []byte(fmt.Sprint(i)))
		a.unlink("y")
		a.flush()
		b.refresh()
		saysSo(b)
		var n int
		a.store.Inject(storetest.Before(storetest.Any, func(_ context.Context, key string) error {
			if !strings.Contains(key, "/checkpoint/") && !strings.Contains(key, "/journal/") {
				return nil
			}
			if n++; n > i {
				return fmt.Errorf("the end: %w", cache.ErrDenied)
			}
			return nil
		}).On("p/").Always())
		err := cache.Checkpoint(context.Background(), a.c)
		a.store.Clear()
		fresh := a.late(fmt.Sprintf("n%d", i))
		fresh.open()
		fresh.listed()
		fresh.refresh()
		fresh.wantNone("y")
		fresh.mustRead("x", []byte(fmt.Sprint(i)))
		fresh.close()
		if rerr := a.c.RemoveZone(context.Background(), fresh.zone); rerr != nil {
			t.Fatal(rerr)
		}
		a.restart()
		if err == nil && n <= i {
			t.Logf("%d requests", n)
			break
		}
		if i == 40 {
			t.Fatalf("it never came to its end: %v", err)
		}
	}
	a.sumUp()
	if n := a.batches("a"); n != 1 {
		t.Errorf("%d batches are left", n)
	}
	tell(a, b)
	sameTrees(a, b)
}

// One zone at a time writes checkpoints, and one that is not due costs no request.
func TestCheckpointIsOnesAffair(t *testing.T) {
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.chat(2)
	b.refresh()
	a.sumUp()
	b.sumUp() // a has the lease
	index := func() (n int) {
		for _, k := range a.mem.Keys("p/.depotfs/checkpoint/") {
			if strings.HasSuffix(k, "index.json") {
				n++
			}
		}
		return n
	}
	if n := index(); n != 1 {
		t.Errorf("%d checkpoints", n)
	}
	for range 3 {
		a.chat(1)
		a.sumUp()
	}
	if n := index(); n != 2 {
		t.Errorf("%d checkpoints are kept, want 2", n)
	}
	before := b.store.ZoneCalls(storetest.Any)
	for range 5 {
		if err := cache.LookForCheckpoint(context.Background(), b.c); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.store.ZoneCalls(storetest.Any) - before; n > 1 { // a beat may come in between
		t.Errorf("%d requests for no checkpoint", n)
	}
}

// What somebody puts where checkpoints are is no reason to believe it, or to fail.
func TestCheckpointsOfOthers(t *testing.T) {
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.write("x", []byte("x"))
	tell(zs...)
	b.close()
	a.chat(3)
	put := func(n uint64, text string) {
		k := journal.IndexKey("p/", n)
		if _, err := a.mem.Put(context.Background(), k, strings.NewReader(text), int64(len(text)), cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b.forget(a.mem.Keys("p/.depotfs/journal/a/")[2])
	lie, err := journal.EncodeIndex(journal.Index{Zone: "a", Made: 1, Epoch: "e", Cursors: map[string]uint64{"a": 1 << 60}})
	if err != nil {
		t.Fatal(err)
	}
	put(1<<62, string(lie))
	put(1<<62+1, "{")
	put(1<<62+2, strings.Repeat(" ", journal.MaxIndex+1))
	b.open()
	b.refresh()
	a.forget(journal.IndexKey("p/", 1<<62))
	a.write("y", []byte("y"))
	a.flush()
	a.sumUp()
	b.refresh()
	sameTrees(a, b)
}

// forget removes an object as another program would.
func (e *env) forget(key string) {
	e.t.Helper()
	if err := e.mem.Delete(context.Background(), key, ""); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) chmod(path string, mode uint32) {
	e.t.Helper()
	if _, err := e.c.SetAttr(context.Background(), e.inoOf(path), nil, cache.SetAttr{Valid: cache.SetMode, Mode: mode}); err != nil {
		e.t.Fatal(err)
	}
}
