package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// newShare is an env whose daemon does not run yet.
func newShare(t testing.TB) *env {
	t.Helper()
	mem := storetest.NewMem()
	e := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: mem, store: storetest.NewFaulty(mem)}
	t.Cleanup(e.close)
	return e
}

func (e *env) adoption() cache.AdoptionStatus {
	e.t.Helper()
	st, err := e.c.Status(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	return st.Adoption
}

// adopted waits until the walk is over and everything was compared.
func (e *env) adopted() cache.AdoptionStatus {
	e.t.Helper()
	e.waitFor("adoption to end", func() bool { return e.adoption().State == "done" })
	e.flush()
	return e.adoption()
}

// theirs puts an object into the depot as another zone or tool would.
func (e *env) theirs(key string, body []byte, meta map[string]string) cache.ObjectInfo {
	e.t.Helper()
	info, err := e.mem.Put(context.Background(), key, bytes.NewReader(body), int64(len(body)), cache.PutOptions{Metadata: meta})
	if err != nil {
		e.t.Fatal(err)
	}
	return info
}

// attrsOf is the metadata that depotfs writes for a file of the share.
func (e *env) attrsOf(path string) map[string]string {
	e.t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(filepath.Join(e.share, path), &st); err != nil {
		e.t.Fatal(err)
	}
	return map[string]string{"file-permissions": fmt.Sprintf("%07o", st.Mode), "file-owner": fmt.Sprint(st.Uid), "file-group": fmt.Sprint(st.Gid),
		"file-mtime": fmt.Sprintf("%dns", st.Mtim.Nano())}
}

// A walk that is interrupted again and again reads each directory once, but for the
// one that it was in, and in the end the depot has everything, once.
func TestAdoptionGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	const dirs, files = 120, 3
	e := newShare(t)
	r := rand.New(rand.NewPCG(1, 1))
	all := []string{""}
	for i := range dirs {
		dir := filepath.Join(all[r.IntN(len(all))], fmt.Sprint("d", i))
		all = append(all, dir)
		for f := range files {
			e.outside(fmt.Sprintf("%s/f%d", dir, f), pattern(uint64(i*10+f), 100+i))
		}
	}
	var mu sync.Mutex
	reads, budget := map[string]int{}, 0 // guarded by mu
	stopped := make(chan struct{}, 1)
	e.fault = func(op, _, rel string) error {
		mu.Lock()
		defer mu.Unlock()
		if op != "readdir" || strings.HasPrefix(rel, ".depotfs") {
			return nil
		}
		if budget--; budget < 0 {
			select {
			case stopped <- struct{}{}:
			default:
			}
			return errors.New("the test stops here")
		}
		reads[rel]++
		return nil
	}
	store := e.store
	rounds := 0
	for done := false; !done; rounds++ {
		mu.Lock()
		budget = 5 + r.IntN(30)
		mu.Unlock()
		select {
		case <-stopped:
		default:
		}
		if e.store = store; rounds%2 == 0 {
			e.store = nil // the walk goes on without a store too
		}
		e.open()
		e.waitFor("the walk", func() bool {
			select {
			case <-stopped:
				return true
			default:
				done = e.adoption().State == "done"
				return done
			}
		})
		if !done {
			e.close()
		}
	}
	if rounds < 4 {
		t.Fatalf("the walk was interrupted %d times only", rounds-1)
	}
	e.store = store
	e.restart()
	got := e.adopted()
	if got.Files != dirs*files || got.DirsDone != dirs+1 || got.DirsLeft != 0 || got.Uploaded != dirs*files {
		t.Errorf("%+v", got)
	}
	mu.Lock()
	defer mu.Unlock()
	twice := 0
	for dir, n := range reads {
		twice += n - 1
		if n > 2 {
			t.Errorf("%q was read %d times", dir, n)
		}
	}
	if len(reads) != dirs+1 || twice > rounds {
		t.Errorf("%d of %d directories were read, %d of them again, in %d rounds", len(reads), dirs+1, twice, rounds)
	}
	for _, dir := range all[1:] {
		for f := range files {
			var i int
			fmt.Sscanf(filepath.Base(dir), "d%d", &i)
			e.wantObject(fmt.Sprintf("p/%s/f%d", dir, f), pattern(uint64(i*10+f), 100+i))
		}
	}
	if n := e.store.Calls(storetest.Put); n > dirs*(files+1)+1+2*rounds { // files, markers, the depot's identity, probes
		t.Errorf("%d objects were put for %d files and %d directories", n, dirs*files, dirs)
	}
}

