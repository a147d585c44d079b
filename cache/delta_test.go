package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// smallGrain is the part size of these tests, so that small files have many parts.
const smallGrain = 64 << 10

// newDeltaEnv is a zone whose files of a few hundred kilobytes are uploaded in parts.
func newDeltaEnv(t testing.TB) *env {
	t.Helper()
	mem := storetest.NewMem()
	mem.MinPart = smallGrain
	return zoneOn(t, mem)
}

// zoneOn is another zone of the same depot.
func zoneOn(t testing.TB, mem *storetest.Mem) *env {
	t.Helper()
	e := &env{t: t, share: t.TempDir(), state: t.TempDir(), zone: freeName(mem), mem: mem, store: storetest.NewFaulty(mem),
		limits: cache.Limits{PartSize: smallGrain, SmallestPart: smallGrain}}
	e.open()
	t.Cleanup(e.close)
	return e
}

// moved runs fn and returns what passed between the zone and the store meanwhile.
func (e *env) moved(fn func()) (sent, received, copies int64) {
	e.t.Helper()
	before := e.mem.Usage()
	fn()
	after := e.mem.Usage()
	return after.BytesSent - before.BytesSent, after.BytesReceived - before.BytesReceived, after.Requests["part-copy"] - before.Requests["part-copy"]
}

// edit writes into a file at an offset.
func (e *env) edit(path string, off int64, data []byte) {
	e.t.Helper()
	e.withFile(path, func(h *cache.Handle) error {
		_, err := h.WriteAt(context.Background(), data, off)
		return err
	})
}

func (e *env) resize(path string, size int64) {
	e.t.Helper()
	e.withFile(path, func(h *cache.Handle) error { return h.Truncate(context.Background(), size) })
}

func (e *env) withFile(path string, fn func(h *cache.Handle) error) {
	e.t.Helper()
	h := e.openFile(path)
	defer h.Release()
	if err := fn(h); err != nil {
		e.t.Fatalf("change %q: %v", path, err)
	}
}

func (e *env) openFile(path string) *cache.Handle {
	e.t.Helper()
	a, err := e.lookup(path)
	if err != nil {
		e.t.Fatalf("lookup %q: %v", path, err)
	}
	h, err := e.c.Open(context.Background(), a.Ino, syscall.O_RDWR)
	if err != nil {
		e.t.Fatalf("open %q: %v", path, err)
	}
	return h
}

// splice is data with piece at off, longer where needed.
func splice(data []byte, off int, piece []byte) []byte {
	out := slices.Clone(data)
	if need := off + len(piece); need > len(out) {
		out = append(out, make([]byte, need-len(out))...)
	}
	copy(out[off:], piece)
	return out
}

// A change of a file that is here sends the grains that it touches, whatever else
// happens to the file in between.
func TestDeltaOfResidentFile(t *testing.T) {
	t.Parallel()
	e := newDeltaEnv(t)
	data := pattern(1, 40*smallGrain+1000)
	e.write("img", data)
	e.flush()
	for _, c := range []struct {
		name string
		off  int
		n    int
		sent int64
	}{
		{"one grain", 7*smallGrain + 5, 100, smallGrain},
		{"across an edge", 9*smallGrain - 10, 20, 2 * smallGrain},
		{"the first", 0, 1, smallGrain},
		{"the last, which is short", 40*smallGrain + 10, 5, 1000},
		{"after a restart", 20 * smallGrain, smallGrain, smallGrain},
	} {
		if c.name == "after a restart" {
			e.restart()
		}
		data = splice(data, c.off, pattern(uint64(c.off), c.n))
		sent, received, copies := e.moved(func() {
			e.edit("img", int64(c.off), data[c.off:c.off+c.n])
			e.flush()
		})
		if sent != c.sent || received > 1000 || copies == 0 || copies > 2 {
			t.Errorf("%s: %d bytes sent, want %d; %d received, %d copies", c.name, sent, c.sent, received, copies)
		}
		e.wantObject("p/img", data)
		if got := e.state1("img"); got != "clean" {
			t.Errorf("%s: the file is %s", c.name, got)
		}
	}
	// The same bytes again: nothing is sent.
	if sent, _, _ := e.moved(func() { e.edit("img", 0, data[:100]); e.flush() }); sent != 0 {
		t.Errorf("%d bytes sent for a write that changed nothing", sent)
	}
	// Longer, and shorter: at most the grain where the end was, and what is new.
	data = append(data, pattern(9, smallGrain)...)
	if sent, _, _ := e.moved(func() { e.edit("img", 40*smallGrain+1000, data[40*smallGrain+1000:]); e.flush() }); sent != smallGrain+1000 {
		t.Errorf("%d bytes sent of a file that grew", sent)
	}
	e.wantObject("p/img", data)
	data = data[:10*smallGrain+7]
	if sent, _, _ := e.moved(func() { e.resize("img", int64(len(data))); e.flush() }); sent != 7 {
		t.Errorf("%d bytes sent of a file that was cut", sent)
	}
	e.wantObject("p/img", data)
	// Moved and changed: from the object under the old name.
	parent, name := e.parent("img")
	if sent, _, _ := e.moved(func() {
		if err := e.c.Rename(context.Background(), parent, name, parent, "img2", 0); err != nil {
			t.Fatal(err)
		}
		data = splice(data, 100, []byte("x"))
		e.edit("img2", 100, []byte("x"))
		e.flush()
	}); sent != smallGrain {
		t.Errorf("%d bytes sent of a file that was renamed and changed", sent)
	}
	e.wantObject("p/img2", data)
	if _, there := e.object("p/img"); there {
		t.Error("the object under the old name is there still")
	}
}

