package cache_test

import (
	"bytes"
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

func (e *env) disable() {
	e.t.Helper()
	if changed, err := e.c.Disable(context.Background()); err != nil || !changed {
		e.t.Fatalf("disable: changed %v, %v", changed, err)
	}
}

func (e *env) enable() {
	e.t.Helper()
	if changed, err := e.c.Enable(context.Background(), e.store, cache.StoreInfo{Bucket: "b"}, true); err != nil || !changed {
		e.t.Fatalf("enable: changed %v, %v", changed, err)
	}
}

func (e *env) unlink(path string) {
	e.t.Helper()
	parent, name := e.parent(path)
	if err := e.c.Unlink(context.Background(), parent, name); err != nil {
		e.t.Fatalf("unlink %q: %v", path, err)
	}
}

func (e *env) rename(from, to string) {
	e.t.Helper()
	p, name := e.parent(from)
	q, other := e.parent(to)
	if err := e.c.Rename(context.Background(), p, name, q, other, 0); err != nil {
		e.t.Fatalf("rename %q %q: %v", from, to, err)
	}
}

// While the store is off, what is here works, what is not answers at once, changes
// are kept over a restart, and the store hears nothing. Switched on, it hears all.
func TestOffAndOnAgain(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	here, away := pattern(1, 70_000), pattern(2, 3_000_000)
	e.mkdirAll("d/sub")
	for _, name := range []string{"d/here", "d/gone"} {
		e.write(name, here)
	}
	for _, name := range []string{"d/away", "d/moved", "d/removed", "d/sub/below"} {
		e.write(name, away)
	}
	e.flush()
	e.evict("d/away", "d/moved", "d/removed", "d/sub/below")
	a, err := e.lookup("d/away")
	if err != nil {
		t.Fatal(err)
	}
	if got := e.c.Away(); got.Remote != 4 || got.Partial != 0 || got.Bytes != 4*int64(len(away)) || !got.Listed {
		t.Errorf("away: %+v", got)
	}
	e.disable()
	asked := e.store.Calls(storetest.Any)
	off := func() {
		t.Helper()
		e.mustRead("d/here", here)
		if _, err := e.read("d/away"); !errors.Is(err, cache.ErrOff) {
			t.Errorf("read of what is not here: %v", err)
		}
		st, err := e.c.Status(context.Background())
		if err != nil || st.Store.State != "off" || !strings.Contains(st.Store.Reason, "depotfs disable") {
			t.Errorf("status: %+v %v", st.Store, err)
		}
		f, err := e.c.StatPath(context.Background(), "d/away")
		if err != nil || f.State != "remote" || !strings.Contains(f.Why, "the store is off") {
			t.Errorf("stat: %+v %v", f, err)
		}
		if fs, err := e.c.Statfs(context.Background()); err != nil || fs.Total == 1<<50 {
			t.Errorf("statfs shows the depot's size: %+v %v", fs, err)
		}
		left, err := e.c.Evict(context.Background(), []string{"d/here"}, nil)
		if err != nil || len(left) != 1 || !strings.Contains(left[0].Reason, "the store is off") {
			t.Errorf("evict: %v %v", left, err)
		}
	}
	off()
	e.write("d/new", here)
	e.unlink("d/removed")
	e.unlink("d/gone")
	e.rename("d/moved", "d/moved2")
	e.rename("d/sub", "d/sub2")
	e.restart()
	off()
	if n := e.store.Calls(storetest.Any) - asked; n != 0 {
		t.Errorf("the store was asked %d times while it was off", n)
	}
	h, err := e.c.Open(context.Background(), a.Ino, syscall.O_RDONLY) // stays open
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	buf := make([]byte, 100)
	if _, err := h.ReadAt(context.Background(), buf, 1000); !errors.Is(err, cache.ErrOff) {
		t.Errorf("read through an open handle: %v", err)
	}
	e.enable()
	if _, err := h.ReadAt(context.Background(), buf, 1000); err != nil || !bytes.Equal(buf, away[1000:1100]) {
		t.Errorf("the handle that was opened while the store was off: %v", err)
	}
	e.flush()
	e.mustRead("d/sub2/below", away)
	for key, want := range map[string][]byte{"here": here, "new": here, "away": away, "moved2": away, "sub2/below": away} {
		e.wantObject("p/d/"+key, want)
	}
	for _, key := range []string{"p/d/removed", "p/d/gone", "p/d/moved", "p/d/sub/below"} {
		if _, ok := e.object(key); ok {
			t.Errorf("object %s still exists", key)
		}
	}
	if st, err := e.c.Status(context.Background()); err != nil || len(st.Problems) > 0 {
		t.Errorf("problems that are over: %+v %v", st.Problems, err)
	}
}

// A reader that waits for the store hears at once that it was switched off.
func TestOffEndsWaitingReaders(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.write("f", pattern(1, 3_000_000))
	e.flush()
	e.evict("f")
	asked := make(chan struct{})
	e.store.Inject(storetest.Before(storetest.Get, func(ctx context.Context, _ string) error {
		close(asked)
		<-ctx.Done()
		return ctx.Err()
	}))
	answer := make(chan error, 1)
	go func() { _, err := e.read("f"); answer <- err }()
	<-asked
	e.disable()
	if err := <-answer; !errors.Is(err, cache.ErrOff) {
		t.Errorf("read: %v", err)
	}
}

// An upload in parts that is stopped goes on with the parts that are missing.
func TestOffStopsUploadsAndKeepsTheirParts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.limits = cache.Limits{PartSize: 5 << 20, UploadParts: 1}
	e.open()
	body := pattern(1, 22<<20) // 5 parts
	asked := make(chan struct{})
	e.store.Inject(storetest.Before(storetest.PutPart, func(ctx context.Context, _ string) error {
		close(asked)
		<-ctx.Done()
		return ctx.Err()
	}).After(3))
	e.write("f", body)
	<-asked
	e.disable()
	before := e.store.Calls(storetest.PutPart)
	if _, ok := e.object("p/f"); ok {
		t.Error("half an upload became an object")
	}
	e.restart()
	e.enable()
	e.flush()
	e.wantObject("p/f", body)
	if n := e.store.Calls(storetest.PutPart) - before; n != 2 {
		t.Errorf("%d parts were sent after the store was switched on, 2 were missing", n)
	}
	if n := e.store.Calls(storetest.Create); n != 1 {
		t.Errorf("%d uploads were begun for one file", n)
	}
}

