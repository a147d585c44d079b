package cache_test

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
)

// clash is what two zones do to a name without knowing of each other: zone a first, zone
// b some seconds later. Their clocks are minutes apart, and that of b is behind.
type clash struct {
	name       string
	a, b       func(h *zoneHistory, e *env)
	tree       map[string]string // what all zones show then: path -> text of the file, "" for a directory
	kept, dead []string          // what is kept among the conflicts, and what the trash has
	open       bool              // does not hold yet: see hardZones
	untold     bool              // what was written is deleted before the depot has it, and is nowhere
}

func writes(path, text string) func(*zoneHistory, *env) {
	return func(h *zoneHistory, e *env) {
		e.write(path, []byte(text))
		h.o.wrote(e.zone, path, []byte(text), 0)
		h.texts = append(h.texts, text)
	}
}

func deletes(path string) func(*zoneHistory, *env) {
	return func(h *zoneHistory, e *env) {
		par, name := e.parent(path)
		if err := e.c.Unlink(context.Background(), par, name); err != nil {
			h.t.Fatalf("unlink %q: %v", path, err)
		}
	}
}

func renames(from, to string) func(*zoneHistory, *env) {
	return func(h *zoneHistory, e *env) {
		if !h.rename(e, from, to, 0) {
			h.t.Fatalf("%q cannot be renamed", from)
		}
	}
}

func both(first, second func(*zoneHistory, *env)) func(*zoneHistory, *env) {
	return func(h *zoneHistory, e *env) {
		first(h, e)
		time.Sleep(300 * time.Millisecond)
		second(h, e)
	}
}

func makes(path string) func(*zoneHistory, *env) {
	return func(_ *zoneHistory, e *env) { e.mkdirAll(path) }
}

