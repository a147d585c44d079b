package cache_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// registry counts what zones ask for their registrations.
type registry struct {
	cache.Store
	n atomic.Int64
}

func (s *registry) see(key string) {
	if strings.HasPrefix(key, "p/.depotfs/zones/") {
		s.n.Add(1)
	}
}

func (s *registry) List(ctx context.Context, q cache.ListQuery, page func(cache.ListPage) error) error {
	s.see(q.Prefix)
	return s.Store.List(ctx, q, page)
}

func (s *registry) Get(ctx context.Context, key string, off, n int64, ifMatch string) (io.ReadCloser, cache.ObjectInfo, error) {
	s.see(key)
	return s.Store.Get(ctx, key, off, n, ifMatch)
}

func (s *registry) Head(ctx context.Context, key string) (cache.ObjectInfo, error) {
	s.see(key)
	return s.Store.Head(ctx, key)
}

func (s *registry) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	s.see(key)
	return s.Store.Put(ctx, key, body, size, o)
}

func (s *registry) Delete(ctx context.Context, key, ifMatch string) error {
	s.see(key)
	return s.Store.Delete(ctx, key, ifMatch)
}

// To say that it is alive and to know of the others costs a zone three requests a minute,
// however many zones there are, and it is seen to be alive all the time.
func TestIdleZonesRegisterCheaply(t *testing.T) {
	const zones, minutes = 4, 10
	for _, conditions := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			mem := storetest.NewMem()
			var all []*env
			var asked []*registry
			for i := range zones {
				r := &registry{Store: mem}
				e := &env{t: t, zone: string(rune('a' + i)), share: t.TempDir(), state: t.TempDir(), mem: mem, store: storetest.NewFaulty(r)}
				if !conditions {
					e.store = storetest.NewFaulty(unconditional{r})
				}
				e.open()
				defer e.close()
				e.joined()
				all, asked = append(all, e), append(asked, r)
			}
			time.Sleep(5 * time.Minute) // each has read of all others
			var before []int64
			for _, r := range asked {
				before = append(before, r.n.Load())
			}
			for range minutes {
				time.Sleep(time.Minute)
				for _, e := range all {
					if s := e.status().Zones; s.Alive != zones-1 || s.BeatSeconds > 61 {
						t.Errorf("zone %s sees %+v", e.zone, s)
					}
				}
			}
			for i, r := range asked {
				if n := r.n.Load() - before[i]; n > 3*minutes+1 || n < 2*minutes {
					t.Errorf("zone %s asked %d times in %d minutes", all[i].zone, n, minutes)
				}
			}
		})
	}
}