// An object that is being made when the store is switched off is either there when
// Disable returns, and known, or never comes.
func TestOffWaitsForWhatItHasBegun(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	body := pattern(1, 10_000)
	asked, goOn := make(chan struct{}), make(chan struct{})
	e.store.Inject(storetest.Before(storetest.Put, func(ctx context.Context, _ string) error {
		close(asked)
		<-goOn
		return ctx.Err()
	}).On("p/f"))
	e.write("f", body)
	<-asked
	done := make(chan error, 1)
	go func() { _, err := e.c.Disable(context.Background()); done <- err }()
	for { // it is off while the request is still under way
		if st, err := e.c.Status(context.Background()); err != nil {
			t.Fatal(err)
		} else if st.Store.State == "off" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-done:
		t.Fatalf("disable returned (%v) while an object was being made", err)
	default:
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	e.wantObject("p/f", body)
	if got := e.state1("f"); got != "clean" {
		t.Errorf("the file is %s, its object is there", got)
	}
	asks := e.store.Calls(storetest.Put)
	e.enable()
	e.flush()
	if n := e.store.Calls(storetest.Put) - asks; n > 2 { // those of the probe of what the store does
		t.Errorf("%d objects were put for nothing", n)
	}
}

// A store that is not the depot of this zone, or does not answer, changes nothing.
func TestEnableRollsBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.write("f", pattern(1, 1000))
	e.flush()
	e.disable()
	ctx := context.Background()
	for name, other := range map[string]cache.Store{"another depot": anotherDepot(t), "down": downStore()} {
		changed, err := e.c.Enable(ctx, other, cache.StoreInfo{Bucket: "other"}, true)
		if err == nil || changed {
			t.Errorf("%s: enabled (%v)", name, err)
		}
		if st, err := e.c.Status(ctx); err != nil || st.Store.State != "off" || st.Store.Reason == "" {
			t.Errorf("%s: status %+v %v", name, st.Store, err)
		}
	}
	e.restart()
	if _, off, err := e.c.Disabled(); err != nil || !off {
		t.Errorf("a failed enable is remembered: %v %v", off, err)
	}
	e.enable()
	e.mustRead("f", pattern(1, 1000))
	if changed, err := e.c.Enable(ctx, e.store, cache.StoreInfo{}, true); changed || err != nil {
		t.Errorf("enable of what is on: %v %v", changed, err)
	}
}