// clashes begin with x and y in both zones, and with the directory d in which is d/f.
var clashes = []clash{
	{name: "create create", a: writes("n", "first"), b: writes("n", "second"),
		tree: map[string]string{"n": "second"}, kept: []string{"first"}},
	{name: "create create of the same", a: writes("n", "same"), b: writes("n", "same"),
		tree: map[string]string{"n": "same"}},
	{name: "write write", a: writes("x", "first"), b: writes("x", "second"),
		tree: map[string]string{"x": "second"}, kept: []string{"first"}},
	{name: "write delete", a: writes("x", "written"), b: deletes("x"),
		tree: map[string]string{"x": "-"}},
	{name: "delete write", a: deletes("x"), b: writes("x", "written"),
		tree: map[string]string{"x": "written"}},
	{name: "delete create", a: deletes("x"), b: both(deletes("x"), writes("x", "created")),
		tree: map[string]string{"x": "created"}, dead: []string{"was x"}},
	{name: "delete delete", a: deletes("x"), b: deletes("x"),
		tree: map[string]string{"x": "-"}, dead: []string{"was x"}},
	{name: "rename delete", a: renames("x", "n"), b: deletes("x"),
		tree: map[string]string{"x": "-"}},
	{name: "mkdir mkdir", a: both(makes("n"), writes("n/a", "of a")), b: both(makes("n"), writes("n/b", "of b")),
		tree: map[string]string{"n": "", "n/a": "of a", "n/b": "of b"}},
	{name: "rename rename", a: renames("x", "n"), b: renames("x", "m"),
		tree: map[string]string{"x": "-", "n": "was x", "m": "was x"}},
	{name: "rename write", a: renames("x", "n"), b: writes("x", "written"),
		tree: map[string]string{"n": "was x", "x": "written"}},
	{name: "write rename", a: writes("x", "written"), b: renames("x", "n"),
		tree: map[string]string{"x": "-", "n": "written"}},
	{name: "rename and write, chmod", a: both(renames("x", "n"), writes("n", "of a")), b: chmods("x", 0o630),
		tree: map[string]string{"x": "-", "n": "of a"}},
	{name: "rename over, write before", a: writes("x", "written"), b: renames("y", "x"),
		tree: map[string]string{"x": "was y", "y": "-"}},
	{name: "rename and rename on, write before", a: writes("x", "written"), b: both(renames("x", "m"), renames("m", "n")),
		tree: map[string]string{"x": "-", "m": "-"}},
	{name: "write, rename and write", a: writes("x", "written"), b: both(renames("x", "n"), writes("n", "of b")),
		tree: map[string]string{"x": "-", "n": "of b"}},
	{name: "create, rename over and on", b: both(writes("n", "of b"), both(renames("n", "x"), renames("x", "m"))),
		a: writes("y", "of a"), tree: map[string]string{"x": "-", "n": "-", "m": "of b"}, dead: []string{"was x"}},
	{name: "create, rename over, delete", b: both(writes("n", "of b"), both(renames("n", "x"), deletes("x"))),
		a: writes("y", "of a"), tree: map[string]string{"x": "-", "n": "-"}, dead: []string{"was x"}, untold: true},
	{name: "rename over and write, chmod", a: both(renames("y", "x"), writes("x", "of a")), b: chmods("x", 0o630),
		tree: map[string]string{"x": "of a", "y": "-"}},
	{name: "rename over and write, chmod that is told", a: both(renames("y", "x"), writes("x", "of a")),
		b: both(func(_ *zoneHistory, e *env) { e.store.SetDown(false) }, chmods("x", 0o630)), tree: map[string]string{"x": "of a", "y": "-"}},
	{name: "rename over write", a: renames("y", "x"), b: writes("x", "written"),
		tree: map[string]string{"x": "written", "y": "-"}},
	{name: "rename of a directory, write in it", a: renames("d", "e"), b: writes("d/f", "written"),
		tree: map[string]string{"d": "", "d/f": "written", "e": "", "e/f": "was d/f"}},
	{name: "rename of a directory, create in it", a: renames("d", "e"), b: writes("d/g", "created"),
		tree: map[string]string{"d": "", "d/f": "-", "d/g": "created", "e": "", "e/f": "was d/f"}},
	{name: "create in a directory, delete of it", a: writes("d/g", "created"), b: both(deletes("d/f"), removes("d")),
		tree: map[string]string{"d": "", "d/g": "created", "d/f": "-"}},
	{name: "delete of a directory, create in it", a: both(deletes("d/f"), removes("d")), b: writes("d/g", "created"),
		tree: map[string]string{"d": "", "d/g": "created", "d/f": "-"}},
	{name: "file directory", a: writes("n", "a file"), b: both(makes("n"), writes("n/b", "of b")),
		tree: map[string]string{"n": "", "n/b": "of b"}, kept: []string{"a file"}},
	{name: "file empty directory", a: writes("n", "a file"), b: makes("n")},
	{name: "empty directory file", a: makes("n"), b: writes("n", "a file"),
		tree: map[string]string{"n": ""}, kept: []string{"a file"}},
	{name: "chmod chmod", a: chmods("x", 0o650), b: chmods("x", 0o630)},
	{name: "chmod chmod of a directory", a: chmods("d", 0o750), b: chmods("d", 0o700)},
	{name: "chmod write", a: chmods("x", 0o650), b: writes("x", "written"), tree: map[string]string{"x": "written"}},
	{name: "write chmod", a: writes("x", "written"), b: chmods("x", 0o630), tree: map[string]string{"x": "written"}},
	{name: "rename and rename another to it, chmod", a: both(renames("x", "n"), renames("y", "x")), b: chmods("x", 0o630),
		tree: map[string]string{"n": "was x", "x": "was y", "y": "-"}},
	{name: "rename and rename another to it, chmod that is told", a: both(renames("x", "n"), renames("y", "x")),
		b: both(func(_ *zoneHistory, e *env) { e.store.SetDown(false) }, chmods("x", 0o630)), tree: map[string]string{"n": "was x", "x": "was y", "y": "-"}},
	{name: "rename chmod", a: renames("x", "n"), b: chmods("x", 0o630), tree: map[string]string{"n": "was x", "x": "-"}},
	{name: "rename of a directory, chmod in it", a: renames("d", "e"), b: both(chmods("d/f", 0o630), chmods("d", 0o700)),
		tree: map[string]string{"e/f": "was d/f", "d": "-"}},
	{name: "delete rename over", a: deletes("x"), b: renames("y", "x"),
		tree: map[string]string{"x": "was y", "y": "-"}},
	{name: "delete rename over of what was written before", a: func(h *zoneHistory, e *env) {
		writes("n", "of b")(h, h.all[1])
		time.Sleep(2 * time.Second)
		deletes("x")(h, e)
	}, b: renames("n", "x"), tree: map[string]string{"x": "of b", "n": "-"}},
	{name: "directory file", a: both(makes("n"), writes("n/a", "of a")), b: writes("n", "a file"),
		tree: map[string]string{"n": "", "n/a": "of a"}, kept: []string{"a file"}},
	{name: "link write", a: links("n", "there"), b: writes("n", "written"), tree: map[string]string{"n": "written"}},
	{name: "write link", a: writes("n", "written"), b: links("n", "there"), tree: map[string]string{"n": "-> there"}, kept: []string{"written"}},
	{name: "link link", a: links("n", "first"), b: links("n", "second"), tree: map[string]string{"n": "-> second"}},
}

func links(path, target string) func(*zoneHistory, *env) {
	return func(h *zoneHistory, e *env) {
		par, name := e.parent(path)
		if _, err := e.c.Symlink(context.Background(), me, par, name, target); err != nil {
			h.t.Fatalf("symlink %q: %v", path, err)
		}
	}
}

func chmods(path string, mode uint32) func(*zoneHistory, *env) {
	return func(h *zoneHistory, e *env) {
		a, err := e.lookup(path)
		if err == nil {
			_, err = e.c.SetAttr(context.Background(), a.Ino, nil, cache.SetAttr{Valid: cache.SetMode, Mode: mode})
		}
		if err != nil {
			h.t.Fatalf("chmod %q: %v", path, err)
		}
	}
}

