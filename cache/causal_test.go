package cache_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/journal"
)

// madeAt is when the version under a key was finished, as the object says.
func (e *env) madeAt(key string) int64 {
	e.t.Helper()
	info, err := e.mem.Head(context.Background(), key)
	if err != nil {
		e.t.Fatal(err)
	}
	text, _, _ := strings.Cut(info.Metadata["depotfs-made"], " ")
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		e.t.Fatalf("the object of %s says that it is of %q: %v", key, text, err)
	}
	return at
}

// What a zone does after it has heard of something is later than that, however far ahead
// the clock is of who did it, also after a restart.
func TestWhatIsDoneAfterSomethingIsLater(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		zs := newZones(t, 3)
		a, b, c := zs[0], zs[1], zs[2]
		a.mkdirAll("n")
		a.write("n/old", pattern(1, 1000))
		a.write("f", pattern(2, 1000))
		tell(zs...)
		b.ahead.Store(int64(5 * time.Minute))
		b.rename("n", "m")
		b.write("f", pattern(3, 1000))
		b.flush()
		a.refresh()
		a.store.SetDown(true) // what it makes now it cannot tell before all is made
		if restart {
			a.restart()
		}
		a.mkdirAll("n") // another directory of the old name
		a.write("n/new", pattern(4, 1000))
		a.write("f", pattern(5, 1000))
		a.store.SetDown(false)
		tell(zs...)
		for _, e := range zs {
			e.mustRead("n/new", pattern(4, 1000))
			e.mustRead("m/old", pattern(1, 1000))
			e.mustRead("f", pattern(5, 1000))
		}
		if c.wantNone("m/new"); len(c.mem.Keys("p/.depotfs/conflicts/")) > 0 {
			t.Error("what was made from another version is in conflict with it")
		}
	}
}

// A clock that is hours ahead is not followed: it would take all zones with it.
func TestBrokenClockIsNotFollowed(t *testing.T) {
	t.Parallel()
	a := newZones(t, 1)[0]
	a.apply(journal.Record{Op: journal.Mkdir, Path: "d", Zone: "z", Mode: 0o40755, Time: time.Now().Add(1000 * time.Hour).UnixNano()})
	a.write("x", pattern(1, 1000))
	a.flush()
	if at := a.madeAt("p/x"); at > time.Now().Add(time.Minute).UnixNano() {
		t.Errorf("finished at %v", time.Unix(0, at))
	}
}

// What was done before a rename counts as done just after it, in the same order, also when
// the name is renamed again and again.
func TestRenamesKeepTheOrder(t *testing.T) {
	t.Parallel()
	const start = int64(1_800_000_000_000_000_000)
	last := int64(0)
	for _, before := range []time.Duration{1000 * time.Hour, 19 * time.Hour, time.Hour, 61 * time.Second, time.Minute, time.Second, 999 * time.Millisecond,
		40 * time.Millisecond, 20 * time.Millisecond, time.Millisecond, 999 * time.Microsecond, time.Microsecond, 2, 1} {
		at := cache.AfterRename(start-int64(before), start)
		if at <= last || at <= start || at > start+int64(400*time.Millisecond) {
			t.Errorf("%v before the rename counts as %v after it, the one before it as %v", before, time.Duration(at-start), time.Duration(last-start))
		}
		last = at
	}
	one, two := start, start+int64(time.Second)
	for i := range 3 { // a minute, a second and a second later
		renamed := start + int64(time.Minute) + int64(i+1)*int64(time.Second)
		if one, two = cache.AfterRename(one, renamed), cache.AfterRename(two, renamed); one >= two {
			t.Fatalf("a second before and after are %v and %v after rename %d", time.Duration(one-renamed), time.Duration(two-renamed), i+1)
		}
	}
}