func anotherDepot(t *testing.T) cache.Store {
	mem := storetest.NewMem()
	body := []byte(`{"format":1,"id":"somebody-elses"}`)
	if _, err := mem.Put(context.Background(), "p/.depotfs/depot.json", bytes.NewReader(body), int64(len(body)), cache.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	return mem
}

func downStore() cache.Store {
	f := storetest.NewFaulty(storetest.NewMem())
	f.SetDown(true)
	return f
}

// Switching the store on costs what was changed, not what there is: the share is
// asked about the new files and about nothing else.
func TestEnableDoesNotRescan(t *testing.T) {
	t.Parallel()
	var counting atomic.Bool
	var mu sync.Mutex
	ops := map[string]int{} // guarded by mu
	e := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: storetest.NewMem()}
	e.store = storetest.NewFaulty(e.mem)
	e.fault = func(op, _, rel string) error {
		if counting.Load() && !strings.HasPrefix(rel, ".depotfs") {
			mu.Lock()
			ops[op+" "+rel]++
			mu.Unlock()
		}
		return nil
	}
	e.open()
	t.Cleanup(e.close)
	const dirs, files = 60, 10
	for d := range dirs {
		dir := "tree/" + string(rune('a'+d%26)) + string(rune('a'+d/26))
		e.mkdirAll(dir)
		for f := range files {
			e.write(dir+"/"+string(rune('a'+f)), pattern(uint64(d*100+f), 100))
		}
	}
	e.flush()
	e.disable()
	e.write("tree/aa/new", pattern(7, 1000))
	e.mkdirAll("other")
	e.write("other/new", pattern(8, 1000))
	e.unlink("tree/ba/a")
	for range 2 { // the state on record is enough, too
		counting.Store(true)
		puts := e.store.Calls(storetest.Put)
		e.enable()
		e.flush()
		counting.Store(false)
		e.wantObject("p/tree/aa/new", pattern(7, 1000))
		e.wantObject("p/other/new", pattern(8, 1000))
		if _, ok := e.object("p/tree/ba/a"); ok {
			t.Error("an object of a file that was removed while the store was off")
		}
		mu.Lock()
		n := 0
		for what, times := range ops {
			if _, rel, _ := strings.Cut(what, " "); rel != "" && rel != "tree" && rel != "tree/aa" && !strings.Contains(rel, "other") && !strings.Contains(rel, "new") {
				t.Errorf("%s was asked of the share %d times", what, times)
			}
			n += times
		}
		clear(ops)
		mu.Unlock()
		if n > 60 {
			t.Errorf("%d operations on a share of %d files for 2 new ones", n, dirs*files)
		}
		t.Logf("%d operations on the share, %d objects put", n, e.store.Calls(storetest.Put)-puts)
		e.disable()
		e.restart()
	}
}

// A mount that never had a store sees what was there before and, given a bucket,
// what others have put into the depot.
func TestFirstStoreAfterALifeWithoutOne(t *testing.T) {
	t.Parallel()
	e := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: storetest.NewMem()}
	e.outside("old/a", pattern(1, 5000))
	e.outside("old/b", pattern(2, 5000))
	e.open()
	t.Cleanup(e.close)
	e.mkdirAll("old/made")
	e.write("old/made/c", pattern(3, 5000))
	e.unlink("old/b")
	if _, err := os.Stat(filepath.Join(e.share, "old/b")); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("unlinked, and in the share: %v", err)
	}
	body := pattern(4, 5000)
	for _, key := range []string{"p/old/made/theirs", "p/old/theirs"} {
		if _, err := e.mem.Put(context.Background(), key, bytes.NewReader(body), int64(len(body)), cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if changed, err := e.c.Disable(context.Background()); err != nil || changed {
		t.Errorf("disable without a store: %v %v", changed, err)
	}
	e.store = storetest.NewFaulty(e.mem)
	// The listing is slow: names must be found all the same, one directory at a time.
	listing, gate := make(chan struct{}), make(chan struct{})
	begun := sync.OnceFunc(func() { close(listing) })
	e.store.Inject(storetest.Before(storetest.List, func(_ context.Context, prefix string) error {
		if prefix == "p/" {
			begun()
			<-gate
		}
		return nil
	}).Times(1000))
	e.enable()
	<-listing
	e.mustRead("old/made/theirs", body)
	close(gate)
	e.flush()
	e.mustRead("old/theirs", body)
	e.wantObject("p/old/a", pattern(1, 5000))
	e.wantObject("p/old/made/c", pattern(3, 5000))
	if _, ok := e.object("p/old/b"); ok {
		t.Error("a file that was removed before there was a store has an object")
	}
	if _, err := e.lookup("old/b"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("lookup of what was removed: %v", err)
	}
}

// Reads and writes of what is here go to the file and ask nobody: a look into the
// catalog would leave garbage, and one into the share would be counted.
func TestReadsAndWritesAskNobody(t *testing.T) {
	var asked atomic.Int64
	e := &env{t: t, share: t.TempDir(), state: t.TempDir()}
	e.fault = func(string, string, string) error { asked.Add(1); return nil }
	e.open()
	t.Cleanup(e.close)
	ctx := context.Background()
	a, err := e.c.Attr(ctx, e.write("f", pattern(1, 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	e.waitFor("the walk", func() bool { return e.adoption().State == "done" })
	h, err := e.c.Open(ctx, a.Ino, syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	buf := make([]byte, 4096)
	var allocs float64
	var names int64
	for range 20 { // what they do they always do; others may do something beside them
		before := asked.Load()
		allocs = testing.AllocsPerRun(200, func() {
			if _, err := h.ReadAt(ctx, buf, 8192); err != nil {
				t.Fatal(err)
			}
			if _, err := h.WriteAt(ctx, buf, 4096); err != nil {
				t.Fatal(err)
			}
		})
		if names = asked.Load() - before; allocs < 1 && names == 0 {
			return
		}
	}
	t.Errorf("200 reads and writes of a file that is here allocate %v times each and make %d operations on the share by name", allocs, names)
}
