package cache_test

import (
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache/journal"
	"depotfs/cache/storetest"
)

// lastKey is the key of the last batch of a zone.
func (e *env) lastKey(zone string) string {
	e.t.Helper()
	keys := e.mem.Keys(journal.Prefix("p/", zone))
	if len(keys) == 0 {
		e.t.Fatalf("zone %s has told nothing", zone)
	}
	return keys[len(keys)-1]
}

// An event of the store brings at once what else would come with the next look.
func TestAnEventBringsWhatAnotherZoneDid(t *testing.T) {
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	for _, name := range []string{"first", "second"} {
		a.write(name, []byte("text of "+name))
		a.flush()
		if !b.c.HeardOf(a.lastKey("a")) {
			t.Fatalf("%s is no batch of another zone", a.lastKey("a"))
		}
		b.waitFor(name+" is there", func() bool {
			got, err := b.read(name)
			return err == nil && string(got) == "text of "+name
		})
	}
}

// Of a zone that joined a moment ago the other one hears by its first event.
func TestAnEventOfAnUnknownZone(t *testing.T) {
	a := newZones(t, 2)[0]
	c := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: a.mem, store: storetest.NewFaulty(a.mem), zone: "c", poll: 24 * time.Hour}
	c.open()
	t.Cleanup(c.close)
	c.refresh()
	c.write("new", []byte("from c"))
	c.flush()
	a.c.HeardOf(c.lastKey("c"))
	a.waitFor("the new zone's file is there", func() bool {
		got, err := a.read("new")
		return err == nil && string(got) == "from c"
	})
}

// Only batches of other zones count.
func TestWhatIsNoEventForUs(t *testing.T) {
	a := newZones(t, 2)[0]
	for _, key := range []string{
		"", "p/", "p/file", "other/.depotfs/journal/b/00000000000000000001", ".depotfs/journal/b/00000000000000000001",
		journal.Key("p/", "a", 1), "p/.depotfs/journal/b/1", "p/.depotfs/journal/b/", "p/.depotfs/journal/../b/00000000000000000001",
		"p/.depotfs/journal/b/00000000000000000000", "p/.depotfs/zones/b.json", "p/.depotfs/journal/b/00000000000000000001/x",
	} {
		if a.c.HeardOf(key) {
			t.Errorf("%q counts as a batch of another zone", key)
		}
	}
	if key := journal.Key("p/", "b", 1); !a.c.HeardOf(key) {
		t.Errorf("%q does not count", key)
	}
}

// A flood of events, of zones that there are or not, costs a few requests a second.
func TestAFloodOfEventsCostsLittle(t *testing.T) {
	for _, zone := range []string{"b", "nobody"} {
		t.Run(zone, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newZones(t, 2)[0]
				time.Sleep(time.Minute)
				before := a.store.ZoneCalls(storetest.List)
				const seconds = 20
				for range seconds * 1000 {
					a.c.HeardOf(journal.Key("p/", zone, 7))
					time.Sleep(time.Millisecond)
				}
				lists := a.store.ZoneCalls(storetest.List) - before
				t.Logf("%d events in %d s: %d listings", seconds*1000, seconds, lists)
				if most := seconds * 4 * 2; lists > most {
					t.Errorf("%d events in %d s cost %d listings, want at most %d", seconds*1000, seconds, lists, most)
				}
				if lists < seconds {
					t.Errorf("only %d listings in %d s: events are dropped", lists, seconds)
				}
			})
		})
	}
}
