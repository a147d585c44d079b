package cache_test

import (
	"context"
	"testing"
	"time"

	"depotfs/cache/storetest"
)

// A zone does not hear what it has told itself, also where it told it before it listened
// for the first time.
func TestZoneDoesNotHearItself(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.poll = time.Hour // it tells first
	e.open()
	e.write("a", pattern(1, 100))
	e.flush()
	e.write("b", pattern(2, 100))
	e.flush()
	before := e.store.ZoneCalls(storetest.Get)
	if err := e.c.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := e.store.ZoneCalls(storetest.Get) - before; n > 0 {
		t.Errorf("%d batches of its own were read", n)
	}
}
