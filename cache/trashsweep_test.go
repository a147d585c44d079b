package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

const day = 24 * time.Hour

// putAside puts an object where others would have put one.
func (e *env) putAside(key string, data []byte) {
	e.t.Helper()
	if _, err := e.mem.Put(context.Background(), key, bytes.NewReader(data), int64(len(data)), cache.PutOptions{}); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) sweep(full bool) {
	e.t.Helper()
	if err := cache.Sweep(context.Background(), e.c, full); err != nil {
		e.t.Fatal(err)
	}
}

func stamp(at time.Time) string { return at.UTC().Format("20060102T150405.000000000Z") }

// The age of what is in the trash is the store's business: no clock of a machine ends it
// early. What another zone deleted has more time.
func TestTrashExpires(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	now := time.Now()
	e.write("old", pattern(1, 1000))
	e.flush()
	e.unlink("old")
	e.flush()
	theirs, odd := trashRoot+stamp(now)+"/z2/f", trashRoot+"what is this"
	e.putAside(theirs, pattern(2, 500))
	e.putAside(odd, nil)
	e.ahead.Store(int64(60 * day)) // only ours
	for _, full := range []bool{true, false} {
		e.sweep(full)
	}
	if keys := e.mem.Keys(trashRoot); len(keys) != 3 {
		t.Fatalf("left %v", keys)
	}
	e.ahead.Store(0)
	e.mem.SetClock(func() time.Time { return now.Add(4 * day) })
	e.putAside(trashRoot+stamp(now.Add(4*day))+"/z1/young", pattern(3, 300))
	if st, err := e.c.Status(context.Background()); err != nil || st.Trash.Entries != 3 || st.Trash.Bytes != 1500 || st.Trash.Counted.IsZero() || st.Trash.RetentionSeconds != (7*day).Seconds() {
		t.Errorf("status %+v, %v", st.Trash, err)
	}
	e.mem.SetClock(func() time.Time { return now.Add(8 * day) })
	e.c.SetTrashRetention(7 * day)
	e.waitFor("ours is gone", func() bool { return len(e.mem.Keys(trashRoot)) == 3 })
	if keys := e.mem.Keys(trashRoot); !slices.Contains(keys, theirs) || !slices.Contains(keys, odd) {
		t.Errorf("left %v", keys)
	}
	e.mem.SetClock(func() time.Time { return now.Add(91 * day) })
	e.sweep(true)
	if keys := e.mem.Keys(trashRoot); len(keys) > 0 {
		t.Errorf("left %v", keys)
	}
	if st, err := e.c.Status(context.Background()); err != nil || st.Trash.Entries != 0 || st.Trash.Bytes != 0 {
		t.Errorf("status %+v, %v", st.Trash, err)
	}
}

// A large trash costs a request a thousand now and then, and one for most looks.
func TestSweepOfALargeTrashIsCheap(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.waitFor("the store is listed", func() bool {
		st, err := e.c.Status(context.Background())
		return err == nil && st.Store.Listing == "done"
	})
	for i := range 5000 {
		e.putAside(fmt.Sprintf("%s%s/z1/f%d", trashRoot, stamp(time.Now().Add(time.Duration(i)*time.Millisecond)), i), nil)
	}
	lists := func(full bool) int {
		before := e.store.Calls(storetest.Any)
		e.sweep(full)
		return e.store.Calls(storetest.Any) - before
	}
	if n := lists(false); n > 2 {
		t.Errorf("a look costs %d requests", n)
	}
	if n := lists(true); n > 2+5+1 {
		t.Errorf("a full look costs %d requests", n)
	}
	if st, err := e.c.Status(context.Background()); err != nil || st.Trash.Entries != 5000 {
		t.Errorf("status %+v, %v", st.Trash, err)
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	ctx := context.Background()
	e.mkdirAll("d")
	long := "d/" + string(bytes.Repeat([]byte("\xff"), 200))
	for _, path := range []string{"d/a", long, "dx", "f", "g"} {
		e.write(path, pattern(1, 100))
	}
	e.flush()
	for _, path := range []string{"d/a", long, "dx", "f"} {
		e.unlink(path)
	}
	e.flush()
	e.ahead.Store(int64(2 * time.Hour))
	e.unlink("g")
	e.flush()
	purge := func(pick cache.TrashPick, dry bool, want int64, left ...string) {
		t.Helper()
		sum, no, err := e.c.TrashPurge(ctx, pick, dry)
		if err != nil || sum.Entries != want || sum.Bytes != 100*want || len(no) != 0 {
			t.Fatalf("purge %+v: %+v, %v, %v; want %d", pick, sum, no, err, want)
		}
		var have []string
		for _, e := range e.trashed() {
			have = append(have, e.Path)
		}
		slices.Sort(have)
		slices.Sort(left)
		if !slices.Equal(have, left) {
			t.Fatalf("purge %+v: left %q, want %q", pick, have, left)
		}
	}
	purge(cache.TrashPick{}, true, 5, "d/a", long, "dx", "f", "g")
	purge(cache.TrashPick{Paths: []string{"d"}, OlderThan: 3 * time.Hour}, false, 0, "d/a", long, "dx", "f", "g")
	purge(cache.TrashPick{Paths: []string{"d"}}, false, 2, "dx", "f", "g")
	purge(cache.TrashPick{OlderThan: time.Hour}, false, 2, "g")
	if _, no, err := e.c.TrashPurge(ctx, cache.TrashPick{Entries: []string{"x"}}, false); err != nil || len(no) != 1 {
		t.Errorf("purge of nothing: %v, %v", no, err)
	}
	purge(cache.TrashPick{Entries: []string{e.trashed()[0].Entry}}, false, 1)
	if keys := e.mem.Keys(trashRoot); len(keys) > 0 {
		t.Errorf("left %v", keys)
	}
}
