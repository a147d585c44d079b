package main

import (
	"encoding/json"
	"strings"
	"testing"

	"depotfs/cache"
)

func TestZonesTable(t *testing.T) {
	d := startDaemon(t, &fakeHeart{}, t.TempDir())
	if code := d.command(t, "zones", d.mountpoint); code != 0 {
		t.Fatalf("exit %d: %s", code, d.err)
	}
	want := `ZONE  STATE                HOST       SEEN           BEHIND          WAITING                       VERSION
a     this mount           here       3 s ago                                                      v1
b     alive                there\x1b  1 min 1 s ago  2 changes, 4 s  more than 40 changes, 10 min  v1
c     unreadable: damaged             0 s ago        -               -
`
	if got := d.out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(d.out.String(), "\x1b") {
		t.Error("what others wrote reaches the terminal as it is")
	}
	var all []cache.ZoneStatus
	if code := d.command(t, "zones", "--json"); code != 0 || json.Unmarshal([]byte(d.out.String()), &all) != nil || len(all) != 3 || all[1].Behind.Records != 2 {
		t.Errorf("exit %d, %+v: %s%s", code, all, d.out, d.err)
	}
}

func TestZonesRemove(t *testing.T) {
	d := startDaemon(t, &fakeHeart{}, t.TempDir())
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"zones", "remove", "c"}, 0, "zone c is removed"},
		{[]string{"zones", "remove", "c", d.mountpoint}, 0, "zone c is removed"},
		{[]string{"zones", "remove", "b"}, 1, "zones remove: zone b is alive"},
		{[]string{"zones", "remove"}, 2, "name one zone"},
		{[]string{"zones", "remove", "a", "b", "c"}, 2, "name one zone"},
		{[]string{"zones", "/a", "/b"}, 2, "one mount point at most"},
	} {
		code := d.command(t, tt.args...)
		if said := d.out.String() + d.err.String(); code != tt.code || !strings.Contains(said, tt.want) {
			t.Errorf("%q: exit %d, %s", tt.args, code, said)
		}
	}
}

func TestZonesLine(t *testing.T) {
	for want, z := range map[string]cache.ZonesStatus{
		"":                    {BeatSeconds: 3},
		"others: 2 mounted":   {Alive: 2},
		"others: 1 unmounted": {Ended: 1},
		"others: 1 mounted, 1 SILENT; 1 batch of theirs not applied here; 3 batches of ours not applied everywhere": {Alive: 1, Silent: 1, Behind: 1, Waiting: 3},
	} {
		if got := zonesLine(z); got != want {
			t.Errorf("%+v: %q, want %q", z, got, want)
		}
	}
}
