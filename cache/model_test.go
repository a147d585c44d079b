package cache_test

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// modelFile is a file or directory of the plain tree that the Cache is compared with.
type modelFile struct {
	dir    bool
	data   []byte
	mode   uint32
	target string // symlink
	names  int
}

// model is the tree by path; hard links share the pointer.
type model map[string]*modelFile

func (m model) children(dir string) bool {
	for p := range m {
		if path.Dir(p) == dir {
			return true
		}
	}
	return false
}

// move renames a path and everything below it.
func (m model) move(from, to string) {
	moved := model{}
	for p, f := range m {
		if p == from || strings.HasPrefix(p, from+"/") {
			moved[to+p[len(from):]] = f
			delete(m, p)
		}
	}
	maps.Copy(m, moved)
}

// walk is one run of random operations on a Cache and on the model.
type walk struct {
	*env
	r     *rand.Rand
	m     model
	trace []string
}

func (w *walk) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *walk) fail(format string, args ...any) {
	w.t.Helper()
	n := min(len(w.trace), 60)
	w.t.Fatalf("%s\n last operations:\n  %s", fmt.Sprintf(format, args...), strings.Join(w.trace[len(w.trace)-n:], "\n  "))
}

// pick returns a random path of the kind, "" when there is none.
func (w *walk) pick(want func(f *modelFile) bool) string {
	var all []string
	for p, f := range w.m {
		if want(f) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return all[w.r.IntN(len(all))]
}

func aFile(f *modelFile) bool { return !f.dir && f.target == "" }
func aDir(f *modelFile) bool  { return f.dir }
func any1(*modelFile) bool    { return true }

// fresh is a path in some directory; few names, so that they meet.
func (w *walk) fresh() string {
	dir := w.pick(aDir)
	if w.r.IntN(3) == 0 {
		dir = ""
	}
	return path.Join(dir, "n"+strconv.Itoa(w.r.IntN(8)))
}

func (w *walk) at(p string) (cache.Ino, string) {
	w.t.Helper()
	return w.parent(p)
}

func (w *walk) bytes() []byte {
	n := []int{0, 1, 100, 5000, 70_000, 400_000}[w.r.IntN(6)]
	return pattern(w.r.Uint64(), n)
}

// want compares the errors of both worlds.
func (w *walk) want(err error, should error) {
	w.t.Helper()
	if should == nil && err != nil || should != nil && !errors.Is(err, should) {
		w.fail("%s: got error %v, want %v", w.trace[len(w.trace)-1], err, should)
	}
}

func (w *walk) step() {
	ctx := context.Background()
	switch w.r.IntN(16) {
	case 0, 1:
		p := w.fresh()
		w.note("create %s", p)
		par, name := w.at(p)
		_, h, err := w.c.Create(ctx, me, par, name, 0o640, syscall.O_RDWR)
		if _, there := w.m[p]; there {
			w.want(err, syscall.EEXIST)
			return
		}
		w.want(err, nil)
		data := w.bytes()
		if _, err := h.WriteAt(ctx, data, 0); err != nil {
			w.fail("write: %v", err)
		}
		h.Release()
		w.m[p] = &modelFile{data: data, mode: 0o640, names: 1}
	case 2, 3:
		p := w.pick(aFile)
		if p == "" {
			return
		}
		f := w.m[p]
		data, off := w.bytes(), w.r.IntN(len(f.data)+1000)
		w.note("write %s %d bytes at %d of %d", p, len(data), off, len(f.data))
		a, err := w.lookup(p)
		w.want(err, nil)
		h, err := w.c.Open(ctx, a.Ino, syscall.O_RDWR)
		w.want(err, nil)
		defer h.Release()
		if _, err := h.WriteAt(ctx, data, int64(off)); err != nil {
			w.fail("write: %v", err)
		}
		if len(data) == 0 {
			return
		}
		if need := off + len(data); need > len(f.data) {
			f.data = append(f.data, make([]byte, need-len(f.data))...)
		}
		copy(f.data[off:], data)
	case 4:
		p := w.pick(aFile)
		if p == "" {
			return
		}
		f := w.m[p]
		size := w.r.IntN(2*len(f.data) + 2)
		w.note("truncate %s from %d to %d", p, len(f.data), size)
		a, err := w.lookup(p)
		w.want(err, nil)
		_, err = w.c.SetAttr(ctx, a.Ino, nil, setSize(int64(size)))
		w.want(err, nil)
		f.data = append(f.data, make([]byte, max(0, size-len(f.data)))...)[:size]
	case 5:
		p := w.fresh()
		w.note("mkdir %s", p)
		par, name := w.at(p)
		_, err := w.c.Mkdir(ctx, me, par, name, 0o750)
		if _, there := w.m[p]; there {
			w.want(err, syscall.EEXIST)
			return
		}
		w.want(err, nil)
		w.m[p] = &modelFile{dir: true, mode: 0o750}
	case 6, 7, 8:
		w.rename()
	case 9:
		p := w.pick(func(f *modelFile) bool { return !f.dir })
		if p == "" {
			return
		}
		w.note("unlink %s", p)
		par, name := w.at(p)
		w.want(w.c.Unlink(ctx, par, name), nil)
		w.m[p].names--
		delete(w.m, p)
	case 10:
		p := w.pick(aDir)
		if p == "" {
			return
		}
		w.note("rmdir %s", p)
		par, name := w.at(p)
		err := w.c.Rmdir(ctx, par, name)
		if w.m.children(p) {
			w.want(err, syscall.ENOTEMPTY)
			return
		}
		w.want(err, nil)
		delete(w.m, p)
	case 11:
		p, q := w.pick(aFile), w.fresh()
		if p == "" {
			return
		}
		w.note("link %s %s", p, q)
		a, err := w.lookup(p)
		w.want(err, nil)
		par, name := w.at(q)
		_, err = w.c.Link(ctx, a.Ino, par, name)
		if _, there := w.m[q]; there {
			w.want(err, syscall.EEXIST)
			return
		}
		w.want(err, nil)
		w.m[p].names++
		w.m[q] = w.m[p]
	case 12:
		p := w.fresh()
		w.note("symlink %s", p)
		par, name := w.at(p)
		_, err := w.c.Symlink(ctx, me, par, name, "to/"+name)
		if _, there := w.m[p]; there {
			w.want(err, syscall.EEXIST)
			return
		}
		w.want(err, nil)
		w.m[p] = &modelFile{target: "to/" + name, mode: 0o777, names: 1}
	case 13:
		p := w.pick(func(f *modelFile) bool { return f.target == "" })
		if p == "" {
			return
		}
		mode := uint32(0o600 + w.r.IntN(8)*8)
		w.note("chmod %s %o", p, mode)
		a, err := w.lookup(p)
		w.want(err, nil)
		_, err = w.c.SetAttr(ctx, a.Ino, nil, cache.SetAttr{Valid: cache.SetMode, Mode: mode})
		w.want(err, nil)
		w.m[p].mode = mode
	case 14:
		p := w.pick(aFile)
		if p == "" {
			return
		}
		w.note("evict %s", p)
		if _, err := w.c.Evict(ctx, []string{p}, nil); err != nil {
			w.fail("evict: %v", err)
		}
	case 15:
		p := w.pick(aFile)
		if p == "" {
			return
		}
		w.note("read %s", p)
		w.same(p)
	}
}

func (w *walk) rename() {
	p := w.pick(any1)
	if p == "" {
		return
	}
	q := w.fresh()
	if w.r.IntN(2) == 0 {
		q = w.pick(any1)
	}
	flags := cache.RenameFlags(w.r.IntN(3))
	w.note("rename %s %s flags %d", p, q, flags)
	pp, pn := w.at(p)
	qp, qn := w.at(q)
	err := w.c.Rename(context.Background(), pp, pn, qp, qn, flags)
	src, dst := w.m[p], w.m[q]
	below := func(a, b string) bool { return strings.HasPrefix(b, a+"/") }
	switch {
	case flags == cache.RenameExchange && dst == nil:
		w.want(err, iofs.ErrNotExist)
	case flags == cache.RenameNoReplace && dst != nil:
		w.want(err, syscall.EEXIST)
	case src == dst:
		w.want(err, nil)
	case below(p, q) || flags == cache.RenameExchange && below(q, p):
		w.want(err, syscall.EINVAL)
	case flags == cache.RenameExchange:
		w.want(err, nil)
		w.m.move(p, "\x00")
		w.m.move(q, p)
		w.m.move("\x00", q)
	case dst == nil:
		w.want(err, nil)
		w.m.move(p, q)
	case src.dir && !dst.dir:
		w.want(err, syscall.ENOTDIR)
	case !src.dir && dst.dir:
		w.want(err, syscall.EISDIR)
	case dst.dir && w.m.children(q):
		w.want(err, syscall.ENOTEMPTY)
	default:
		w.want(err, nil)
		dst.names--
		delete(w.m, q)
		w.m.move(p, q)
	}
}

// TestModel runs random operations on a Cache and on a plain tree in memory, with
// evictions, flushes, restarts, lost answers and outages in between.
// DEPOTFS_MODEL_SEED repeats one run, DEPOTFS_MODEL_TIME makes it longer.
func TestModel(t *testing.T) {
	t.Parallel()
	limit := 15 * time.Second
	if v := os.Getenv("DEPOTFS_MODEL_TIME"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		limit = d
	}
	seeds := []uint64{1, 2, 4, rand.Uint64()}
	if v := os.Getenv("DEPOTFS_MODEL_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{seed}
	}
	end := time.Now().Add(limit)
	for i := 0; i < len(seeds) || time.Now().Before(end); i++ {
		seed := rand.Uint64()
		if i < len(seeds) {
			seed = seeds[i]
		}
		if i >= len(seeds) && os.Getenv("DEPOTFS_MODEL_SEED") != "" {
			return
		}
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			e := newEnv(t)
			if seed%2 == 0 { // files of many parts: those that are not here are uploaded as they are
				e.close()
				e.mem.MinPart, e.mem.NoCopiedSums = modelGrain, seed%4 == 0
				e.limits = cache.Limits{PartSize: modelGrain, SmallestPart: modelGrain}
				e.open()
			}
			w := &walk{env: e, r: rand.New(rand.NewPCG(seed, 7)), m: model{}}
			for i := range 300 {
				w.step()
				switch {
				case i%100 == 99:
					e.store.SetDown(false)
					e.store.Clear()
					w.note("flush and compare")
					w.compare(true)
				case w.r.IntN(40) == 0:
					w.note("restart")
					e.restart()
				case w.r.IntN(30) == 0:
					w.note("flush")
					e.flushFor(500 * time.Millisecond)
				case w.r.IntN(40) == 0:
					w.note("lose an answer")
					e.store.Inject(storetest.LoseAnswer(storetest.Op([]string{"put", "copy", "delete", "create", "part", "part-copy", "complete", "complete"}[w.r.IntN(8)])))
				}
			}
		}) {
			return
		}
	}
}
