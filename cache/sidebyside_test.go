package cache_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// watched is a store that looks at every object at the moment before it can become
// visible.
type watched struct {
	cache.Store
	look func(key string)

	mu             sync.Mutex
	sending, most  int // requests with bytes, now and at most
	parts, mostPar int
	order          []string // keys in the order in which they were put
}

func (w *watched) begin(n, most *int) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	*n++
	*most = max(*most, *n)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		*n--
	}
}

func (w *watched) see(key string) {
	w.mu.Lock()
	w.order = append(w.order, key)
	w.mu.Unlock()
	if w.look != nil {
		w.look(key)
	}
}

func (w *watched) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	if storetest.BetweenZones(key) { // these come by themselves
		return w.Store.Put(ctx, key, body, size, o)
	}
	defer w.begin(&w.sending, &w.most)()
	before := o.Before
	o.Before = func(ctx context.Context) error {
		if before != nil {
			if err := before(ctx); err != nil {
				return err
			}
		}
		w.see(key)
		return nil
	}
	return w.Store.Put(ctx, key, body, size, o)
}

func (w *watched) PutPart(ctx context.Context, key, id string, n int, body io.ReaderAt, size int64, crc uint64) (cache.Part, error) {
	defer w.begin(&w.parts, &w.mostPar)()
	return w.Store.PutPart(ctx, key, id, n, body, size, crc)
}

func (w *watched) CompleteMultipart(ctx context.Context, key, id string, parts []cache.Part, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	w.see(key)
	return w.Store.CompleteMultipart(ctx, key, id, parts, size, o)
}

// use has the zone work on another store from now on.
func (e *env) use(s cache.Store) {
	e.t.Helper()
	e.c.SetStore(s, cache.StoreInfo{Bucket: "b"})
}

// Whatever fails, and whatever the sizes: when an object can become visible, those of
// all files of its directory that were finished before it are.
func TestArrivalInOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 4))
			e := newEnv(t)
			e.flush()
			e.c.SetStore(nil, cache.StoreInfo{})
			var names []string
			data := map[string][]byte{}
			for i := range 40 {
				dir := fmt.Sprintf("volumes/%d/", i%2)
				e.mkdirAll(dir)
				names = append(names, fmt.Sprintf("%sf%02d", dir, i))
				size := rnd.IntN(20_000)
				if rnd.IntN(10) == 0 {
					size = 17<<20 + rnd.IntN(1000) // in parts
				}
				data[names[i]] = pattern(uint64(i), size)
				e.write(names[i], data[names[i]])
			}
			w := &watched{Store: e.store, look: func(key string) {
				at := slices.Index(names, strings.TrimPrefix(key, "p/"))
				if at < 0 {
					return
				}
				have := e.mem.Keys("p/volumes/")
				for i := at % 2; i < at; i += 2 {
					if !slices.Contains(have, "p/"+names[i]) {
						t.Errorf("%s becomes visible before %s", names[at], names[i])
					}
				}
			}}
			for range 6 {
				op := []storetest.Op{storetest.Put, storetest.Put, storetest.Complete, storetest.PutPart}[rnd.IntN(4)]
				fault := storetest.Fail(op, cache.ErrUnavailable)
				if rnd.IntN(2) == 0 {
					fault = storetest.LoseAnswer(op)
				}
				e.store.Inject(fault.On("p/volumes").After(rnd.IntN(10)))
			}
			e.use(w)
			e.flush()
			for _, name := range names {
				e.wantObject("p/"+name, data[name])
			}
		})
	}
}

// Files of one directory are sent side by side, each in one request and once.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.flush()
	e.c.SetStore(nil, cache.StoreInfo{})
	e.mkdirAll("volumes/1")
	const files = 60
	for i := range files {
		e.write(fmt.Sprintf("volumes/1/f%02d", i), pattern(uint64(i), 1000))
	}
	w := &watched{Store: e.store}
	// The first one is held up until others have come up behind it.
	gate := make(chan struct{})
	e.store.Inject(storetest.Delay(storetest.Put, gate).On("volumes/1/f00"))
	e.use(w)
	e.waitFor("others come up behind the first", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.sending >= 4
	})
	if n := len(e.mem.Keys("p/volumes/1/f")); n > 0 {
		t.Errorf("%d files arrived before the first", n)
	}
	close(gate)
	e.flush()
	u := e.mem.Usage().Requests
	// But for the probe's, and a few that another one made wait again.
	if u["put"]-int64(len(e.mem.Keys(""))) > 2+files/10 || u["create"] > 0 {
		t.Errorf("%d files took %v", files, u)
	}
	if w.most > 5 {
		t.Errorf("%d files of one directory were on their way at once", w.most)
	}
}

