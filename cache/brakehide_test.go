package cache_test

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"

	"depotfs/cache"
	"depotfs/cache/journal"
	"depotfs/cache/layout"
	"depotfs/cache/storetest"
)

// hiding is a zone in which deletes of others' templates hide them.
func hiding(t *testing.T) *env {
	t.Helper()
	e := newEnv(t)
	e.close()
	e.config = hides(t, "template")
	e.open()
	return e
}

// hides has deletes in a class hide what others made.
func hides(t *testing.T, class string) func(*cache.Config) {
	t.Helper()
	rules, err := layout.Default().WithDeletes(class, layout.DeleteOrigin)
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *cache.Config) { cfg.Rules = rules }
}

// relist restarts the zone and has it take in the depot's listing once more.
func (e *env) relist() {
	e.t.Helper()
	if err := cache.Relist(e.c); err != nil {
		e.t.Fatal(err)
	}
	e.restart()
	e.waitFor("the listing", func() bool { return e.status().Store.Listing == "done" })
}

func TestOriginClassOnlyHides(t *testing.T) {
	t.Parallel()
	e := hiding(t)
	e.install(theirs, from(200, 6)...)
	e.install("z1", 300)
	keys := e.plainKeys()
	for _, id := range from(200, 5) {
		e.uninstall(template(id))
	}
	if s := e.status().Deletes; s.Hidden != 15 || s.Held != 0 {
		t.Errorf("status says %+v", s)
	}
	e.relist()
	for _, id := range from(200, 5) {
		e.absent(template(id))
	}
	e.installed(205)
	if left := e.approve(template(200)); len(left) != 3 {
		t.Errorf("approve took hidden names: left %+v", left)
	}
	e.discard()
	e.approve() // neither of all is about hidden names
	e.absent(template(200))
	e.settleRemovals()
	if got := e.plainKeys(); !slices.Equal(got, keys) || e.store.Calls(storetest.Delete) > 0 {
		t.Errorf("the depot has %d objects of %d", len(got), len(keys))
	}
	if left := e.discard(template(202)); len(left) > 0 {
		t.Errorf("discard left %+v", left)
	}
	e.installed(202)
	e.absent(template(201), template(203))
	if got := e.heldNames(); len(got) != 12 || got[0] != "hidden "+template(200) {
		t.Errorf("listed: %q", got)
	}
	e.uninstall(template(300)) // its own are gone everywhere
	e.settleRemovals()
	if left := e.mem.Keys("p/" + template(300)); len(left) > 0 {
		t.Errorf("still there: %q", left)
	}
}

func TestALaterVersionOfAHiddenNameIsShown(t *testing.T) {
	t.Parallel()
	e := hiding(t)
	e.install(theirs, 200, 201)
	e.uninstall(template(200))
	e.uninstall(template(201))
	path := template(200) + "/image.qcow2"
	next := []byte("another version")
	if _, err := e.mem.Put(context.Background(), "p/"+path, strings.NewReader(string(next)), int64(len(next)), cache.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	e.relist()
	e.mustRead(path, next)
	e.absent(template(200)+"/template.properties", template(201))
	if got := e.heldNames(); len(got) != 4 { // the properties, and the other template
		t.Errorf("listed: %q", got)
	}
}

// What only hides another zone's file hides it, too, where a file of this zone's took its name
// and is gone before anybody heard of it.
func TestReplacedAndDeletedOnlyHides(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	b.close()
	b.config = hides(t, "template")
	b.open()
	b.refresh()
	image := template(200) + "/image.qcow2"
	a.mkdirAll(template(200))
	a.write(image, imageOf(200))
	tell(zs...)
	b.store.SetDown(true)
	b.write(template(200)+"/new", imageOf(201))
	b.rename(template(200)+"/new", image)
	b.unlink(image)
	b.store.SetDown(false)
	tell(zs...)
	a.mustRead(image, imageOf(200))
	b.wantNone(image)
}

func TestRenameOverKeepsTheVersionOfOthers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.install(theirs, from(200, 4)...)
	for _, id := range from(201, 3) {
		e.uninstall(template(id))
	}
	e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 9 })
	e.takenBack()
	path := template(200) + "/image.qcow2"
	e.write("new", []byte("mine"))
	e.flush()
	e.rename("new", path)
	e.flush()
	e.wantObject("p/"+path, []byte("mine"))
	kept := slices.DeleteFunc(e.mem.Keys("p/.depotfs/conflicts/"), func(k string) bool { return !strings.HasSuffix(k, path) })
	if len(kept) != 1 {
		t.Fatalf("kept %q of the version before", kept)
	}
	e.wantObject(kept[0], imageOf(200))
	e.wantHeld(9)
}

