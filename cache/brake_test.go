package cache_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/journal"
	"depotfs/cache/storetest"
)

// What a secondary storage VM does whose zone's database knows none of the templates: the
// depot keeps them all, and discard brings back every name.
func TestSweepIsHeldAndDiscarded(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	ids := from(200, 30)
	e.install(theirs, ids...)
	keys := e.plainKeys()
	_, n := e.toldSince(0)
	for _, id := range ids {
		e.uninstall(template(id))
	}
	for _, id := range ids {
		e.absent(template(id))
	}
	e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 90 })
	e.takenBack()
	e.settleRemovals()
	if got := e.plainKeys(); !slices.Equal(got, keys) {
		t.Fatalf("the depot lost %d of %d objects", len(keys)-len(got), len(keys))
	}
	// The brake trips at the fourth template of thirty: what went before is taken back, nothing else went.
	if n := e.store.Calls(storetest.Delete); n > 9 {
		t.Errorf("%d objects were deleted, want those of the first three templates at most", n)
	}
	e.flush()
	told, _ := e.toldSince(n)
	if len(told) != 18 {
		t.Fatalf("other zones were told %q", lines(told))
	}
	gone := map[string]journal.Record{}
	for _, r := range told[:9] { // deletes, and directories after what is in them
		gone[r.Path] = r
	}
	for i, r := range told[9:] {
		was := gone[r.Path]
		if was.Time == 0 || !journal.Later(r.Time, r.Zone, was.Time, was.Zone) || r.Zone != theirs || i == 0 && r.Op != journal.Mkdir {
			t.Errorf("told %+v after %+v", r, was)
		}
		if r.Op == journal.Put && (r.Key != "p/"+r.Path || r.Size == 0 || !r.HasCRC || r.ETag == "") {
			t.Errorf("told %+v", r)
		}
	}
	s := e.status()
	if s.Deletes.Bursts != 1 || len(s.Problems) == 0 || s.Problems[0].Kind != "held" || !strings.Contains(s.Problems[0].Reason, "90 deletes in 30 template and snapshot directories") {
		t.Errorf("status says %+v, %+v", s.Deletes, s.Problems)
	}

	e.restart()
	e.absent(template(200), template(229))
	e.wantHeld(90)
	deletes := e.store.Calls(storetest.Delete)
	if left := e.discard(); len(left) > 0 {
		t.Errorf("discard left %+v", left)
	}
	e.installed(ids...)
	e.wantHeld(0)
	if left := e.discard(); len(left) > 0 { // again: nothing to do
		t.Errorf("discard left %+v", left)
	}
	e.restart()
	e.installed(ids...)
	if a, err := e.lookup(template(210)); err != nil || a.Mode&0o7777 != 0o755 {
		t.Errorf("a directory came back as %o, %v", a.Mode, err)
	}
	e.flush()
	if got := e.plainKeys(); !slices.Equal(got, keys) || e.store.Calls(storetest.Delete) != deletes {
		t.Errorf("discard changed the depot: %d objects, were %d", len(got), len(keys))
	}
	if p := e.status().Problems; slices.ContainsFunc(p, func(p cache.Problem) bool { return p.Kind == "held" }) {
		t.Errorf("still a problem: %+v", p)
	}
}

func TestApproveLetsAllGo(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.install(theirs, append(from(200, 8), 20, 201000)...)
	for _, id := range append(from(200, 8), 20) {
		e.uninstall(template(id))
	}
	e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 27 })
	e.takenBack()
	e.flush()
	_, n := e.toldSince(0)
	if left := e.approve(); len(left) > 0 {
		t.Errorf("approve left %+v", left)
	}
	e.settleRemovals()
	for _, key := range e.plainKeys() {
		if strings.Contains(key, "/2/20") && !strings.Contains(key, "/2/201000/") {
			t.Errorf("%s is still in the depot", key)
		}
	}
	e.installed(201000)
	e.wantHeld(0)
	e.flush()
	records, n := e.toldSince(n)
	told := lines(records)
	if len(told) != 27 {
		t.Errorf("told %d records, want 27", len(told))
	}
	if f, d := slices.Index(told, "delete "+template(203)+"/image.qcow2"), slices.Index(told, "rmdir "+template(203)); f < 0 || d < f {
		t.Errorf("a directory is told to be gone before what is in it: %d, %d", d, f)
	}
	e.approve()
	if left := e.discard(); len(left) > 0 {
		t.Errorf("once more: %+v", left)
	}
	e.flush()
	if again, _ := e.toldSince(n); len(again) > 0 {
		t.Errorf("once more: told %q", lines(again))
	}
	e.absent(template(20), template(200))
}