// Of a file that is written to while it waits for its turn, nothing old becomes visible.
func TestWriterWhileItWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.flush()
	e.c.SetStore(nil, cache.StoreInfo{})
	e.mkdirAll("volumes/1")
	e.write("volumes/1/a", pattern(1, 1000))
	e.write("volumes/1/b", pattern(2, 1000))
	gate := make(chan struct{})
	e.store.Inject(storetest.Delay(storetest.Put, gate).On("volumes/1/a"))
	var seen [][]byte
	w := &watched{Store: e.store, look: func(key string) {
		if got, ok := e.object("p/volumes/1/b"); ok && key != "p/volumes/1/a" {
			seen = append(seen, got)
		}
	}}
	e.use(w)
	e.waitFor("both are sent", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.sending == 2
	})
	e.write("volumes/1/b", pattern(3, 1000))
	close(gate)
	e.flush()
	e.wantObject("p/volumes/1/b", pattern(3, 1000))
	if len(seen) > 0 {
		t.Errorf("another version of the file was visible before")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := slices.DeleteFunc(w.order, func(key string) bool { return !strings.HasPrefix(key, "p/volumes/1/") || strings.HasSuffix(key, "/") }); len(got) != 2 {
		t.Errorf("objects became visible as %v", got)
	}
}

// Small files, renames and deletes do not wait for large files to end.
func TestShortWorkPassesLongWork(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.limits.UploadFiles = 1
	e.open()
	e.mkdirAll("a")
	e.mkdirAll("b")
	e.write("a/renamed", pattern(1, 100))
	e.write("a/removed", pattern(2, 100))
	e.flush()
	stuck := make(chan struct{})
	defer close(stuck)
	e.store.Inject(storetest.Delay(storetest.PutPart, stuck).Always())
	e.write("a/large1", pattern(3, 17<<20))
	e.write("b/large2", pattern(4, 17<<20))
	e.waitFor("the large file is on its way", func() bool { return e.mem.Usage().Requests["create"] > 0 })
	e.mkdirAll("c")
	e.write("c/small", pattern(5, 100))
	pa, _ := e.lookup("a")
	pb, _ := e.lookup("b")
	ctx := context.Background()
	if err := e.c.Rename(ctx, pa.Ino, "renamed", pb.Ino, "renamed", 0); err != nil {
		t.Fatal(err)
	}
	if err := e.c.Unlink(ctx, pa.Ino, "removed"); err != nil {
		t.Fatal(err)
	}
	e.waitFor("small file, rename and delete pass", func() bool {
		have := e.mem.Keys("p/")
		return slices.Contains(have, "p/c/small") && slices.Contains(have, "p/b/renamed") &&
			!slices.Contains(have, "p/a/renamed") && !slices.Contains(have, "p/a/removed")
	})
}

// What waits alike goes by class, what is small first.
func TestClassesGoInTurn(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.limits.UploadFiles = 1
	e.open()
	e.flush()
	e.c.SetStore(nil, cache.StoreInfo{})
	want := []string{"template/tmpl/1/2/template.properties", "snapshots/1/2/s", "template/tmpl/1/3/image", "volumes/1/v", "elsewhere/o"}
	for _, name := range slices.Backward(want) {
		e.mkdirAll(name[:strings.LastIndexByte(name, '/')])
		size := 100
		if strings.HasSuffix(name, "image") {
			size = 2 << 20
		}
		e.write(name, pattern(1, size))
	}
	time.Sleep(100 * time.Millisecond) // what was written within a tick of the clock is not read yet
	w := &watched{Store: e.store}
	gate, listed := make(chan struct{}), e.mem.Usage().Requests["list"]
	e.store.Inject(storetest.Delay(storetest.Put, gate).Always())
	e.use(w)
	e.waitFor("all to be queued", func() bool { return e.mem.Usage().Requests["list"] > listed }) // which follows
	close(gate)
	e.flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, key := range w.order {
		if name := strings.TrimPrefix(key, "p/"); slices.Contains(want, name) {
			got = append(got, name)
		}
	}
	if len(got) == len(want) { // whoever was queued first went at once
		want = slices.DeleteFunc(want, func(name string) bool { return name == got[0] })
	}
	if !slices.Equal(got[1:], want) {
		t.Errorf("went up as %v, want behind the first %v", got, want)
	}
}

// The number of parts at once and their size change while the cache runs.
func TestTransfersAreLive(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.flush()
	if err := e.c.SetTransfers(cache.Transfers{UploadFiles: 2, UploadParts: 2, PartSize: 1 << 20}); err == nil {
		t.Error("parts smaller than S3 allows were taken")
	}
	if err := e.c.SetTransfers(cache.Transfers{UploadFiles: 2, UploadParts: 2, PartSize: 5 << 20}); err != nil {
		t.Fatal(err)
	}
	w := &watched{Store: e.store}
	e.use(w)
	gate := make(chan struct{})
	e.store.Inject(storetest.Delay(storetest.PutPart, gate).Always())
	e.write("f", pattern(1, 51<<20))
	parts := func(n int) func() bool {
		return func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.parts == n
		}
	}
	e.waitFor("two parts are sent", parts(2))
	if err := e.c.SetTransfers(cache.Transfers{UploadFiles: 2, UploadParts: 6, PartSize: 5 << 20}); err != nil {
		t.Fatal(err)
	}
	e.waitFor("six parts are sent", parts(6))
	close(gate)
	e.flush()
	if n := e.mem.Usage().Requests["part"]; n != 11 {
		t.Errorf("51 MiB went in %d parts of 5 MiB", n)
	}
	if w.mostPar > 6 {
		t.Errorf("%d parts at once", w.mostPar)
	}
	e.wantObject("p/f", pattern(1, 51<<20))
	if got := e.c.Transfers().UploadParts; got != 6 {
		t.Errorf("%d parts at once are shown", got)
	}
}
