package cache_test

import (
	"depotfs/cache"
	"depotfs/cache/storetest"
	"testing"
	"time"
)

// Two zones make files of one name, and one of them renames its own before it hears of the
// other's: that goes along, as far as anybody can know, and none of the two is lost.
func TestFileOfANameThatWasRenamed(t *testing.T) {
	t.Parallel()
	for _, trash := range []time.Duration{0, time.Hour} {
		zs := newZones(t, 2)
		a, b := zs[0], zs[1]
		for _, e := range zs {
			e.c.SetTrashRetention(trash)
		}
		theirs, ours := pattern(1, 2000), pattern(2, 3000)
		b.write("x", ours)
		b.flush()
		a.settle = time.Hour // until it flushes
		a.write("x", theirs)
		pause()
		b.rename("x", "n")
		b.flush() // the object is at its new key, and the old one is free
		a.flush()
		tell(a, b)
		sameTrees(a, b)
		a.mustRead("n", theirs)
		a.wantNone("x")
		a.keptSomewhere(ours)
	}
}

// A file that is renamed to the name of a directory that another zone made is kept by the
// zone whose version it is, whichever comes first.
func TestRenamedToADirectory(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"the rename", "the directory"} {
		t.Run(first+" is heard first", func(t *testing.T) {
			zs := newZones(t, 3)
			a, b, c := zs[0], zs[1], zs[2]
			a.write("x", pattern(1, 2000))
			tell(a, b, c)
			changed := pattern(2, 3000)
			a.write("x", changed)
			a.flush()
			maker := a
			if first == "the rename" {
				maker = c
			}
			maker.mkdirAll("n")
			pause()
			b.rename("x", "n")
			b.flush()
			a.refresh()
			tell(a, b, c)
			sameTrees(a, b, c)
			if got, err := a.lookup("n"); err != nil || got.Mode&0o170000 != 0o040000 {
				t.Errorf("n is %o (%v), want a directory", got.Mode, err)
			}
			a.wantNone("x")
			a.keptSomewhere(changed)
		})
	}
}

// A directory of another zone takes the name of a file whose upload has not heard of its
// success: the file is kept, and its object goes.
func TestDirectoryTakesTheNameOfAnUpload(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	ours := pattern(1, 2000)
	a.store.Inject(storetest.LoseAnswer(storetest.Put).On("p/x"), storetest.Fail(storetest.Put, cache.ErrUnavailable).On("p/x").Always())
	a.write("x", ours)
	a.waitFor("the put whose answer is lost", func() bool { _, there := a.object("p/x"); return there })
	b.mkdirAll("x")
	b.flush()
	a.refresh()
	a.store.Clear()
	tell(a, b)
	sameTrees(a, b)
	a.keptSomewhere(ours)
	a.waitFor("its object goes", func() bool { _, there := a.object("p/x"); return !there })
}

// A file that another zone renamed and deleted before it heard of the version here is kept,
// also where a new file has the old name before that zone has seen to its object.
func TestDeletedUnderTheNewName(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	for _, e := range zs {
		e.c.SetTrashRetention(time.Hour)
	}
	b.write("x", pattern(1, 2000))
	tell(a, b)
	unknown := pattern(2, 2500)
	a.write("x", unknown)
	a.flush()
	pause()
	b.rename("x", "n")
	b.flush()
	time.Sleep(time.Second) // two within 0.4 s count as one
	b.unlink("n")
	b.flush()
	a.refresh()
	a.write("x", pattern(3, 3000))
	a.flush()
	tell(a, b)
	sameTrees(a, b)
	a.keptSomewhere(unknown)
}