// A change of a file that is not here fetches and sends the grains that it touches,
// and nothing is here afterwards that was not before.
func TestDeltaOfRemoteFile(t *testing.T) {
	t.Parallel()
	for _, sums := range []string{"kept from our upload", "said by the store", "of the whole alone"} {
		t.Run(sums, func(t *testing.T) {
			e := newDeltaEnv(t)
			data := pattern(1, 40*smallGrain+1000)
			e.write("img", data)
			e.flush()
			e.evict("img")
			e.mem.NoCopiedSums = sums != "said by the store"
			if sums != "kept from our upload" {
				e = zoneOn(t, e.mem)
				e.waitListed()
			}
			check := func(what string, wantSent, mayReceive int64, change func()) {
				t.Helper()
				sent, received, _ := e.moved(func() { change(); e.flush() })
				if sent != wantSent || received > mayReceive {
					t.Errorf("%s: %d bytes sent, want %d; %d received, allowed are %d", what, sent, wantSent, received, mayReceive)
				}
				e.wantObject("p/img", data)
				if got := e.state1("img"); got != "partial" {
					t.Errorf("%s: the file is %s", what, got)
				}
			}
			put := func(off, n int) func() {
				return func() {
					data = splice(data, off, pattern(uint64(off), n))
					e.edit("img", int64(off), data[off:off+n])
				}
			}
			const meta = 1000 // depot.json and the like
			check("one grain", smallGrain, smallGrain+meta, put(7*smallGrain+5, 100))
			check("again", smallGrain, meta, put(7*smallGrain+500, 100))
			check("across an edge", 2*smallGrain, 2*smallGrain+meta, put(12*smallGrain-10, 20))
			check("the last", 1000, 1000+meta, put(40*smallGrain+10, 5))
			check("longer", smallGrain, smallGrain+meta, func() {
				data = append(data, make([]byte, smallGrain-1000)...)
				e.resize("img", int64(len(data)))
			})
			// Two grains of zeros come of one object of zeros, which is made for them.
			check("much longer", 2*smallGrain+5, meta, put(43*smallGrain, smallGrain+5))
			e.restart()
			check("after a restart", smallGrain, smallGrain+meta, put(30*smallGrain, 1))
			check("nothing changed", 0, meta, func() { e.edit("img", 30*smallGrain, data[30*smallGrain:30*smallGrain+1]) })
			e.mustRead("img", data)
			e.evict("img")
			e.mustRead("img", data)
		})
	}
}

// waitListed waits until the depot's names are known with what they are.
func (e *env) waitListed() {
	e.t.Helper()
	e.waitFor("the depot's names", func() bool {
		st, err := e.c.Status(context.Background())
		if err != nil {
			e.t.Fatal(err)
		}
		f, err := e.c.StatPath(context.Background(), "img")
		return st.Store.Listing == "done" && err == nil && f.CRC64 != ""
	})
}

// A file that is not here is cut, also to where its grains do not end, and extended
// again: what was cut off comes back as zeros.
func TestDeltaOfCutRemoteFile(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		e := newDeltaEnv(t)
		e.mem.NoCopiedSums = silent
		data := pattern(1, 40*smallGrain)
		e.write("img", data)
		e.flush()
		e.evict("img")
		data = data[:30*smallGrain+77]
		sent, received, _ := e.moved(func() { e.resize("img", int64(len(data))); e.flush() })
		// The last grain is shorter than any that is known: the store says its sum, or it is read.
		if sent > 77 || received > 12*smallGrain {
			t.Errorf("silent %v: cut: %d bytes sent, %d received", silent, sent, received)
		}
		e.wantObject("p/img", data)
		e.evict("img")
		data = append(slices.Clone(data[:20*smallGrain+5]), make([]byte, 15*smallGrain)...)
		e.resize("img", 20*smallGrain+5)
		e.resize("img", int64(len(data)))
		e.flush()
		e.wantObject("p/img", data)
		e.mustRead("img", data)
	}
}