func TestPrefixNeighboursAreDecidedApart(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.install(theirs, 20, 201, 202)
	for _, id := range []int{201, 202, 20} {
		e.uninstall(template(id))
	}
	e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 9 })
	e.takenBack()
	if left := e.approve(template(20)); len(left) > 0 {
		t.Errorf("approve left %+v", left)
	}
	e.settleRemovals()
	if keys := e.mem.Keys("p/" + template(20) + "/"); len(keys) > 0 {
		t.Errorf("approved, and still there: %q", keys)
	}
	if keys := e.mem.Keys("p/" + template(201) + "/"); len(keys) != 3 {
		t.Errorf("the neighbour has %q", keys)
	}
	e.wantHeld(6)
	if left := e.discard(template(201) + "/image.qcow2"); len(left) > 0 { // with the directory that it is in
		t.Errorf("discard left %+v", left)
	}
	e.mustRead(template(201)+"/image.qcow2", imageOf(201))
	e.absent(template(201)+"/template.properties", template(202))
	e.wantHeld(4)
}

func TestOrdinaryDeletesAreNotHeld(t *testing.T) {
	t.Parallel()
	t.Run("one template of others", func(t *testing.T) {
		e := newEnv(t)
		e.install(theirs, from(200, 3)...)
		e.uninstall(template(200))
		e.settleRemovals()
		if keys := e.mem.Keys("p/" + template(200)); len(keys) > 0 {
			t.Errorf("still in the depot: %q", keys)
		}
		e.wantHeld(0)
	})
	t.Run("own templates", func(t *testing.T) {
		e := newEnv(t)
		e.install("z1", from(200, 25)...)
		for _, id := range from(200, 25) {
			e.uninstall(template(id))
		}
		e.settleRemovals()
		if keys := e.mem.Keys("p/" + template(2)); len(keys) > 0 {
			t.Errorf("still in the depot: %q", keys)
		}
		e.wantHeld(0)
	})
	t.Run("few of many", func(t *testing.T) {
		e := newEnv(t)
		e.install(theirs, from(200, 40)...)
		for i, id := range from(200, 5) {
			if e.wantHeld(0); i == 4 {
				break
			}
			e.uninstall(template(id)) // the fourth is 10 %, which is not more than 10 %
		}
		e.uninstall(template(204))
		e.waitFor("the fifth of forty to be too many", func() bool { return e.status().Deletes.Held == 15 })
	})
	t.Run("slowly", func(t *testing.T) {
		e := newEnv(t)
		e.install(theirs, from(200, 6)...)
		for _, id := range from(200, 6) {
			e.uninstall(template(id))
			e.ahead.Add(int64(5*time.Minute + time.Second)) // so two, at most, in ten minutes
		}
		e.settleRemovals()
		e.wantHeld(0)
		if keys := e.mem.Keys("p/" + template(2)); len(keys) > 0 {
			t.Errorf("still in the depot: %q", keys)
		}
	})
	t.Run("no brake", func(t *testing.T) {
		e := newEnv(t)
		e.close()
		e.config = func(cfg *cache.Config) { cfg.Brake = &cache.Brake{Off: true} }
		e.open()
		e.install(theirs, from(200, 6)...)
		for _, id := range from(200, 6) {
			e.uninstall(template(id))
		}
		e.settleRemovals()
		e.wantHeld(0)
	})
	t.Run("files elsewhere", func(t *testing.T) {
		e := newEnv(t)
		e.mkdirAll("volumes/2/9")
		for _, name := range []string{"a", "b", "c", "d"} {
			e.mkdirAll("volumes/2/" + name)
			e.write("volumes/2/"+name+"/x", []byte(name))
		}
		e.flush()
		for _, name := range []string{"a", "b", "c", "d"} {
			e.uninstall("volumes/2/" + name)
		}
		e.settleRemovals()
		e.wantHeld(0)
	})
}

// A file that is open is read to its end, whatever becomes of its name.
func TestHeldWhileOpen(t *testing.T) {
	t.Parallel()
	for _, decision := range []string{"approve", "discard"} {
		t.Run(decision, func(t *testing.T) {
			e := newEnv(t)
			e.install(theirs, from(200, 4)...)
			path := template(203) + "/image.qcow2"
			e.evict(path)
			for _, id := range from(200, 3) {
				e.uninstall(template(id))
			}
			a, err := e.lookup(path)
			if err != nil {
				t.Fatal(err)
			}
			h, err := e.c.Open(context.Background(), a.Ino, syscall.O_RDONLY)
			if err != nil {
				t.Fatal(err)
			}
			e.uninstall(template(203))
			e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 12 })
			e.takenBack()
			if decision == "approve" {
				e.approve()
			} else {
				e.discard()
			}
			e.settleRemovals()
			got := make([]byte, len(imageOf(203)))
			if n, err := h.ReadAt(context.Background(), got, 0); n != len(got) || !slices.Equal(got, imageOf(203)) {
				t.Errorf("read %d bytes of %d, %v", n, len(got), err)
			}
			h.Release()
			if decision == "approve" {
				e.waitFor("the object to go with the last handle", func() bool { _, ok := e.object("p/" + path); return !ok })
				return
			}
			e.settleRemovals()
			e.installed(from(200, 4)...)
		})
	}
}