// What the depot has already is not sent, and read once, over restarts; what differs
// keeps aside what is here; what it lacks is sent.
func TestAdoptionComparesBeforeItSends(t *testing.T) {
	t.Parallel()
	const big = 3 << 20
	e := newShare(t)
	e.limits.CompareRate = 40 << 20 // slow enough to be interrupted
	var total int64
	for i := range 12 {
		name := fmt.Sprint("same/", i)
		body := pattern(uint64(i), big+i)
		e.outside(name, body)
		e.theirs("p/"+name, body, e.attrsOf(name))
		total += int64(len(body))
	}
	for _, name := range []string{"same", "dir"} {
		if err := os.MkdirAll(filepath.Join(e.share, name), 0o755); err != nil {
			t.Fatal(err)
		}
		e.theirs("p/"+name+"/", nil, e.attrsOf(name))
	}
	if err := os.Symlink("to/here", filepath.Join(e.share, "link")); err != nil {
		t.Fatal(err)
	}
	e.theirs("p/link", []byte("to/here"), e.attrsOf("link"))
	small := pattern(50, 500)
	e.outside("small", small)
	e.theirs("p/small", small, e.attrsOf("small"))
	e.outside("missing", pattern(51, 5000))
	e.outside("othersize", pattern(52, 5000))
	e.theirs("p/othersize", pattern(53, 6000), nil)
	e.outside("otherbytes", pattern(54, big))
	e.theirs("p/otherbytes", pattern(55, big), nil)
	e.outside("plain", pattern(56, 700)) // the object says nothing of owner, mode and time
	e.theirs("p/plain", pattern(56, 700), nil)
	for range 3 {
		e.open()
		before := e.adoption().Same
		e.waitFor("some files to be compared", func() bool { a := e.adoption(); return a.Same > before || a.Same >= 14 })
		e.close()
	}
	e.open()
	got := e.adopted()
	if got.Same != 14 || got.Uploaded != 1 || got.Conflicts != 2 || got.Files != 17 || got.Comparing != 0 || got.Compared != 17 {
		t.Errorf("%+v", got)
	}
	if most := total + big + 500 + 700 + 3*(big+12) + 4*256<<10; got.ComparedBytes > most || got.ComparedBytes < total {
		t.Errorf("%d bytes were read to compare %d, with 3 interruptions", got.ComparedBytes, total)
	}
	puts := 1 + 2 + 4*2 // missing, two conflicts; the identity, and probes of what the store does
	if n := e.store.Calls(storetest.Put); n > puts+4 {
		t.Errorf("%d objects were put, 3 had to be", n)
	}
	if n := e.store.Calls(storetest.Copy); n > 1+4*2 {
		t.Errorf("%d objects were copied; one had other attributes", n)
	}
	e.wantObject("p/missing", pattern(51, 5000))
	e.wantObject("p/othersize", pattern(53, 6000))
	e.mustRead("othersize", pattern(53, 6000))
	e.mustRead("otherbytes", pattern(55, big))
	kept := map[string]bool{}
	if err := e.mem.List(context.Background(), cache.ListQuery{Prefix: "p/.depotfs/conflicts/"}, func(p cache.ListPage) error {
		for _, o := range p.Objects {
			kept[filepath.Base(o.Key)] = true
		}
		return nil
	}); err != nil || len(kept) != 2 || !kept["othersize"] || !kept["otherbytes"] {
		t.Errorf("kept aside: %v %v", kept, err)
	}
	info, err := e.mem.Head(context.Background(), "p/plain")
	if want := e.attrsOf("plain"); err != nil || info.Metadata["file-mtime"] != want["file-mtime"] || info.Metadata["file-owner"] != want["file-owner"] {
		t.Errorf("metadata of an object that had none: %v %v, want %v", info.Metadata, err, want)
	}
}

