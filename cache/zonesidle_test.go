package cache_test

import (
	"bytes"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// aWhile is a part of an hour: simulated time is not free.
const aWhile = 15 * time.Minute

// idleFor is what two zones ask for in a while in which nothing happens, at a depot with
// so many objects that both have listed, and in the while after it, in which one zone makes
// so many files.
func idleFor(t *testing.T, objects, changes int) (idle, busy map[string]int64) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.NewMem()
		first := &env{t: t, zone: "z1", share: t.TempDir(), state: t.TempDir(), mem: mem, store: storetest.NewFaulty(mem)}
		for i := range objects {
			first.put(fmt.Sprintf("p/volumes/%d/%d", i%20, i))
		}
		zones := []*env{first, {t: t, zone: "z2", share: t.TempDir(), state: t.TempDir(), mem: mem, store: storetest.NewFaulty(mem)}}
		for _, e := range zones {
			e.open()
			defer e.close()
		}
		for _, e := range zones {
			e.waitFor("it has listed the depot", func() bool {
				s, err := e.c.Status(t.Context())
				return err == nil && s.Store.Listing == "done"
			})
		}
		for _, e := range zones { // both have something to tell
			e.mkdirAll("volumes/new-" + e.zone)
			e.flush()
		}
		time.Sleep(3 * time.Minute) // attributes are read, and what is to be fetched
		during := func(what func()) map[string]int64 {
			count := func() map[string]int64 {
				all := maps.Clone(mem.Usage().Requests) // without what zones tell each other
				for _, e := range zones {
					all["between zones"] += int64(e.store.ZoneCalls(storetest.Any))
				}
				return all
			}
			before := count()
			what()
			time.Sleep(aWhile)
			after := count()
			for kind := range after {
				after[kind] -= before[kind]
			}
			return after
		}
		idle = during(func() {})
		busy = during(func() {
			for i := range changes {
				first.write(fmt.Sprintf("volumes/new-z1/%d", i), []byte("new"))
			}
			first.flush()
		})
	})
	return idle, busy
}

// put makes an object as another program would.
func (e *env) put(key string) {
	e.t.Helper()
	body := []byte(key)
	if _, err := e.mem.Put(e.t.Context(), key, bytes.NewReader(body), int64(len(body)), cache.PutOptions{}); err != nil {
		e.t.Fatal(err)
	}
}

func total(requests map[string]int64) (n int64) {
	for _, m := range requests {
		n += m
	}
	return n
}

// Keeping up costs what changes and the hours cost, and not what the depot holds: an idle
// hour of two zones takes less than 1,200 requests.
func TestIdleZonesAskForLittle(t *testing.T) {
	const most = 1200 * int64(aWhile) / int64(time.Hour)
	small, few := idleFor(t, 10, 20)
	large, many := idleFor(t, 3000, 20)
	t.Logf("%v of two idle zones take %v; with 20 new files %v", aWhile, large, many)
	if large["between zones"] == 0 {
		t.Errorf("looks at journals are not counted: %v", large)
	}
	if n := total(large); n >= most {
		t.Errorf("%v of two idle zones take %d requests, want less than %d: %v", aWhile, n, most, large)
	}
	if a, b := total(small), total(large); b > a+a/20+10 {
		t.Errorf("idle, they take %d requests with 10 objects and %d with 3,000: %v and %v", a, b, small, large)
	}
	if a, b := total(few), total(many); b > a+a/20+20 {
		t.Errorf("the same 20 new files take %d requests with 10 objects and %d with 3,000: %v and %v", a, b, few, many)
	}
	if a, b := total(large), total(many); b > a+20*6+60 {
		t.Errorf("20 new files take %d requests more than none: %v", b-a, many)
	}
}