func TestHeldNameIsWrittenAnew(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.install(theirs, from(200, 4)...)
	for _, id := range from(200, 4) {
		e.uninstall(template(id))
	}
	e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 12 })
	e.takenBack()
	e.mkdirAll(template(201))
	path := template(201) + "/image.qcow2"
	e.write(path, []byte("another template"))
	e.flush()
	e.wantObject("p/"+path, []byte("another template"))
	kept := slices.DeleteFunc(e.mem.Keys("p/.depotfs/conflicts/"), func(k string) bool { return !strings.HasSuffix(k, path) })
	if len(kept) != 1 {
		t.Fatalf("kept %q of the version before", kept)
	}
	e.wantObject(kept[0], imageOf(201))
	if left := e.discard(); len(left) > 0 {
		t.Errorf("discard left %+v", left)
	}
	e.mustRead(path, []byte("another template"))
	e.mustRead(template(201)+"/template.properties", []byte("id=201\n"))
	e.installed(200, 202, 203)
	e.wantHeld(0)
}

// A name that was made anew, and is not in the depot yet, keeps its bytes when the delete
// of the one before is discarded.
func TestDiscardLeavesANewFileAlone(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.install(theirs, from(200, 3)...)
	for _, id := range from(200, 3) {
		e.uninstall(template(id))
	}
	e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 9 })
	e.takenBack()
	e.store.Inject(storetest.Fail(storetest.Put, cache.ErrDenied).On("image").Always())
	e.mkdirAll(template(201))
	path := template(201) + "/image.qcow2"
	e.write(path, []byte("new"))
	if left := e.discard(); len(left) != 1 || left[0].Path != path {
		t.Errorf("discard left %+v", left)
	}
	e.mustRead(path, []byte("new"))
	e.installed(200, 202)
	e.wantHeld(1)
}

func TestHeldBelowARenamedDirectory(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.install(theirs, from(200, 4)...)
	for _, id := range from(200, 4) {
		e.unlink(template(id) + "/image.qcow2")
	}
	e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 4 })
	e.takenBack()
	parent, _ := e.parent(template(202))
	if err := e.c.Rename(context.Background(), parent, "202", parent, "900", 0); err != nil {
		t.Fatal(err)
	}
	if got := e.heldNames(); !slices.Contains(got, "held "+template(900)+"/image.qcow2") || slices.Contains(got, "held "+template(202)+"/image.qcow2") {
		t.Errorf("held: %q", got)
	}
	e.discard()
	e.mustRead(template(900)+"/image.qcow2", imageOf(202))
	e.flush()
	e.wantObject("p/"+template(900)+"/image.qcow2", imageOf(202)) // the key follows the name
}

// CloudStack writes the properties of templates anew in every zone. They stay with the
// image that another zone made.
func TestPropertiesStayWithTheImage(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	ids := from(200, 4)
	e.install(theirs, ids...)
	for _, id := range ids {
		if err := cache.SetOrigin(e.c, template(id)+"/template.properties", "z1"); err != nil {
			t.Fatal(err)
		}
		e.unlink(template(id) + "/template.properties") // which alone is no burst
	}
	e.wantHeld(0)
	for _, id := range ids {
		e.uninstall(template(id))
	}
	e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 12 })
	e.takenBack()
	if left := e.discard(); len(left) > 0 {
		t.Errorf("discard left %+v", left)
	}
	e.installed(ids...)
}

// What another zone made stays that one's where it is renamed before it is deleted.
func TestRenamedFilesAreStillOthers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("snapshots/2")
	for i := range 4 {
		dir := fmt.Sprintf("snapshots/2/%d", 20+i)
		e.mkdirAll(dir)
		e.write(dir+"/s", pattern(uint64(i), 1000))
		e.flush()
		if err := cache.SetOrigin(e.c, dir+"/s", theirs); err != nil {
			t.Fatal(err)
		}
		e.rename(dir+"/s", dir+"/t")
		e.flush()
	}
	for i := range 4 {
		e.unlink(fmt.Sprintf("snapshots/2/%d/t", 20+i))
	}
	e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 4 })
}
