package cache_test

import (
	"errors"
	"strings"
	"testing"

	"depotfs/cache"
)

// A depot is one CloudStack region's.
func TestRegionGuard(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		made    string // region of the zone that makes the depot
		region  string // of the zone that joins
		refused string
		depot   string // the region that the depot has then
	}{
		{name: "the same", made: "eu", region: "eu", depot: "eu"},
		{name: "none at all"},
		{name: "another", made: "eu", region: "us", refused: `belongs to the CloudStack region "eu", this zone to "us"`, depot: "eu"},
		{name: "other letters", made: "eu", region: "EU", refused: `this zone to "EU"`, depot: "eu"},
		{name: "a newcomer that names none", made: "eu", refused: "say --depot-region eu", depot: "eu"},
		{name: "the first that names one", region: "eu", depot: "eu"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first := newEnv(t)
			if tt.made != "" {
				first.close()
				first.mem.Delete(t.Context(), "p/.depotfs/depot.json", "")
				first = first.beside("first")
				first.region = tt.made
				first.open()
			}
			first.joined()
			e := first.beside("b")
			e.region = tt.region
			asked := cache.CheckJoin(t.Context(), e.mem, cache.Config{Zone: "b", Prefix: "p/", DepotRegion: tt.region}, nil)
			e.open()
			if tt.refused != "" {
				if why := e.refused(); !strings.Contains(why, tt.refused) {
					t.Errorf("it says: %s", why)
				}
				if !errors.Is(asked, cache.ErrRejected) || !strings.Contains(asked.Error(), tt.refused) {
					t.Errorf("asked before: %v", asked)
				}
				for _, key := range e.mem.Keys("p/.depotfs/zones/b") {
					t.Errorf("a zone that was refused is registered: %s", key)
				}
			} else {
				e.joined()
				if asked != nil {
					t.Errorf("asked before: %v", asked)
				}
			}
			b, _ := e.object("p/.depotfs/depot.json")
			if want := `"region":"` + tt.depot + `"`; !strings.Contains(string(b), want) {
				t.Errorf("depot.json is %s, want %s in it", b, want)
			}
		})
	}
}

// A zone of a depot that was given a region since stays in, and is told; with another
// region it stays out.
func TestRegionOfAMember(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.joined()
	id := e.status().Store.DepotID
	b := e.beside("b")
	b.region = "eu"
	b.open()
	b.joined()
	if got := b.status().Store.DepotID; got != id {
		t.Errorf("naming the region has made another depot: %s, was %s", got, id)
	}
	e.restart()
	e.joined()
	if w := e.status().Zones.Warning; !strings.Contains(w, "say --depot-region eu") {
		t.Errorf("the warning is %q", w)
	}
	e.close()
	e.region = "eu"
	e.open()
	e.joined()
	if w := e.status().Zones.Warning; w != "" {
		t.Errorf("the warning is %q", w)
	}
	e.close()
	e.region = "us"
	e.open()
	if why := e.refused(); !strings.Contains(why, `"eu", this zone to "us"`) {
		t.Errorf("it says: %s", why)
	}
	if err := cache.CheckJoin(t.Context(), e.mem, cache.Config{Zone: "z1", Prefix: "p/", DepotRegion: "us"}, e.c); !errors.Is(err, cache.ErrRejected) {
		t.Errorf("asked before the mount: %v", err)
	}
}
