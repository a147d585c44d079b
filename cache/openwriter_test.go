package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// held makes a file and keeps it open for writing, as an NFS server does.
func (e *env) held(path string, data []byte) *cache.Handle {
	e.t.Helper()
	parent, name := e.parent(path)
	_, h, err := e.c.Create(context.Background(), me, parent, name, 0o644, syscall.O_RDWR)
	if err != nil {
		e.t.Fatalf("create %q: %v", path, err)
	}
	e.writeTo(h, data, 0)
	return h
}

func (e *env) writeTo(h *cache.Handle, data []byte, off int64) {
	e.t.Helper()
	if _, err := h.WriteAt(context.Background(), data, off); err != nil {
		e.t.Fatalf("write: %v", err)
	}
}

func (e *env) pending() int64 {
	e.t.Helper()
	st, err := e.c.Status(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	return st.Pending.Files
}

// An upload starts from quiet and not from the close that never comes. While the
// stamp holds nothing is pending, what is written later follows, and the last
// release sends nothing again.
func TestUploadWhileOpenForWriting(t *testing.T) {
	t.Parallel()
	for _, size := range []int{70_000, 21 << 20} { // in one request, and in parts
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			e := newEnv(t)
			sends := func() int { return e.store.Calls(storetest.Put) + e.store.Calls(storetest.Complete) }
			data := pattern(1, size)
			h := e.held("f", data)
			made, _ := e.lookup("f")
			there := func() bool { b, _ := e.object("p/f"); return bytes.Equal(b, data) }
			e.waitFor("uploaded without a close", there)
			e.waitFor("nothing is pending", func() bool { return e.pending() == 0 })
			if s := e.state1("f"); s != "clean" {
				t.Errorf("state %q of a file that the depot has and somebody has open", s)
			}
			e.flush()
			if a, err := e.lookup("f"); err != nil || a.Atime != made.Atime {
				t.Errorf("the upload moved the time of access from %d to %d (%v)", made.Atime, a.Atime, err)
			}

			copy(data[100:], "written through the same descriptor")
			e.writeTo(h, data[100:200], 100)
			if n := e.pending(); n != 1 {
				t.Errorf("%d files pending after another write, want 1", n)
			}
			if s := e.state1("f"); s != "dirty" && s != "uploading" { // a worker may be quick
				t.Errorf("state %q after another write", s)
			}
			if err := h.Sync(context.Background(), false); err != nil {
				t.Fatal(err)
			}
			e.waitFor("the second version is uploaded without a close", there)
			e.flush("f")

			before := sends()
			h.Release()
			e.flush()
			if s := e.state1("f"); s != "clean" {
				t.Errorf("state %q after the release", s)
			}
			if n := sends() - before; n > 0 {
				t.Errorf("the release sent the file again (%d requests)", n)
			}
			e.evict("f")
			e.mustRead("f", data)
		})
	}
}

// Pauses that are shorter than the settle time do not make it several uploads.
func TestPausesShorterThanSettle(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.flush()
	e.close()
	e.settle = 6 * time.Second
	e.open()
	e.flush()
	before := e.store.Calls(storetest.Put)
	h := e.held("f", pattern(0, 1000))
	defer h.Release()
	last, longest := time.Now(), time.Duration(0)
	for i := range 3 {
		<-time.After(time.Second) // a pause is what is tested
		before := last
		last = time.Now()
		e.writeTo(h, pattern(uint64(i), 1000), int64(i)*1000)
		longest = max(longest, time.Since(before))
	}
	e.waitFor("uploaded", func() bool { b, _ := e.object("p/f"); return len(b) == 3000 })
	if took := time.Since(last); took < 5*time.Second {
		t.Errorf("uploaded %v after the last write, before it has settled", took)
	}
	if n := e.store.Calls(storetest.Put) - before; n != 1 && longest < e.settle-time.Second {
		t.Errorf("%d uploads of a file that was written with pauses of at most %v", n, longest)
	}
}

// What changes about a file that is open, besides its bytes, reaches the depot
// without the bytes being sent again.
func TestOpenAndRenamedOrChanged(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 70_000)
	h := e.held("f", data)
	e.flush()
	puts := e.store.Calls(storetest.Put)
	ctx := context.Background()
	root, _ := e.lookup("")
	if err := e.c.Rename(ctx, root.Ino, "f", root.Ino, "g", 0); err != nil {
		t.Fatal(err)
	}
	e.flush()
	e.wantObject("p/g", data)
	if _, ok := e.object("p/f"); ok {
		t.Error("the object under the old name is still there")
	}
	if _, err := e.c.SetAttr(ctx, h.Ino(), h, cache.SetAttr{Valid: cache.SetMode, Mode: 0o666}); err != nil {
		t.Fatal(err)
	}
	e.flush()
	mode := func() string {
		info, err := e.mem.Head(ctx, "p/g")
		if err != nil {
			t.Fatal(err)
		}
		return info.Metadata["file-permissions"]
	}
	if m := mode(); m != "0666" && m != "0100666" {
		t.Errorf("the object's mode is %q after chmod 666", m)
	}
	if n := e.store.Calls(storetest.Put) - puts; n > 0 {
		t.Errorf("%d uploads for a rename and a chmod", n)
	}
	h.Release()
	e.flush()
	if s := e.state1("g"); s != "clean" {
		t.Errorf("state %q", s)
	}
	e.wantObject("p/g", data)
}

