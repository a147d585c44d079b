package cache_test

import (
	"syscall"
	"testing"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// An upload sets another zone's version aside, puts its own in the place, and never hears
// that it has: its file is gone by then. No zone shows a name without an object.
func TestReplacedByWhatIsGone(t *testing.T) {
	t.Parallel()
	ways := map[string]func(b *env){
		"unlinked": func(b *env) { b.unlink("x") },
		"renamed":  func(b *env) { b.rename("x", "n") },
		"unlinked while open": func(b *env) {
			h := b.mustOpen("x", syscall.O_RDONLY)
			b.unlink("x")
			h.Release()
		},
		"unlinked, and the daemon is killed": func(b *env) {
			b.store.Inject(storetest.Fail(storetest.Delete, cache.ErrUnavailable).On("p/x").Always())
			b.unlink("x")
			b.state = b.crashState()
			b.store.Clear()
			b.open()
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zs := newZones(t, 2)
			a, b := zs[0], zs[1]
			theirs, ours := pattern(1, 2000), pattern(2, 3000)
			a.write("x", theirs)
			a.flush()
			b.store.Inject(storetest.LoseAnswer(storetest.Put).On("p/x").After(1),
				storetest.Fail(storetest.Put, cache.ErrUnavailable).On("p/x").After(1).Always())
			b.write("x", ours)
			b.waitFor("the put whose answer is lost", func() bool {
				o, there := b.object("p/x")
				return there && len(o) == len(ours)
			})
			way(b)
			b.store.Clear()
			tell(a, b)
			sameTrees(a, b)
			a.wantNone("x")
			if _, there := a.object("p/x"); there {
				t.Error("what was put stays")
			}
			if kept := a.kept(); len(kept) != 1 {
				t.Errorf("kept %q, want the first version", kept)
			}
			if name == "renamed" {
				a.mustRead("n", ours)
			}
		})
	}
}
