package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
)

// fakeKeeper is a trash and conflicts of a few entries, and notes what it was asked.
type fakeKeeper struct {
	picked  cache.TrashPick
	dry     bool
	dropped []string
	age     time.Duration
	cut     bool // bodies end early
}

const fakeEntry = "20261125T101530.123456789Z/zb/d/evil\x1b[2Jname"

func (k *fakeKeeper) TrashList(_ context.Context, paths []string, fn func(cache.TrashEntry) error) error {
	if len(paths) > 0 && paths[0] != "d" {
		return nil
	}
	expires := time.Date(2026, 12, 2, 10, 15, 30, 0, time.Local)
	if err := fn(cache.TrashEntry{Entry: fakeEntry, Path: "d/evil\x1b[2Jname", Zone: "zb", Size: 3 << 20}); err != nil {
		return err
	}
	return fn(cache.TrashEntry{Entry: "20261125T101530.123456789Z/za/.depotfs/names/00ff", Path: "d/\xff", Zone: "za", Expires: &expires})
}

func (k *fakeKeeper) TrashRestore(_ context.Context, pick cache.TrashPick, _ func(cache.Progress)) (int, []cache.NotDone, error) {
	k.picked = pick
	if len(pick.Paths) == 2 {
		return 1, []cache.NotDone{{Path: pick.Paths[1], Reason: "the name exists"}}, nil
	}
	return 2, nil, nil
}

func (k *fakeKeeper) TrashPurge(_ context.Context, pick cache.TrashPick, dry bool) (cache.Purged, []cache.NotDone, error) {
	k.picked, k.dry = pick, dry
	if len(pick.Paths) > 0 {
		return cache.Purged{}, nil, nil
	}
	return cache.Purged{Entries: 3, Bytes: 20 << 20}, nil, nil
}

func (k *fakeKeeper) ConflictList(_ context.Context, fn func(cache.ConflictEntry) error) error {
	return fn(cache.ConflictEntry{Entry: "zb/20261125T101530.123456789Z/d/f", Path: "d/f", Zone: "zb", Size: 10, Where: "depot", Reason: "it was finished earlier"})
}

func (k *fakeKeeper) ConflictOpen(_ context.Context, entry string) (io.ReadCloser, int64, error) {
	if entry == "none" {
		return nil, 0, os.ErrNotExist
	}
	body := "the bytes of it"
	if k.cut {
		return io.NopCloser(strings.NewReader(body[:5])), int64(len(body)), nil
	}
	return io.NopCloser(strings.NewReader(body)), int64(len(body)), nil
}

func (k *fakeKeeper) ConflictDrop(_ context.Context, entries []string, age time.Duration) (cache.Purged, []cache.NotDone, error) {
	k.dropped, k.age = entries, age
	var left []cache.NotDone
	for _, e := range entries {
		if e == "none" {
			left = append(left, cache.NotDone{Path: e, Reason: "there is no such conflict"})
		}
	}
	return cache.Purged{Entries: 1, Bytes: 10}, left, nil
}