// zonesOf is what `depotfs zones` shows, by name.
func (e *env) zonesOf() map[string]cache.ZoneStatus {
	e.t.Helper()
	all, err := e.c.Zones(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	if all[0].Zone != e.c.ZoneName() || all[0].State != "this" {
		e.t.Errorf("the first zone shown is %+v", all[0])
	}
	m := map[string]cache.ZoneStatus{}
	for _, z := range all {
		m[z.Zone] = z
	}
	return m
}

func TestZonesShowHowFarTheyAre(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.joined()
	b := e.beside("b")
	b.open()
	b.joined()
	if z := e.zonesOf()["b"]; z.State != "alive" || z.Host == "" || z.SeenSeconds > 30 || z.Behind.Batches+z.Waiting.Batches != 0 {
		t.Errorf("a zone that has just joined is %+v", z)
	}
	b.close()
	e.mkdirAll("volumes/1")
	e.write("volumes/1/f", []byte("x"))
	e.flush()
	z := e.zonesOf()["b"]
	if z.State != "ended" || z.Waiting.Batches < 1 || z.Waiting.Records < 3 || z.Behind.Batches != 0 {
		t.Errorf("a zone that ended before three changes is %+v", z)
	}
	if s := e.status().Zones; s.Ended != 1 || s.Alive != 0 || s.Waiting != z.Waiting.Batches {
		t.Errorf("status says %+v", s)
	}
	b.open()
	b.joined()
	b.waitFor("the zone has heard of everything", func() bool { return b.zonesOf()["z1"].Behind.Batches == 0 && b.c.Refresh(t.Context()) == nil })
	if err := cache.BeatZone(b.c); err != nil {
		t.Fatal(err)
	}
	if z := e.zonesOf()["b"]; z.State != "alive" || z.Waiting.Batches != 0 {
		t.Errorf("a zone that has heard of everything is %+v", z)
	}
	b.die()
	e.later(4 * time.Minute)
	e.ahead.Store(int64(4 * time.Minute))
	if z := e.zonesOf()["b"]; z.State != "silent" || z.SeenSeconds < 200 {
		t.Errorf("a zone that was killed 4 minutes ago is %+v", z)
	}
}

// A zone is removed when it is not alive. What it told is read by those who have not yet,
// before it is forgotten, and its files stay.
func TestRemoveZone(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.joined()
	slow, gone := e.beside("slow"), e.beside("gone")
	for _, o := range []*env{slow, gone} {
		o.open()
		o.joined()
	}
	ctx := t.Context()
	for zone, want := range map[string]string{"z1": "this mount's", "gone": "is alive", "nobody": "knows no zone", "../x": "no name of a zone"} {
		if err := e.c.RemoveZone(ctx, zone); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("remove %s: %v", zone, err)
		}
	}
	slow.close()
	gone.write("f", []byte("x"))
	gone.flush()
	gone.die()
	if err := e.c.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if err := e.c.RemoveZone(ctx, "gone"); err == nil || !strings.Contains(err.Error(), "its lease ends at") {
		t.Errorf("remove a zone that may be alive: %v", err)
	}
	e.later(4 * time.Minute)
	e.ahead.Store(int64(4 * time.Minute))
	if err := e.c.RemoveZone(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	if z := e.zonesOf()["gone"]; z.State != "removed" || z.LastBatch != 1 {
		t.Errorf("removed while another zone has not read its journal: %+v", z)
	}
	slow.open()
	slow.joined()
	slow.waitFor("the slow zone has read it", func() bool { return slow.c.Refresh(ctx) == nil && cache.Cursor(slow.c, "gone") == 1 })
	for _, o := range []*env{slow, e} {
		if err := cache.BeatZone(o.c); err != nil {
			t.Fatal(err)
		}
	}
	e.waitFor("it is forgotten", func() bool {
		if err := cache.BeatZone(e.c); err != nil {
			t.Fatal(err)
		}
		_, known := e.zonesOf()["gone"]
		return !known
	})
	e.wantObject("p/f", []byte("x"))
	if n := len(e.told("gone")); n != 1 {
		t.Errorf("of its journal %d records are left", n)
	}
}

// What others write under zones/ is shown and does no harm.
func TestBadRegistrations(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.joined()
	for name, text := range map[string]string{
		"junk.json": "{", "big.json": strings.Repeat(" ", 70<<10), "newer.json": `{"format":2,"zone":7}`, "other.json": `{"format":1,"zone":"z1","instance":"i","state":"running"}`,
		"readme.txt": "x", "a/b.json": "x", "..json": "x",
	} {
		if _, err := e.mem.Put(t.Context(), "p/.depotfs/zones/"+name, bytes.NewReader([]byte(text)), int64(len(text)), cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	all := e.zonesOf()
	for _, zone := range []string{"junk", "big", "newer", "other"} {
		if all[zone].State != "unreadable" || all[zone].Error == "" {
			t.Errorf("%s is %+v", zone, all[zone])
		}
	}
	if len(all) != 5 {
		t.Errorf("zones: %+v", all)
	}
	if got := len(e.status().Problems); got != 4 {
		t.Errorf("%d problems: %+v", got, e.status().Problems)
	}
	e.write("f", []byte("x"))
	e.flush()
	// A newer one is left alone for good, and a damaged one until nobody can own it.
	newer, junk := e.beside("newer"), e.beside("junk")
	newer.open()
	if why := newer.refused(); !strings.Contains(why, "newer depotfs") {
		t.Errorf("it says: %s", why)
	}
	junk.open()
	if why := junk.refused(); !strings.Contains(why, "damaged") {
		t.Errorf("it says: %s", why)
	}
	e.later(4 * time.Minute)
	junk.joined()
	if err := cache.CheckJoin(t.Context(), e.mem, cache.Config{Zone: "newer", Prefix: "p/"}, nil); err == nil {
		t.Error("a newer registration is replaced after a while")
	}
}

// FuzzZone: whatever is read of a registration can be shown and written again.
func FuzzZone(f *testing.F) {
	f.Add([]byte(`{"format":1,"zone":"z","state":"running","instance":"i","run":"r","host":"h","started":"2026-11-25T02:00:00Z","heartbeat":"2026-11-25T02:00:00Z","last":7,"cursors":{"a":18446744073709551615}}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"zone":"z","state":"removed","instance":"i","last":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := cache.RewriteZone(b, "z"); err != nil {
			t.Fatal(err)
		}
	})
}
