package cache_test

import (
	"testing"
	"time"
)

// Attributes that reach a zone while it has a version of its own come to it when that one
// is told of.
func TestChmodAgainstWrite(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.write("f", pattern(1, 2000))
	tell(a, b)
	a.settle = time.Hour // until it flushes
	changed := pattern(2, 2500)
	a.write("f", changed)
	time.Sleep(time.Millisecond) // both have one clock, and the mode is to be the later change
	b.chmod("f", 0o630)
	b.flush()
	a.refresh()
	tell(a, b)
	tell(a, b)
	sameTrees(a, b)
	a.wantMode("f", 0o630)
	b.mustRead("f", changed)
}

// Of two modes the later one counts also where a third zone renamed the file after both,
// in whatever order they are heard of.
func TestChmodsAgainstRename(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	a.write("x", pattern(1, 2000))
	tell(zs...)
	for _, step := range []func(){
		func() { c.chmod("x", 0o600) },
		func() { a.chmod("x", 0o640) },
		func() { b.rename("x", "n") },
	} {
		step()
		time.Sleep(10 * time.Millisecond) // all have one clock, and each is to be later than the one before
	}
	b.flush()
	a.refresh() // has the new name, and its own mode
	c.flush()
	tell(zs...)
	tell(zs...)
	sameTrees(zs...)
	for _, e := range zs {
		e.wantMode("n", 0o640)
	}
}

func (e *env) wantMode(path string, mode uint32) {
	e.t.Helper()
	if at, err := e.lookup(path); err != nil || at.Mode&0o7777 != mode {
		e.t.Errorf("zone %s: %q has mode %o, want %o (%v)", e.zone, path, at.Mode&0o7777, mode, err)
	}
}