// A properties file does not wait for the close of the image that it names, only
// for its bytes.
func TestPropertiesOfAnOpenImage(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("template/tmpl/2/201")
	const dir = "template/tmpl/2/201/"
	h := e.held(dir+"a.qcow2", pattern(1, 50_000))
	defer h.Release()
	e.store.Inject(storetest.Before(storetest.Put, func(context.Context, string) error {
		if _, ok := e.object("p/" + dir + "a.qcow2"); !ok {
			t.Error("the properties file goes before its image")
		}
		return nil
	}).On("p/" + dir + "template.properties"))
	e.write(dir+"template.properties", []byte("qcow2=true\nqcow2.filename=a.qcow2\nqcow2.size=50000\nfilename=a.qcow2\n"))
	e.waitFor("both arrive", func() bool { _, ok := e.object("p/" + dir + "template.properties"); return ok })
}

// A file whose bytes were elsewhere is written to through a descriptor that stays open.
func TestOpenAndPartial(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 3<<20)
	ino := e.write("f", data)
	e.flush()
	e.evict("f")
	h, err := e.c.Open(context.Background(), ino, syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	copy(data[1<<20:], pattern(2, 5000))
	e.writeTo(h, data[1<<20:1<<20+5000], 1<<20)
	e.waitFor("uploaded without a close", func() bool { b, _ := e.object("p/f"); return bytes.Equal(b, data) })
	h.Release()
	e.flush()
	e.wantObject("p/f", data)
}

// Beside, writers are local programs, and a close means something.
func TestBesideWaitsForTheClose(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.deploy = cache.Beside
	e.open()
	h := e.held("f", pattern(1, 1000))
	if left := e.flushFor(patience); len(left) != 1 || left[0].Reason != "open for writing" {
		t.Errorf("flush answers %+v of a file that is open for writing", left)
	}
	if _, ok := e.object("p/f"); ok {
		t.Error("uploaded while a local program has it open for writing")
	}
	h.Release()
	e.flush()
	e.wantObject("p/f", pattern(1, 1000))
}

// Random writes, chmods, renames and restarts on files that stay open: no object
// ever has mixed bytes, and in the end the depot has what the files have.
func TestHeldOpenModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 9))
	e := newEnv(t)
	ctx := context.Background()
	const files, size = 4, 300_000
	want, names, handles := make([][]byte, files), make([]string, files), make([]*cache.Handle, files)
	versions := map[string]bool{}
	for i := range files {
		names[i], want[i] = fmt.Sprintf("f%d", i), pattern(uint64(i), size)
		handles[i] = e.held(names[i], want[i])
		versions[string(want[i])] = true
	}
	whole := func() {
		t.Helper()
		for i := range files {
			if b, ok := e.object("p/" + names[i]); ok && !versions[string(b)] {
				t.Fatalf("object %s has %d bytes that the file never had", names[i], len(b))
			}
		}
	}
	root, err := e.lookup("")
	if err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		for range 12 {
			i := r.IntN(files)
			switch r.IntN(6) {
			case 0, 1:
				off := r.IntN(size - 1000)
				b := pattern(r.Uint64(), 1+r.IntN(1000))
				e.writeTo(handles[i], b, int64(off))
				want[i] = bytes.Clone(want[i])
				copy(want[i][off:], b)
				versions[string(want[i])] = true
			case 2:
				if _, err := e.c.SetAttr(ctx, handles[i].Ino(), nil, cache.SetAttr{Valid: cache.SetMode, Mode: uint32(0o600 + r.IntN(64))}); err != nil {
					t.Fatal(err)
				}
			case 3:
				to := fmt.Sprintf("f%d.%d.%d", i, round, r.IntN(1000))
				if err := e.c.Rename(ctx, root.Ino, names[i], root.Ino, to, 0); err != nil {
					t.Fatal(err)
				}
				names[i] = to
			case 4:
				handles[i].Release()
				if handles[i], err = e.c.Open(ctx, handles[i].Ino(), syscall.O_RDWR); err != nil {
					t.Fatal(err)
				}
			case 5:
				e.flushFor(time.Duration(r.IntN(3000)) * time.Millisecond)
				whole()
			}
		}
		if round == 2 {
			e.restart() // with all files open
			for i := range files {
				a, err := e.lookup(names[i])
				if err != nil {
					t.Fatal(err)
				}
				if handles[i], err = e.c.Open(ctx, a.Ino, syscall.O_RDWR); err != nil {
					t.Fatal(err)
				}
			}
		}
		e.flush()
		for i := range files {
			e.wantObject("p/"+names[i], want[i])
		}
		if n := e.pending(); n != 0 {
			t.Errorf("%d files pending after a flush", n)
		}
	}
	for _, h := range handles {
		h.Release()
	}
	e.flush()
	for i := range files {
		if s := e.state1(names[i]); s != "clean" {
			t.Errorf("%s is %s", names[i], s)
		}
		e.wantObject("p/"+names[i], want[i])
	}
}