// Comparing something large holds up nobody: not its readers, not who removes it, not
// the upload of what is new.
func TestComparingIsInNobodysWay(t *testing.T) {
	t.Parallel()
	e := newShare(t)
	e.limits = cache.Limits{CompareRate: 1, UploadFiles: 1} // never ends
	body := pattern(1, 2<<20)
	for _, name := range []string{"a/one", "a/two", "b/three"} {
		e.outside(name, body)
		e.theirs("p/"+name, body, e.attrsOf(name))
	}
	e.open()
	// one of each directory: they are sent in order
	e.waitFor("the comparison to begin", func() bool { a := e.adoption(); return a.Comparing == 2 && a.ComparedBytes > 0 })
	fresh := pattern(9, 3<<20)
	e.write("new", fresh)
	e.mustRead("a/one", body)
	e.flush("new")
	e.wantObject("p/new", fresh)
	f, err := e.c.StatPath(context.Background(), "a/one")
	if err != nil || !strings.Contains(f.Why, "compared") {
		t.Errorf("stat: %+v %v", f, err)
	}
	for _, name := range []string{"a/one", "a/two"} {
		e.unlink(name)
	}
	e.write("b/three", fresh)
	e.close() // ends the comparison that is under way
	e.limits.CompareRate = -1
	e.open()
	got := e.adopted()
	e.wantObject("p/b/three", fresh)
	if got.Comparing != 0 {
		t.Errorf("%+v", got)
	}
}

// The mount answers while the walk stands still.
func TestMountAnswersDuringTheWalk(t *testing.T) {
	t.Parallel()
	e := newShare(t)
	for _, name := range []string{"slow/x", "other/deep/y", "z"} {
		e.outside(name, pattern(1, 1000))
	}
	gate, there := make(chan struct{}), make(chan struct{})
	var once sync.Once
	e.fault = func(op, _, rel string) error {
		if op == "readdir" && rel == "" { // nothing but the root is known
			once.Do(func() { close(there); <-gate })
		}
		return nil
	}
	e.open()
	<-there
	e.mustRead("other/deep/y", pattern(1, 1000))
	e.write("other/made", pattern(2, 1000))
	if got := e.list("other"); strings.Join(got, " ") != "deep made" {
		t.Errorf("listed %q", got)
	}
	if a := e.adoption(); a.State != "running" {
		t.Errorf("%+v", a)
	}
	close(gate)
	if a := e.adopted(); a.DirsLeft != 0 || a.Files != 3 {
		t.Errorf("%+v", a)
	}
	e.wantObject("p/slow/x", pattern(1, 1000))
}

// A conflict of a file that somebody reads waits for him, and keeps one copy.
func TestConflictOfAnOpenFileKeepsOneCopy(t *testing.T) {
	t.Parallel()
	e := newShare(t)
	e.outside("f", pattern(1, 5000))
	e.theirs("p/f", pattern(2, 6000), nil)
	e.store = nil
	e.open()
	a, err := e.lookup("f")
	if err != nil {
		t.Fatal(err)
	}
	h, err := e.c.Open(context.Background(), a.Ino, syscall.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	e.store = storetest.NewFaulty(e.mem)
	e.enable()
	heads := func() int { return e.store.Calls(storetest.Head) }
	first := heads()
	e.waitFor("two attempts", func() bool { return heads() >= first+3 })
	buf := make([]byte, 5000)
	if _, err := h.ReadAt(context.Background(), buf, 0); err != nil || !bytes.Equal(buf, pattern(1, 5000)) {
		t.Errorf("the open file reads other bytes: %v", err)
	}
	h.Release()
	e.waitFor("the conflict to be resolved", func() bool { return e.adoption().Conflicts == 1 })
	e.mustRead("f", pattern(2, 6000))
	n := 0
	if err := e.mem.List(context.Background(), cache.ListQuery{Prefix: "p/.depotfs/conflicts/"}, func(p cache.ListPage) error {
		n += len(p.Objects)
		return nil
	}); err != nil || n != 1 {
		t.Errorf("%d copies were kept (%v)", n, err)
	}
}

// After the loss of the state directory the clean log saves reading what has not
// changed, and an interruption does not lose that.
func TestCleanLogServesOverInterruptions(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for i := range 20 {
		e.write(fmt.Sprint("f", i), pattern(uint64(i), 2<<20))
	}
	e.flush()
	e.close()
	e.state = t.TempDir()
	e.store.SetDown(true) // walked, and not compared
	e.open()
	e.waitFor("the walk", func() bool { return e.adoption().State == "done" })
	e.close()
	e.store.SetDown(false)
	e.open()
	if got := e.adopted(); got.Same != 20 || got.ComparedBytes != 0 {
		t.Errorf("%+v", got)
	}
}
