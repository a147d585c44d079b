package cache_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"depotfs/cache"
	"depotfs/cache/journal"
	"depotfs/cache/storetest"
)

// told reads the journal of a zone as another zone would: "op path", "rename from path".
// Batches must be numbered without gaps from 1 on.
func (e *env) told(zone string) (records []journal.Record) {
	e.t.Helper()
	keys := e.mem.Keys(journal.Prefix("p/", zone))
	slices.Sort(keys)
	for i, k := range keys {
		if want := journal.Key("p/", zone, uint64(i)+1); k != want {
			e.t.Fatalf("the journal has %q, want %q", k, want)
		}
		b, _ := e.object(k)
		h, rs, bad, err := journal.DecodeBatch(b)
		if err != nil || len(bad) > 0 || h.Zone != zone || h.Seq != uint64(i)+1 {
			e.t.Fatalf("%s: header %+v, bad %v, %v", k, h, bad, err)
		}
		records = append(records, rs...)
	}
	return records
}

func lines(records []journal.Record) (out []string) {
	for _, r := range records {
		s := string(r.Op) + " "
		if r.From != "" {
			s += r.From + " "
		}
		out = append(out, s+r.Path)
	}
	return out
}

// since returns what was told after the first n records, and how many there are then.
func (e *env) toldSince(n int) ([]journal.Record, int) {
	e.t.Helper()
	all := e.told("z1")
	return all[n:], len(all)
}

func (e *env) wantTold(n int, want ...string) (next int) {
	e.t.Helper()
	got, next := e.toldSince(n)
	if l := lines(got); !slices.Equal(l, want) {
		e.t.Errorf("told:\n  %s\nwant:\n  %s", strings.Join(l, "\n  "), strings.Join(want, "\n  "))
	}
	return next
}

func (e *env) rmdir(path string) {
	e.t.Helper()
	p, n := e.parent(path)
	if err := e.c.Rmdir(context.Background(), p, n); err != nil {
		e.t.Fatalf("rmdir %s: %v", path, err)
	}
}

// What other zones are told of, in order, and what not: files that the depot never had,
// temporary ones, and reading, evicting and fetching.
func TestWhatIsTold(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 5000)
	e.mkdirAll("d")
	e.flush()
	n := e.wantTold(0, "mkdir d")
	e.write("d/f", data)
	e.write("d/x.tmp", data)
	e.flush()
	got, next := e.toldSince(n)
	if l := lines(got); !slices.Equal(l, []string{"put d/f"}) {
		t.Fatalf("told %q", l)
	}
	r := got[0]
	info, err := e.mem.Head(context.Background(), "p/d/f")
	if err != nil {
		t.Fatal(err)
	}
	if r.Key != "p/d/f" || r.ETag != info.ETag || r.Size != 5000 || !r.HasCRC || r.CRC64 != info.CRC64 || r.Zone != "z1" || r.Time == 0 || r.Mode&0o777 != 0o644 {
		t.Errorf("the put record is %+v, the object %+v", r, info)
	}
	n = next

	e.evict("d/f")
	e.mustRead("d/f", data)
	e.write("d/new", data)
	e.unlink("d/new") // nobody knew it
	e.flush()
	n = e.wantTold(n)

	e.rename("d/f", "d/g")
	e.flush()
	n = e.wantTold(n, "rename d/f d/g", "put d/g")
	e.write("d/v2", data[:100])
	e.rename("d/v2", "d/g") // before it was uploaded: the others keep the old one until then
	e.flush()
	n = e.wantTold(n, "put d/g")
	e.rename("d", "d2")
	e.flush()
	if l, _ := e.toldSince(n); len(l) != 3 || lines(l)[0] != "rename d d2" || l[2].Path != "d2/g" && l[1].Path != "d2/g" {
		t.Errorf("a renamed directory is told as %q", lines(l))
	}
	_, n = e.toldSince(n)
	e.rename("d2/g", "d2/old.tmp") // the others keep it: so does the depot
	e.flush()
	n = e.wantTold(n)
	e.rename("d2/old.tmp", "d2/g")
	e.rename("d2/g", "d2/gone.tmp")
	e.unlink("d2/gone.tmp")
	e.flush()
	n = e.wantTold(n, "delete d2/g")
	e.unlink("d2/x.tmp")
	e.rmdir("d2")
	e.flush()
	n = e.wantTold(n, "rmdir d2")
	e.restart()
	e.flush()
	e.wantTold(n)
}

// A batch whose answer was lost is one batch, and a kill before or after it arrived loses
// no record and makes none twice.
func TestToldOnce(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"request", "answer", "daemon before", "daemon after"} {
		t.Run(lost, func(t *testing.T) {
			e := newEnv(t)
			e.write("a", pattern(1, 1000))
			e.flush()
			n := e.wantTold(0, "put a")
			var struck atomic.Bool
			fault := storetest.LoseAnswer(storetest.Put)
			if lost == "request" || lost == "daemon before" {
				fault = storetest.Before(storetest.Put, func(context.Context, string) error {
					struck.Store(true)
					return cache.ErrUnavailable
				})
			}
			e.store.Inject(fault.On(".depotfs/journal/"))
			e.write("b", pattern(2, 1000))
			go e.c.Flush(context.Background(), nil, nil)
			e.waitFor("the batch to be sent", func() bool {
				_, there := e.object(journal.Key("p/", "z1", 2))
				return there || struck.Load()
			})
			if strings.HasPrefix(lost, "daemon") {
				image := e.copyState()
				e.close()
				e.state = image
				e.open()
			}
			e.write("c", pattern(3, 1000))
			e.flush()
			if got := lines(e.told("z1")[n:]); !slices.Equal(got, []string{"put b", "put c"}) {
				t.Errorf("told %q", got)
			}
		})
	}
}

// A state directory that was lost goes on behind what the one before has told.
func TestToldByALostStateDirectory(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.write("a", pattern(1, 1000))
	e.flush()
	e.close()
	if err := os.RemoveAll(e.state); err != nil {
		t.Fatal(err)
	}
	e.open()
	e.flush()
	e.write("b", pattern(2, 1000))
	e.flush()
	got := lines(e.told("z1"))
	if got[0] != "put a" || got[len(got)-1] != "put b" {
		t.Errorf("told %q", got)
	}
}