func TestTrashCommands(t *testing.T) {
	k := &fakeKeeper{}
	d := startDaemon(t, &fakeHeart{trashHeart: k, conflictHeart: k}, t.TempDir())
	in := func(path string) string { return d.mountpoint + "/" + path }
	for _, tt := range []struct {
		name     string
		args     []string
		code     int
		out, err string // parts; "" = nothing at all
		picked   cache.TrashPick
	}{
		{name: "list", args: []string{"trash", "list"}, out: "3.0 MiB  as zone zb says      20261125T101530.123456789Z/zb/d/evil\\x1b[2Jname\n"},
		{name: "list of a hashed path", args: []string{"trash", "list", in("d")}, out: "2026-12-02 10:15:30  20261125T101530.123456789Z/za/.depotfs/names/00ff  (d/"},
		{name: "list of nothing", args: []string{"trash", "list", in("e")}, out: "nothing"},
		{name: "list as JSON", args: []string{"trash", "list", "--json"}, out: `{"entry":"20261125T101530.123456789Z/zb/d/evil\u001b[2Jname","path":`},
		{name: "list of an entry", args: []string{"trash", "list", fakeEntry}, code: 2, err: "name paths in a mount"},
		{name: "restore", args: []string{"trash", "restore", in("d/f")}, out: "2 files are back\n", picked: cache.TrashPick{Paths: []string{"d/f"}}},
		{name: "restore in part", args: []string{"trash", "restore", in("d/f"), in("d/g")}, code: 1, out: "1 file is back", err: "depotfs: trash restore: d/g: the name exists\n", picked: cache.TrashPick{Paths: []string{"d/f", "d/g"}}},
		{name: "restore of an entry elsewhere", args: []string{"trash", "restore", fakeEntry, "--to", in("x/y")}, out: "back", picked: cache.TrashPick{Entries: []string{fakeEntry}, To: "x/y"}},
		{name: "restore of two to one place", args: []string{"trash", "restore", fakeEntry, in("f"), "--to", in("x")}, code: 2, err: "--to takes one"},
		{name: "restore of nothing", args: []string{"trash", "restore"}, code: 2, err: "name what was deleted"},
		{name: "restore of what is in no mount", args: []string{"trash", "restore", "/"}, code: 1, err: "not inside a depotfs mount"},
		{name: "purge", args: []string{"trash", "purge"}, code: 1, err: "3 deleted versions (20 MiB) would be gone for good: say it again with --yes"},
		{name: "purge, meant", args: []string{"trash", "purge", "--yes", "--older-than=24h"}, out: "3 deleted versions (20 MiB) gone for good\n", picked: cache.TrashPick{OlderThan: 24 * time.Hour}},
		{name: "purge of nothing", args: []string{"trash", "purge", in("e")}, out: "nothing is to be purged", picked: cache.TrashPick{Paths: []string{"e"}}},
		{name: "purge of an odd age", args: []string{"trash", "purge", "--older-than=soon"}, code: 2, err: "--older-than: \"soon\" is no duration"},
		{name: "trash alone", args: []string{"trash"}, code: 2, err: "trash: what? It knows: list, restore, purge"},
		{name: "conflicts", args: []string{"conflicts", "list"}, out: "10 B  zb/20261125T101530.123456789Z/d/f  it was finished earlier\n"},
		{name: "conflicts as JSON", args: []string{"conflicts", "list", "--json", d.mountpoint}, out: `"where":"depot","reason":"it was finished earlier"}`},
		{name: "get to standard output", args: []string{"conflicts", "get", "zb/x/f", "-o", "-"}, out: "the bytes of it"},
		{name: "get of nothing", args: []string{"conflicts", "get", "none"}, code: 1, err: "depotfs: conflicts get: "},
		{name: "drop", args: []string{"conflicts", "drop", "a", "none"}, code: 1, out: "1 version gone for good (10 B)\n", err: "none: there is no such conflict"},
		{name: "drop by age", args: []string{"conflicts", "drop", "--older-than", "1h"}, out: "1 version gone"},
		{name: "drop of nothing", args: []string{"conflicts", "drop"}, code: 2, err: "name entries"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			*k = fakeKeeper{}
			if code := d.command(t, tt.args...); code != tt.code {
				t.Errorf("exit %d, want %d", code, tt.code)
			}
			for what, got := range map[string][2]string{"out": {d.out.String(), tt.out}, "err": {d.err.String(), tt.err}} {
				if !strings.Contains(got[0], got[1]) || got[1] == "" && got[0] != "" {
					t.Errorf("%s: got %q, want ...%q...", what, got[0], got[1])
				}
			}
			if got, want := k.picked, tt.picked; strings.Join(got.Paths, " ") != strings.Join(want.Paths, " ") ||
				strings.Join(got.Entries, " ") != strings.Join(want.Entries, " ") || got.To != want.To || got.OlderThan != want.OlderThan {
				t.Errorf("asked for %+v, want %+v", got, want)
			}
			if strings.HasPrefix(tt.name, "purge") && k.dry == strings.Contains(tt.name, "meant") && tt.code != 2 {
				t.Errorf("dry is %v", k.dry)
			}
		})
	}
}

// What was fetched is a file when it is whole, and never takes another one's place.
func TestConflictsGetMakesAWholeFile(t *testing.T) {
	k := &fakeKeeper{}
	d := startDaemon(t, &fakeHeart{trashHeart: k, conflictHeart: k}, t.TempDir())
	to := filepath.Join(t.TempDir(), "f")
	if code := d.command(t, "conflicts", "get", "zb/x/f", "-o", to); code != 0 {
		t.Fatalf("exit %d: %s", code, d.err)
	}
	if b, err := os.ReadFile(to); err != nil || string(b) != "the bytes of it" {
		t.Errorf("got %q, %v", b, err)
	}
	if code := d.command(t, "conflicts", "get", "zb/x/f", "-o", to); code != 1 || !strings.Contains(d.err.String(), "f exists: name another file with -o") {
		t.Errorf("exit %d: %s", code, d.err)
	}
	k.cut = true
	if code := d.command(t, "conflicts", "get", "zb/x/f", "-o", to+"2"); code != 1 || !strings.Contains(d.err.String(), " of 15 bytes came") {
		t.Errorf("exit %d: %s", code, d.err)
	}
	if _, err := os.Lstat(to + "2"); !os.IsNotExist(err) {
		t.Errorf("half a file stays: %v", err)
	}
}
