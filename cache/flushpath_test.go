package cache_test

import (
	"context"
	"fmt"
	"testing"
)

// What a flush of one path costs does not depend on how much else waits.
func TestFlushOfOnePathPassesOverTheQueue(t *testing.T) {
	e := newEnv(t)
	e.close()
	e.store = nil // all wait, and a flush answers at once
	e.open()
	e.mkdirAll("snapshots/1")
	const files = 3000
	for i := range files {
		e.write(fmt.Sprintf("snapshots/f%d", i), []byte("waits"))
	}
	e.write("snapshots/1/one", []byte("waits too"))
	flush := func(paths ...string) (left int) {
		got, err := e.c.Flush(context.Background(), paths, nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	if n := flush(); n < files {
		t.Fatalf("%d wait, want %d at least", n, files)
	}
	if n := flush("snapshots/1/one"); n != 1 {
		t.Errorf("%d of one path wait", n)
	}
	if n := testing.AllocsPerRun(10, func() { flush("snapshots/1/one") }); n > files {
		t.Errorf("a flush of one path makes %.0f allocations while %d files wait", n, files)
	}
}
