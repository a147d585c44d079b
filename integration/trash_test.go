package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// trashEntry is a line of `depotfs trash list --json`.
type trashEntry struct {
	Entry string `json:"entry"`
	Path  string `json:"path"`
	Zone  string `json:"zone"`
	Size  int64  `json:"size"`
}

func (z *zone) trash(paths ...string) map[string]trashEntry {
	z.t.Helper()
	found := map[string]trashEntry{}
	eventually(z.t, patience, func() error { // a delete of a moment ago is on its way
		if n := z.status().Pending.Removals; n > 0 {
			return fmt.Errorf("%d removals", n)
		}
		return nil
	})
	c := z.inside(append([]string{"trash", "list", "--json"}, paths...)...)
	if c.code != 0 {
		z.t.Fatal(c)
	}
	for line := range strings.Lines(c.stdout) {
		var e trashEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			z.t.Fatalf("%q: %v", line, err)
		}
		found[e.Path] = e
	}
	return found
}

// What is deleted in a mount comes back with its bytes and attributes, until the trash is
// purged; a kill in the middle of the deletes loses nothing.
func TestTrash(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	d.prefix = "cloud/"
	z := newZone(t, on(d))
	big, when := bytesOf(1, 20<<20), time.Unix(1_600_000_000, 123_456_789)
	put(t, z.path("template/tmpl/2/201/image.raw"), big)
	for name, body := range map[string]string{"d/one": "one", "d/sub/two": "two", "d/sub/empty": "", "d/näme ü": "three"} {
		put(t, z.path(name), []byte(body))
	}
	for name, mode := range map[string]os.FileMode{"template/tmpl/2/201/image.raw": 0o640, "d/one": 0o666, "d/sub/two": 0o400} {
		if err := os.Chmod(z.path(name), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(z.path(name), 1234, 4321); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(z.path(name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	z.flush()
	before := treeOf(t, z.mnt)
	if err := os.Remove(z.path("template/tmpl/2/201/image.raw")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(z.path("d")); err != nil {
		t.Fatal(err)
	}
	z.kill()
	z.mount()
	list := z.trash()
	for name := range d.keys(t) {
		if !strings.HasSuffix(name, "/") {
			t.Errorf("the bucket still has %s", name)
		}
	}
	if len(list) != 5 || list["template/tmpl/2/201/image.raw"].Size != 20<<20 || list["d/one"].Zone != "z1" {
		t.Fatalf("the trash has %+v", list)
	}
	if below := z.trash(z.path("d/sub")); len(below) != 2 {
		t.Errorf("below d/sub the trash has %+v", below)
	}
	if c := z.inside("trash", "list"); c.code != 0 || !strings.Contains(c.stdout, "20 MiB") || !strings.Contains(c.stdout, list["d/one"].Entry) {
		t.Error(c)
	}

	sent := z.status().Store.Sent
	if c := z.inside("trash", "restore", z.path("d"), list["template/tmpl/2/201/image.raw"].Entry); c.code != 0 || c.stdout != "5 files are back\n" {
		t.Fatal(c)
	}
	if now := z.status().Store.Sent; now-sent > ownTraffic {
		t.Errorf("%d bytes were sent to bring files back", now-sent)
	}
	if diff := mapDifference(treeOf(t, z.mnt), before); diff != "" {
		t.Errorf("what came back is not as it was:%s", diff)
	}
	if o, found := d.Get(t, d.prefix+"d/one"); !found || string(o) != "one" {
		t.Errorf("the object of d/one is %q, %v", o, found)
	}
	if left := z.trash(); len(left) > 0 {
		t.Errorf("the trash still has %+v", left)
	}

	if err := os.Remove(z.path("d/one")); err != nil {
		t.Fatal(err)
	}
	z.flush()
	put(t, z.path("d/one"), []byte("another"))
	z.flush()
	if c := z.run("trash", "restore", z.path("d/one")); c.code != 1 || !strings.Contains(c.stderr, "the name exists") {
		t.Error(c)
	}
	z.must("trash", "restore", "--to", z.path("d/first"), z.path("d/one"))
	holds(t, z.path("d/first"), []byte("one"))
	holds(t, z.path("d/one"), []byte("another"))

	if err := os.RemoveAll(z.path("d")); err != nil {
		t.Fatal(err)
	}
	if n := len(z.trash()); n != 5 {
		t.Errorf("the trash has %d versions, want 5", n)
	}
	if c := z.inside("trash", "purge"); c.code != 1 || !strings.Contains(c.stderr, "say it again with --yes") || len(z.trash()) != 5 {
		t.Error(c)
	}
	if c := z.inside("trash", "purge", "--yes"); c.code != 0 {
		t.Error(c)
	}
	for _, o := range d.List(t, d.prefix+".depotfs/trash/") {
		t.Errorf("the purged trash holds %s", o.Key)
	}
	if c := z.run("trash", "restore", z.path("d")); c.code != 1 || !strings.Contains(c.stderr, "the trash has nothing that was deleted there") {
		t.Error(c)
	}

	z.must("config", "set", "trash-retention=0s", z.mnt)
	put(t, z.path("f"), []byte("not kept"))
	z.flush()
	if err := os.Remove(z.path("f")); err != nil {
		t.Fatal(err)
	}
	z.flush()
	if left := z.trash(); len(left) > 0 {
		t.Errorf("without retention the trash has %+v", left)
	}
}

// Two zones that have a file of the same name each keep what loses, and either of them
// lists and fetches it.
func TestConflictsCommands(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newUnmounted(t, on(d), with("--settle", "0s"))
	put(t, filepath.Join(z.share, "d/f"), []byte("in the share before"))
	d.Put(t, "d/f", []byte("in the bucket"), nil)
	z.mount()
	var line struct {
		Entry, Path, Where, Reason string
	}
	eventually(t, patience, func() error {
		z.run("flush", z.path("d/f"))
		return json.Unmarshal([]byte(z.must("conflicts", "list", "--json", z.mnt)), &line)
	})
	if line.Path != "d/f" || line.Where != "depot" || !strings.Contains(line.Reason, "found in the share") {
		t.Errorf("the conflict is %+v", line)
	}
	holds(t, z.path("d/f"), []byte("in the bucket"))
	other := newZone(t, on(d), with("--zone", "z2"))
	to := filepath.Join(other.dir, "fetched")
	for _, args := range [][]string{{"get", line.Entry, "-o", to}, {"drop", line.Entry}} {
		if c := other.inside(append([]string{"conflicts"}, args...)...); c.code != 0 {
			t.Error(c)
		}
	}
	holds(t, to, []byte("in the share before"))
	if c := other.run("conflicts", "list", other.mnt); c.code != 0 || c.stdout != "no conflicts\n" {
		t.Error(c)
	}
	if left := d.List(t, ".depotfs/conflicts/"); len(left) > 0 {
		t.Errorf("the bucket still has %v", left)
	}
}
