package cache_test

import (
	"context"
	"maps"
	"os"
	"strings"
	"testing"

	"depotfs/cache"
	"depotfs/cache/journal"
)

// A kill at any step of taking in what another zone did leaves the tree as it was before
// or after; the record is applied again, and then it is as after.
func TestCrashWhileARecordIsApplied(t *testing.T) {
	t.Parallel()
	data, next := pattern(1, 3000), pattern(2, 4000)
	for name, record := range map[string]func(e *env) journal.Record{
		"put over": func(e *env) journal.Record { return e.putRecord("b", "d/f", e.now()+int64(3600e9), next) },
		"delete": func(e *env) journal.Record {
			return journal.Record{Op: journal.Delete, Path: "d/f", Time: e.now() + int64(3600e9), Zone: "b"}
		},
		"rename": func(e *env) journal.Record {
			return journal.Record{Op: journal.Rename, From: "d/f", Path: "e/g", Time: e.now() + int64(3600e9), Zone: "b"}
		},
		"rename of a directory": func(e *env) journal.Record {
			return journal.Record{Op: journal.Rename, From: "d", Path: "e/d", Time: e.now() + int64(3600e9), Zone: "b"}
		},
		"rename over": func(e *env) journal.Record {
			return journal.Record{Op: journal.Rename, From: "d/f", Path: "d/h", Time: e.now() + int64(3600e9), Zone: "b"}
		},
		"rmdir": func(e *env) journal.Record {
			return journal.Record{Op: journal.Rmdir, Path: "e", Time: e.now() + int64(3600e9), Zone: "b"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for step := 0; ; step++ {
				if !crashApply(t, record, step, data) {
					if step == 0 {
						t.Fatal("it does nothing in the share")
					}
					return
				}
			}
		})
	}
}

func crashApply(t *testing.T, record func(e *env) journal.Record, step int, data []byte) bool {
	e := newZones(t, 1)[0]
	e.close()
	p := &plug{left: step}
	e.fault = p.fault
	e.open()
	e.refresh()
	e.mkdirAll("d")
	e.mkdirAll("e")
	e.write("d/f", data)
	e.write("d/h", data[:100])
	e.flush()
	before := e.names()
	r := record(e)
	var image string
	p.at = func() { image = e.copyState() }
	p.mu.Lock()
	p.armed = true
	p.mu.Unlock()
	err := cache.ApplyRecord(context.Background(), e.c, r)
	p.mu.Lock()
	pulled := p.out
	p.armed = false
	e.fault = nil
	p.mu.Unlock()
	if !pulled {
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		return false
	}
	e.stop()
	<-e.done
	_ = e.c.Close()
	e.c = nil
	e.state = image
	e.open()
	e.refresh()
	got := e.names()
	e.apply(r)
	after := e.names()
	if maps.Equal(before, after) {
		t.Fatalf("step %d: applying the record again changed nothing", step)
	}
	if !maps.Equal(got, before) && !maps.Equal(got, after) {
		t.Fatalf("step %d: neither before nor after\n got    %v\n before %v\n after  %v", step, text(got), text(before), text(after))
	}
	for path, what := range after { // with all bytes
		if strings.HasPrefix(what, "file") {
			if _, err := e.read(path); err != nil {
				t.Errorf("step %d: read %q: %v", step, path, err)
			}
		}
	}
	for _, dir := range []string{"open", "evict"} {
		left, err := os.ReadDir(e.share + "/.depotfs/" + dir)
		if err != nil || len(left) > 0 {
			t.Fatalf("step %d: .depotfs/%s has %v (%v)", step, dir, left, err)
		}
	}
	e.close()
	return true
}
