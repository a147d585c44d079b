package cache_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
	"depotfs/cache/fetch"
	"depotfs/cache/storetest"
)

func (e *env) refetched() cache.FetchCounts {
	e.t.Helper()
	s, err := e.c.Status(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	return s.Cache.Refetched
}

// Everything that can happen to an answer, to several readers at once, on files that
// are filled and others: no reader sees a wrong byte, and all get theirs.
func TestBadLine(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"f", remote + "f"} {
		t.Run(path, func(t *testing.T) {
			e, _ := newLine(t)
			data := e.away(path, 24<<20)
			h := e.handle(path)
			defer h.Release()
			r := rand.New(rand.NewPCG(1, 7))
			gates := make([]chan struct{}, 12)
			for i := range gates {
				gates[i] = make(chan struct{})
				e.store.Inject(storetest.Delay(storetest.Get, gates[i]).On("p/"+path).After(r.IntN(10)),
					storetest.Cut(storetest.Get, r.Int64N(64<<10)).On("p/"+path).After(r.IntN(10)),
					storetest.Cut(storetest.Get, r.Int64N(2<<20)).On("p/"+path).After(r.IntN(10)),
					storetest.Fail(storetest.Get, cache.ErrUnavailable).On("p/"+path).After(r.IntN(40)))
			}
			errs := make(chan error, 8)
			for i := range 8 {
				r := rand.New(rand.NewPCG(uint64(i), 8))
				go func() {
					for range 40 {
						var err error
						if off := r.Int64N(int64(len(data)) - 1); i%2 == 0 {
							err = readPiece(h, data, off, 4096)
						} else {
							for n := int64(0); n < 4 && err == nil && off+n<<18 < int64(len(data)); n++ {
								err = readPiece(h, data, off+n<<18, 1<<18)
							}
						}
						if err != nil {
							errs <- err
							return
						}
					}
					errs <- nil
				}()
			}
			for _, i := range r.Perm(len(gates)) { // answers come in another order
				close(gates[i])
			}
			for range 8 {
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
			}
			e.mustRead(path, data)
		})
	}
}

// A request whose first byte does not come is made a second time, and the first to
// answer has it.
func TestLateRequestIsMadeTwice(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	data := e.away(remote+"f", 40<<20)
	h := e.handle(remote + "f")
	defer h.Release()
	for i := range int64(20) { // the store is known to be quick
		e.readAt(h, data, i<<20, 4096)
	}
	l.count()
	lost := make(chan struct{})
	defer close(lost)
	e.store.Inject(storetest.Delay(storetest.Get, lost).On("p/" + remote + "f"))
	e.readAt(h, data, 30<<20, 4096)
	if n := e.refetched(); n.Hedges == 0 {
		t.Errorf("%+v", n)
	}
	if gets, n := l.count(); len(gets) != 1 || n != fetch.Block {
		t.Errorf("%d bytes in %v", n, gets)
	}
}

// A body that stands still is gone on with from where it was.
func TestBodyThatStandsStillIsResumed(t *testing.T) {
	t.Parallel() // it takes the time that a body may stand still
	e, l := newLine(t)
	data := e.away(remote+"f", 8<<20)
	l.count()
	stuck := make(chan struct{})
	defer close(stuck)
	l.holdBodies(func(g get, at int64) <-chan struct{} {
		if g.off < 1<<20 && at >= 1<<20 {
			return stuck
		}
		return nil
	})
	h := e.handle(remote + "f")
	defer h.Release()
	e.readAt(h, data, 0, 2<<20)
	e.waitFor("all bodies are closed", func() bool { open, _ := l.now(); return open == 0 })
	if n := e.refetched(); n.Resumes != 1 {
		t.Errorf("%+v", n)
	}
	gets, n := l.count()
	if !slices.Contains(gets, get{1 << 20, 3 << 20}) || n != 8<<20 {
		t.Errorf("%d bytes in %v", n, gets)
	}
}

// A body that is cut is gone on with at once, and nothing of it is fetched again.
func TestCutBodyIsResumed(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	data := e.away(remote+"f", 3<<20)
	l.count()
	e.store.Inject(storetest.Cut(storetest.Get, 1_000_000).On("p/" + remote + "f"))
	h := e.handle(remote + "f")
	defer h.Release()
	e.readAt(h, data, 0, 3<<20)
	gets, n := l.count()
	if len(gets) != 2 || gets[1] != (get{1_000_000, 3<<20 - 1_000_000}) || n > 3<<20+64<<10 {
		t.Errorf("%d bytes in %v", n, gets)
	}
}

// What is read through one open is of one version: another one that takes its place in
// the depot in mid-read is never mixed in, the same bytes under a new tag go on.
func TestOneOpenReadsOneVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		same bool
	}{{"other bytes", false}, {"the same bytes", true}} {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := newLine(t)
			data := e.away(remote+"f", 12<<20)
			h := e.handle(remote + "f")
			defer h.Release()
			e.readAt(h, data, 0, 4096)
			body := data
			if !tt.same {
				body = pattern(99, len(data))
			}
			if _, err := e.mem.Put(t.Context(), "p/"+remote+"f", bytes.NewReader(body), int64(len(body)), cache.PutOptions{CRC64: crc64nvme.Checksum(body), HasCRC64: true, Metadata: map[string]string{"a": "b"}}); err != nil {
				t.Fatal(err)
			}
			e.readAt(h, data, 0, 4096) // what is here stays
			err := readPiece(h, data, 8<<20, 4096)
			if tt.same && err != nil {
				t.Errorf("after the same bytes were stored again: %v", err)
			}
			if !tt.same && !errors.Is(err, cache.ErrGone) {
				t.Errorf("after other bytes were stored: %v", err)
			}
		})
	}
}