func removes(dir string) func(*zoneHistory, *env) {
	return func(h *zoneHistory, e *env) {
		par, name := e.parent(dir)
		if err := e.c.Rmdir(context.Background(), par, name); err != nil {
			h.t.Fatalf("rmdir %q: %v", dir, err)
		}
	}
}

// TestZonesClash holds what comes of it when two zones do something to one name: whatever
// it is, all zones show the same and nothing that was written is gone, and for most it is
// said what they show. It comes out the same whether a zone is heard at once or late.
func TestZonesClash(t *testing.T) {
	outside := time.Now()
	for _, c := range clashes {
		if c.open && !hardZones() {
			continue
		}
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			for _, first := range []int{0, 1} { // whose line is healed first
				for _, fetched := range []bool{false, true} {
					if !fetched && !strings.Contains(c.name, "rename") && !hardZones() {
						continue
					}
					synctest.Test(t, func(t *testing.T) { c.run(t, first, fetched, true, outside) })
				}
				// Nobody deletes anything there, so a loser is kept without the trash, too.
				if strings.Contains(c.name, "rename") && !strings.Contains(c.name, "delete") {
					synctest.Test(t, func(t *testing.T) { c.run(t, first, true, false, outside) })
				}
			}
		})
	}
}

// hardZones says whether tests of zones are to try what is known not to hold yet: random
// histories (README, State of the project).
func hardZones() bool { return os.Getenv("DEPOTFS_HARD") != "" }

// run is one clash: first is the zone whose line is healed first, fetched says whether b has
// the bytes of what a made, trash whether deleted versions are kept.
func (c clash) run(t *testing.T, first int, fetched, trash bool, outside time.Time) {
	h := newZoneHistory(t, 3, 1, outside, 7*time.Minute, -7*time.Minute)
	defer h.end()
	if !trash {
		for _, e := range h.all {
			e.c.SetTrashRetention(0)
		}
	}
	a, b := h.all[0], h.all[1]
	a.mkdirAll("d")
	for _, path := range []string{"x", "y", "d/f"} {
		writes(path, "was "+path)(h, a)
	}
	h.agree()
	if !fetched {
		if _, err := b.c.Evict(context.Background(), []string{"x", "y", "d/f"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	h.texts = nil

	for _, e := range []*env{a, b} {
		e.store.SetDown(true)
	}
	c.a(h, a)
	time.Sleep(5 * time.Second)
	c.b(h, b)
	time.Sleep(5 * time.Second)
	for _, i := range []int{first, 1 - first} {
		h.all[i].store.SetDown(false)
		time.Sleep(40 * time.Second)
	}
	tree := h.agree()

	texts := map[string]string{}
	for p := range tree {
		texts[p] = ""
		if strings.HasPrefix(tree[p], "other") {
			at, err := a.lookup(p)
			if err == nil {
				texts[p], err = a.c.Readlink(context.Background(), at.Ino)
			}
			if err != nil {
				t.Fatalf("read the link %q: %v", p, err)
			}
			texts[p] = "-> " + texts[p]
		} else if !strings.HasPrefix(tree[p], "dir") {
			body, err := a.read(p)
			if err != nil {
				t.Fatalf("read %q: %v", p, err)
			}
			texts[p] = string(body)
		}
	}
	conflicts, trashed := h.bodies("p/.depotfs/conflicts/"), h.bodies("p/.depotfs/trash/")
	t.Logf("healed first: %s, fetched in b: %v, trash: %v; all zones show %q, conflicts %q, trash %q", h.all[first].zone, fetched, trash, texts, conflicts, trashed)
	for p, want := range c.tree {
		if got, there := texts[p]; want == "-" && there || want != "-" && (!there || got != want) {
			t.Errorf("%q is %q (there: %v), want %q", p, got, there, want)
		}
	}
	for _, text := range c.kept {
		if !slices.Contains(conflicts, text) {
			t.Errorf("%q is not among the conflicts", text)
		}
	}
	for _, text := range c.dead {
		if trash && !slices.Contains(trashed, text) {
			t.Errorf("%q is not in the trash", text)
		}
	}
	for _, text := range h.texts {
		if !c.untold && !slices.Contains(slices.Concat(slices.Collect(maps.Values(texts)), conflicts, trashed), text) {
			t.Errorf("%q was written in the clash and is nowhere", text)
		}
	}
	if faults := h.bucket(tree); len(faults) > 0 {
		t.Error(strings.Join(faults, "\n"))
	}
	for p := range texts {
		if !slices.Contains([]string{"x", "y", "d", "e", "n", "m", "d/f", "d/g", "e/f", "e/g", "n/a", "n/b"}, p) {
			t.Errorf("nobody made the name %q", p)
		}
	}
}

// bodies are the objects below a prefix.
func (h *zoneHistory) bodies(prefix string) (texts []string) {
	for _, k := range h.mem.Keys(prefix) {
		texts = append(texts, string(h.mem.Bytes(k)))
	}
	return texts
}
