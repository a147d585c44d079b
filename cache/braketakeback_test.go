package cache_test

import (
	"slices"
	"strings"
	"testing"

	"depotfs/cache"
)

// The store was away when the brake tripped: what was told is taken back once it answers.
func TestTakenBackWhenTheStoreAnswers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.install(theirs, from(200, 4)...)
	keys := e.plainKeys()
	e.uninstall(template(200))
	e.uninstall(template(201))
	e.settleRemovals()
	if got := e.plainKeys(); len(got) != len(keys)-6 {
		t.Fatalf("%d objects, want those of two templates less than %d", len(got), len(keys))
	}
	e.store.SetDown(true)
	e.uninstall(template(202))
	e.restart()
	e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 9 })
	e.store.SetDown(false)
	e.waitFor("the objects to be there again", func() bool { return slices.Equal(e.plainKeys(), keys) })
	e.takenBack()
	e.discard()
	e.installed(from(200, 4)...)
}

// Nothing is in the trash: what went before there was a burst is gone, and said to be.
func TestNothingToTakeBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.c.SetTrashRetention(0) // nothing is kept
	e.install(theirs, from(200, 3)...)
	e.uninstall(template(200))
	e.uninstall(template(201))
	e.settleRemovals()
	e.uninstall(template(202))
	image := template(200) + "/image.qcow2"
	e.waitFor("a problem", func() bool {
		return slices.ContainsFunc(e.status().Problems, func(p cache.Problem) bool {
			return p.Kind == "held" && p.Path == image && strings.Contains(p.Reason, "not in the trash")
		})
	})
	left := e.discard()
	var paths []string
	for _, n := range left {
		paths = append(paths, n.Path)
	}
	if want := []string{image, template(200) + "/template.properties", template(201) + "/image.qcow2", template(201) + "/template.properties"}; !slices.Equal(paths, want) {
		t.Errorf("discard left %q, want %q", paths, want)
	}
	e.installed(202)
	e.wantHeld(4)
	if left := e.approve(); len(left) > 0 {
		t.Errorf("approve left %+v", left)
	}
	e.wantHeld(0)
	if p := e.status().Problems; len(p) > 0 {
		t.Errorf("still a problem: %+v", p)
	}
}