// Whoever keeps the names goes on changing them.
func TestHeldNamesFollowTheOtherZones(t *testing.T) {
	t.Parallel()
	e := hiding(t)
	e.install(theirs, from(200, 4)...)
	for _, id := range from(200, 4) {
		e.uninstall(template(id))
	}
	hears := func(r journal.Record, want bool) {
		t.Helper()
		hidden, err := cache.HeldHears(e.c, r)
		if err != nil || hidden != want {
			t.Errorf("%s %s: hidden %v, %v; want %v", r.Op, r.Path, hidden, err, want)
		}
	}
	image := template(200) + "/image.qcow2"
	made := int64(1000) // as SetOrigin says
	hears(journal.Record{Op: journal.Put, Path: image, Time: made, Zone: theirs, Key: "p/elsewhere", ETag: "e"}, true)
	hears(journal.Record{Op: journal.Put, Path: image, Time: made - 1, Zone: theirs, Key: "p/older", ETag: "e"}, true)
	hears(journal.Record{Op: journal.Put, Path: "volumes/x", Time: made, Zone: theirs}, false)
	hears(journal.Record{Op: journal.Mkdir, Path: template(200), Time: made + 1, Zone: theirs}, true)
	hears(journal.Record{Op: journal.Attr, Path: template(201) + "/image.qcow2", Mode: syscall.S_IFREG | 0o600, Time: made + 1, Zone: theirs}, true)
	hears(journal.Record{Op: journal.Rename, From: template(201), Path: template(901), Time: made + 2, Zone: theirs}, false)
	hears(journal.Record{Op: journal.Rename, From: template(201), Path: template(901), Time: made + 2, Zone: theirs}, false) // once more
	hears(journal.Record{Op: journal.Exchange, From: template(901), Path: template(901) + "x", Time: made + 3, Zone: theirs}, false)
	hears(journal.Record{Op: journal.Exchange, From: template(901), Path: template(901) + "x", Time: made + 3, Zone: theirs}, false)
	hears(journal.Record{Op: journal.Rename, From: template(300), Path: template(902), Time: made + 1, Zone: theirs}, false)
	hears(journal.Record{Op: journal.Put, Path: template(202) + "/image.qcow2", Time: made + 1, Zone: theirs}, false)
	hears(journal.Record{Op: journal.Delete, Path: template(203) + "/image.qcow2", Time: made + 1, Zone: theirs}, false)
	want := []string{"200", "200/image.qcow2", "200/template.properties", "202", "202/template.properties",
		"203", "203/template.properties", "901x", "901x/image.qcow2", "901x/template.properties"}
	for i := range want {
		want[i] = "hidden template/tmpl/2/" + want[i]
	}
	if got := e.heldNames(); !slices.Equal(got, want) {
		t.Errorf("hidden:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if left := e.discard(template(901) + "x"); len(left) > 0 {
		t.Errorf("discard left %+v", left)
	}
	e.mustRead(template(901)+"x/image.qcow2", imageOf(201)) // from the key that it had
	if a, err := e.lookup(template(901) + "x/image.qcow2"); err != nil || a.Mode&0o7777 != 0o600 {
		t.Errorf("mode %o, %v", a.Mode, err)
	}
}
