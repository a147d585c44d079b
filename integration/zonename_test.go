package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// zoneRow is a zone of `depotfs zones --json`.
type zoneRow struct {
	Zone, State, Host, Version string
	Waiting                    struct{ Batches, Records int64 }
	Seconds                    float64 `json:"seen_seconds"`
}

func (z *zone) zones() map[string]zoneRow {
	z.t.Helper()
	var all []zoneRow
	if err := json.Unmarshal([]byte(z.must("zones", "--json", z.mnt)), &all); err != nil {
		z.t.Fatalf("zones --json: %v", err)
	}
	found := map[string]zoneRow{}
	for _, one := range all {
		found[one.Zone] = one
	}
	return found
}

// storeIs waits for a state of the store and returns what is said of it.
func (z *zone) storeIs(state string) (err string) {
	z.t.Helper()
	eventually(z.t, patience, func() error {
		s := z.status().Store
		if err = s.Error; s.State != state {
			return fmt.Errorf("the store is %s, want %s: %s", s.State, state, s.Error)
		}
		return nil
	})
	return err
}

func named(name string) setting { return func(z *zone) { z.name = name } }

// Two mounts with one name are one too many: a first mount fails and says what to do, one
// that was there before goes on with what is here. When the other one is unmounted the
// name is free, and when it was killed its own state directory has it.
func TestZoneName(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	first := newZone(t, on(d), named("ber1"))
	first.storeIs("on")
	second := newUnmounted(t, on(d), named("ber1"), quiet)
	c := second.run(second.mountArgs()...)
	for _, want := range []string{`the zone name "ber1" is in use`, "--zone", "or unmount that one"} {
		if c.code != 1 || !strings.Contains(c.stderr, want) {
			t.Errorf("a second mount of the name does not say %q: %v", want, c)
		}
	}
	put(t, first.path("f"), []byte("one"))
	first.flush()
	first.umount()

	second.mount()
	second.storeIs("on")
	holds(t, second.path("f"), []byte("one"))
	put(t, second.path("g"), []byte("two"))
	second.flush()

	// The first one was there before: it is mounted, and waits.
	first.quiet = true
	if c := first.run(first.mountArgs()...); c.code != 0 || !strings.Contains(c.stderr, "mounted with what is here") {
		t.Fatalf("a later mount while another one has the name: %v", c)
	}
	if why := first.storeIs("refused"); !strings.Contains(why, "is in use") {
		t.Errorf("status says: %s", why)
	}
	put(t, first.path("h"), []byte("three"))
	holds(t, first.path("f"), []byte("one"))
	second.kill()
	second.mount()
	second.storeIs("on")
	second.umount()
	first.remount()
	first.storeIs("on")
	first.flush()
	if _, ok := d.keys(t)["h"]; !ok {
		t.Error("what was written while the name was another's is not in the depot")
	}
}

// A third zone is listed, is seen to be unmounted, and can be removed then.
func TestZonesCommand(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	a, b := newZone(t, on(d), with("--depot-region", "eu")), newZone(t, on(d), with("--depot-region", "eu"))
	a.storeIs("on")
	b.storeIs("on")
	put(t, a.path("f"), []byte("x"))
	a.flush()
	all := a.zones()
	if len(all) != 2 || all[a.name].State != "this" || all[b.name].State != "alive" || all[b.name].Host == "" || all[b.name].Seconds > 120 {
		t.Errorf("zones: %+v", all)
	}
	if c := a.run("zones", "remove", b.name, a.mnt); c.code != 1 || !strings.Contains(c.stderr, "is alive") {
		t.Errorf("removing a zone that is alive: %v", c)
	}
	b.umount()
	if text := a.must("zones", a.mnt); !strings.Contains(text, "this mount") || !strings.Contains(text, "ended") {
		t.Errorf("zones shows:\n%s", text)
	}
	a.must("zones", "remove", b.name, a.mnt)
	if all := a.zones(); len(all) != 1 {
		t.Errorf("zones after it was removed: %+v", all)
	}
	other := newUnmounted(t, on(d), with("--depot-region", "us"), quiet)
	if c := other.run(other.mountArgs()...); c.code != 1 || !strings.Contains(c.stderr, `belongs to the CloudStack region "eu", this zone to "us"`) {
		t.Errorf("a mount of another region: %v", c)
	}
}