// A file that another zone made is fetched and then changed: its grains are known
// from when it was verified.
func TestDeltaOfFetchedFile(t *testing.T) {
	t.Parallel()
	e := newDeltaEnv(t)
	data := pattern(1, 40*smallGrain+1000)
	e.write("img", data)
	e.flush()
	e = zoneOn(t, e.mem)
	e.waitListed()
	e.mustRead("img", data)
	e.waitFor("the file", func() bool { return e.state1("img") == "clean" })
	data = splice(data, 7*smallGrain, []byte("changed"))
	if sent, received, _ := e.moved(func() { e.edit("img", 7*smallGrain, []byte("changed")); e.flush() }); sent != smallGrain || received > 1000 {
		t.Errorf("%d bytes sent, want %d; %d received", sent, smallGrain, received)
	}
	e.wantObject("p/img", data)
}

// Another zone has replaced the object that the missing bytes are in: what was
// written stays here, theirs stays there, and status says so.
func TestDeltaMeetsAnotherZone(t *testing.T) {
	t.Parallel()
	theirs := pattern(2, 10*smallGrain)
	for _, when := range []storetest.Op{"create", "complete"} {
		e := newDeltaEnv(t)
		e.write("img", pattern(1, 20*smallGrain))
		e.flush()
		e.evict("img")
		e.store.Inject(storetest.Before(when, func(ctx context.Context, _ string) error {
			_, err := e.mem.Put(ctx, "p/img", bytes.NewReader(theirs), int64(len(theirs)), cache.PutOptions{})
			return err
		}))
		e.edit("img", 100, []byte("changed"))
		e.waitFor("the conflict", func() bool {
			e.flushFor(300 * time.Millisecond)
			st, err := e.c.Status(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(st.Problems, func(p cache.Problem) bool { return p.Path == "img" && p.Kind == "upload" })
		})
		e.wantObject("p/img", theirs)
		if got := e.state1("img"); got != "dirty" {
			t.Errorf("%s: the file is %s", when, got)
		}
		h := e.openFile("img")
		buf := make([]byte, 7)
		if _, err := h.ReadAt(context.Background(), buf, 100); err != nil || string(buf) != "changed" {
			t.Errorf("%s: what was written reads as %q, %v", when, buf, err)
		}
		h.Release()
	}
}

// The file gets another name, or none, in the middle of an upload.
func TestRenameDuringDeltaUpload(t *testing.T) {
	t.Parallel()
	for _, op := range []storetest.Op{"create", "part", "part-copy", "complete"} {
		for _, gone := range []bool{false, true} {
			e := newDeltaEnv(t)
			data := pattern(1, 20*smallGrain)
			e.write("img", data)
			e.flush()
			e.evict("img")
			parent, name := e.parent("img")
			e.store.Inject(storetest.Before(op, func(ctx context.Context, _ string) error {
				if gone {
					return e.c.Unlink(ctx, parent, name)
				}
				return e.c.Rename(ctx, parent, name, parent, "img2", 0)
			}))
			data = splice(data, 100, []byte("changed"))
			e.edit("img", 100, []byte("changed"))
			e.flush()
			e.waitFor("the object to go", func() bool { _, there := e.object("p/img"); return !there })
			if gone {
				continue
			}
			e.wantObject("p/img2", data)
			if got := e.state1("img2"); got != "partial" {
				t.Errorf("%s: the file is %s", op, got)
			}
			e.mustRead("img2", data)
		}
	}
}

// Parts that fail give their turn back: after many the next upload goes on.
func TestFailedPartsKeepNoTurn(t *testing.T) {
	t.Parallel()
	e := newDeltaEnv(t)
	e.close()
	e.limits.UploadParts = 1
	e.open()
	e.store.Inject(storetest.Fail("part", cache.ErrRejected).Times(16))
	data := pattern(1, 3*smallGrain)
	for i := range 8 {
		e.mkdirAll(fmt.Sprintf("d%d", i)) // those of one directory wait for each other
		e.write(fmt.Sprintf("d%d/img", i), data)
	}
	e.flush()
	for i := range 8 {
		e.wantObject(fmt.Sprintf("p/d%d/img", i), data)
	}
}
