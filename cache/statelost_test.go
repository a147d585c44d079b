package cache_test

import (
	"os"
	"testing"
	"time"

	"depotfs/cache"
)

// A file that lacks bytes and was written to, when the state directory is lost: its start
// brings it back from the sidecar, and is cut off before another step each time. What was
// written is there after the next start, whether the state directory of the one before is or not.
func TestLostStateKeepsWhatWasWritten(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		for step := 0; lostOnce(t, step, again); step++ {
			if step == 200 {
				t.Fatal("it never comes to its end")
			}
		}
	}
}

// lostOnce reports whether the start was cut off before a step: false when it has fewer.
func lostOnce(t *testing.T, step int, again bool) bool {
	e := newEnv(t)
	defer e.close()
	e.close()
	e.settle = time.Hour // nothing of it is in the depot
	e.open()
	body := pattern(1, 700_000)
	e.mkdirAll("d")
	e.write("d/img", body)
	e.flush()
	e.evict("d/img")
	e.edit("d/img", 300_000, []byte("written here"))
	want := splice(body, 300_000, []byte("written here"))
	e.close()

	lose := func() {
		if err := os.RemoveAll(e.state); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	p := &plug{left: step, armed: true, at: func() {}}
	c, err := newCache(cache.Config{CacheDir: e.share, StateDir: e.state, Zone: "z1", Prefix: "p/", ShareFault: p.fault})
	if err == nil {
		p.mu.Lock()
		p.armed = false
		p.mu.Unlock()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	} else if again {
		lose()
	}
	e.open()
	got, rerr := e.read("d/img")
	if rerr != nil || string(got) != string(want) {
		left, _ := os.ReadDir(e.share + "/.depotfs/partial")
		t.Fatalf("cut off before step %d (%v), lost again %v: it reads as %d other bytes, %v; .depotfs/partial has %v", step, err, again, len(got), rerr, left)
	}
	return p.out
}
