package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// outsideCase is one file in one state, to which others do one thing in the share.
type outsideCase struct {
	state, op string

	dir, path, full string // dir is its own; full is the path in the share
	ino             cache.Ino
	handle          *cache.Handle
	before          []byte // what the share has (or the depot, where the share has nothing)
	want            []byte // what the name is to have in the end; nil: not a regular file
	kept            []byte // what must be in a conflict
	gone            bool   // the name is to be gone in the end
	finder          string
}

const outsideSize = 100_000

// outsideStates bring a file into a state. All of them but "unknown" are uploaded
// once, with version 1.
var outsideStates = []string{"unknown", "clean", "pinned", "dirty", "read", "written", "partial", "partial-read", "partial-written", "remote"}

// outsideOps are what others do. The file is theirs to change where it is here; where
// it is not they can only make something of that name.
var outsideOps = []string{"create", "overwrite", "append", "truncate", "replace", "rename", "unlink", "remove-tree",
	"directory", "symlink", "touch", "chmod", "same-mtime"}

func (k *outsideCase) here() bool {
	return k.state != "unknown" && k.state != "remote" && !strings.HasPrefix(k.state, "partial")
}

// possible says whether the combination exists.
func (k *outsideCase) possible() bool {
	switch k.op {
	case "create":
		return !k.here()
	case "directory", "symlink":
		return true
	}
	return k.here()
}

func (e *env) partRead(h *cache.Handle, n int) {
	e.t.Helper()
	if _, err := h.ReadAt(context.Background(), make([]byte, n), 0); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) mustOpen(path string, flags int) *cache.Handle {
	e.t.Helper()
	a, err := e.lookup(path)
	if err != nil {
		e.t.Fatal(err)
	}
	h, err := e.c.Open(context.Background(), a.Ino, flags)
	if err != nil {
		e.t.Fatalf("open %s: %v", path, err)
	}
	return h
}

// prepare brings the file into its state; it has been uploaded and is clean.
func (k *outsideCase) prepare(e *env) {
	ctx := context.Background()
	a, err := e.lookup(k.path)
	if err != nil {
		return // unknown
	}
	k.ino = a.Ino
	switch k.state {
	case "pinned":
		if _, err := e.c.Pin(ctx, []string{k.path}, true); err != nil {
			e.t.Fatal(err)
		}
	case "dirty":
		k.before = pattern(2, outsideSize+1)
		e.write(k.path, k.before)
	case "read":
		k.handle = e.mustOpen(k.path, syscall.O_RDONLY)
	case "written":
		k.before = pattern(2, outsideSize+1)
		k.handle = e.mustOpen(k.path, syscall.O_RDWR)
		if _, err := k.handle.WriteAt(ctx, k.before, 0); err != nil {
			e.t.Fatal(err)
		}
	case "remote", "partial", "partial-read", "partial-written":
		e.evict(k.path)
		if k.state == "remote" {
			return
		}
		k.handle = e.mustOpen(k.path, syscall.O_RDWR)
		e.partRead(k.handle, 100)
		switch k.state {
		case "partial-written":
			if _, err := k.handle.WriteAt(ctx, []byte("written"), 0); err != nil {
				e.t.Fatal(err)
			}
			k.before = append([]byte("written"), k.before[7:]...)
		case "partial":
			k.handle.Release()
			k.handle = nil
		}
	}
}

// do is what others do, and what it has to lead to with --share-deletes restore.
func (k *outsideCase) do(e *env) {
	t := e.t
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s %s: %v", k.state, k.op, err)
		}
	}
	write := func(flags int, data []byte) {
		f, err := os.OpenFile(k.full, flags, 0o644)
		must(err)
		_, err = f.Write(data)
		must(errors.Join(err, f.Close()))
	}
	theirs := pattern(3, len(k.before)+10)
	k.want = theirs
	old := pattern(1, outsideSize) // what the depot has
	switch k.op {
	case "create":
		write(os.O_WRONLY|os.O_CREATE|os.O_EXCL, theirs)
		switch k.state {
		case "partial-written":
			k.want, k.kept = k.before, theirs
		case "unknown":
		default:
			k.kept = old
		}
	case "overwrite":
		k.want = pattern(3, len(k.before))
		write(os.O_WRONLY, k.want)
	case "same-mtime":
		st, err := os.Stat(k.full)
		must(err)
		k.want = pattern(3, len(k.before))
		write(os.O_WRONLY, k.want)
		must(os.Chtimes(k.full, st.ModTime(), st.ModTime()))
	case "append":
		write(os.O_WRONLY|os.O_APPEND, []byte("more"))
		k.want = append(bytes.Clone(k.before), "more"...)
	case "truncate":
		must(os.Truncate(k.full, 100))
		k.want = k.before[:100]
	case "replace":
		must(os.WriteFile(k.full+".tmp2", theirs, 0o644))
		must(os.Rename(k.full+".tmp2", k.full))
	case "rename":
		must(os.Rename(k.full, filepath.Join(filepath.Dir(k.full), "other")))
		k.gone = k.finder != "open" || k.handle != nil // which fetches it under its old name
		k.want = old
	case "unlink":
		must(os.Remove(k.full))
		k.want = old
	case "remove-tree":
		must(os.RemoveAll(filepath.Dir(k.full)))
		k.want = old
	case "directory", "symlink":
		k.want = nil
		if k.here() {
			must(os.Remove(k.full))
		}
		if k.op == "symlink" {
			must(os.Symlink("to/here", k.full))
		} else {
			must(os.Mkdir(k.full, 0o755))
			must(os.WriteFile(k.full+"/x", theirs, 0o644))
		}
		if !k.here() && k.state != "unknown" {
			k.want = k.before // the file stays, and status says why
		}
	case "touch":
		now := time.Now().Add(time.Second)
		must(os.Chtimes(k.full, now, now))
		k.want = k.before
	case "chmod":
		must(os.Chmod(k.full, 0o600))
		k.want = k.before
	default:
		t.Fatalf("unknown operation %s", k.op)
	}
}

// finders are the ways in which what others did is found, and whether a way finds
// an operation at once.
var finders = []struct {
	name  string
	find  func(e *env, k *outsideCase)
	finds func(k *outsideCase) bool
}{
	{"lookup", func(e *env, k *outsideCase) { _, _ = e.lookup(k.path) },
		func(k *outsideCase) bool { return k.state == "unknown" }},
	{"opendir", func(e *env, k *outsideCase) {
		a, err := e.lookup(k.dir)
		if err == nil {
			err = e.c.OpenDir(context.Background(), a.Ino)
		}
		if err != nil {
			e.t.Fatal(err)
		}
	}, func(k *outsideCase) bool {
		switch k.op {
		case "create", "replace", "rename", "unlink", "directory", "symlink":
			return true
		}
		return false
	}},
	{"open", func(e *env, k *outsideCase) { _, _ = e.read(k.path) },
		func(k *outsideCase) bool { return true }},
	{"scan", func(e *env, k *outsideCase) {}, func(k *outsideCase) bool { return true }},
	{"evict", func(e *env, k *outsideCase) {
		_, _ = e.c.Evict(context.Background(), []string{k.path}, nil)
	}, func(k *outsideCase) bool { return false }},
	{"upload", func(e *env, k *outsideCase) {
		_, _ = e.lookup(k.dir)
	}, func(k *outsideCase) bool { return false }},
}

// TestOutside does everything that others can do in the share to a file in every
// state, finds it in every way, and looks at what mount, share and depot have then.
func TestOutside(t *testing.T) {
	for _, how := range finders {
		t.Run(how.name, func(t *testing.T) {
			e := newEnv(t)
			var all []*outsideCase
			for i, state := range outsideStates {
				for j, op := range outsideOps {
					k := &outsideCase{state: state, op: op, finder: how.name, dir: fmt.Sprintf("snapshots/d%02d-%02d", i, j), before: pattern(1, outsideSize)}
					k.path, k.full = k.dir+"/f", filepath.Join(e.share, k.dir, "f")
					if !k.possible() {
						continue
					}
					all = append(all, k)
					e.mkdirAll(k.dir)
					if state != "unknown" {
						e.write(k.path, k.before)
					}
				}
			}
			e.flush()
			e.scan() // a first look at every directory
			e.settle = time.Hour
			for _, k := range all {
				k.prepare(e)
			}
			for _, k := range all {
				k.do(e)
			}
			for _, k := range all {
				how.find(e, k)
			}
			if how.name == "scan" {
				e.scan()
				e.scan() // directories that the first look found
			}
			for _, k := range all {
				k.found(e, how.finds(k))
			}
			e.scan()
			e.scan()
			for _, k := range all {
				k.handles(e)
			}
			e.scan() // what handles kept from being looked at
			for _, k := range all {
				k.clearTheWay(e)
			}
			e.settle = 0
			if left := e.flushFor(30 * time.Second); len(left) > 0 {
				t.Fatalf("flush left %+v", left)
			}
			for _, k := range all {
				k.check(e)
			}
		})
	}
}

// found checks what must be seen as soon as the way of finding has come by.
func (k *outsideCase) found(e *env, atOnce bool) {
	if !atOnce || k.state == "written" && k.op != "replace" {
		return
	}
	a, err := e.lookup(k.path)
	switch {
	case k.gone && errors.Is(err, iofs.ErrNotExist):
		return
	case err != nil:
		e.t.Errorf("%s %s: lookup: %v", k.state, k.op, err)
	case k.want != nil && a.Size != int64(len(k.want)):
		e.t.Errorf("%s %s: %d bytes are shown, want %d", k.state, k.op, a.Size, len(k.want))
	case k.want == nil && a.Mode&syscall.S_IFMT == syscall.S_IFREG:
		e.t.Errorf("%s %s: a regular file is shown", k.state, k.op)
	}
	if newFile := k.op == "replace" || k.op == "create" && k.state != "partial-written"; newFile && k.ino == a.Ino {
		e.t.Errorf("%s %s: the new file has the inode number of the old one", k.state, k.op)
	}
}

// handles reads what was open all the time to its end, and closes it.
func (k *outsideCase) handles(e *env) {
	if k.handle == nil {
		return
	}
	defer k.handle.Release()
	want := k.before
	switch k.op {
	case "overwrite", "append", "truncate", "same-mtime":
		want = k.want // the same file
	}
	got, err := io.ReadAll(io.NewSectionReader(readerAt{k.handle}, 0, 1<<20))
	if err != nil || !bytes.Equal(got, want) {
		e.t.Errorf("%s %s: the open handle reads %d bytes (%v), want %d, or others", k.state, k.op, len(got), err, len(want))
	}
}

type readerAt struct{ h *cache.Handle }

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	return r.h.ReadAt(context.Background(), p, off)
}

// clearTheWay removes what keeps a file from its place, as status asks for.
func (k *outsideCase) clearTheWay(e *env) {
	if k.here() || k.state == "unknown" || k.op != "directory" && k.op != "symlink" {
		return
	}
	st, err := e.c.Status(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	if !slices.ContainsFunc(st.Problems, func(p cache.Problem) bool { return p.Kind == "share" && p.Path == k.path }) {
		e.t.Errorf("%s %s: status does not say that something is in the way", k.state, k.op)
	}
	if err := os.RemoveAll(k.full); err != nil {
		e.t.Fatal(err)
	}
}

// check compares mount, share and depot in the end.
func (k *outsideCase) check(e *env) {
	fail := func(format string, args ...any) {
		e.t.Helper()
		e.t.Errorf("%s %s: %s", k.state, k.op, fmt.Sprintf(format, args...))
	}
	if k.op == "rename" {
		other := k.dir + "/other"
		if got, err := e.read(other); err != nil || !bytes.Equal(got, k.before) {
			fail("under its new name: %d bytes, %v", len(got), err)
		}
		if got, _ := e.object("p/" + other); !bytes.Equal(got, k.before) {
			fail("the depot has %d bytes under the new name", len(got))
		}
	}
	a, err := e.lookup(k.path)
	if k.gone {
		if _, there := e.object("p/" + k.path); there || !errors.Is(err, iofs.ErrNotExist) {
			fail("the old name still exists: %v, its object: %v", err, there)
		}
		return
	}
	if err != nil {
		fail("lookup: %v", err)
		return
	}
	if k.want == nil {
		switch {
		case k.op == "symlink":
			if to, err := e.c.Readlink(context.Background(), a.Ino); err != nil || to != "to/here" {
				fail("readlink: %q, %v", to, err)
			}
			if got, _ := e.object("p/" + k.path); string(got) != "to/here" {
				fail("the depot has %d bytes under the symlink's key", len(got))
			}
		default:
			theirs := pattern(3, len(k.before)+10)
			if got, err := e.read(k.path + "/x"); err != nil || !bytes.Equal(got, theirs) {
				fail("the file in the new directory: %d bytes, %v", len(got), err)
			}
			if got, _ := e.object("p/" + k.path + "/x"); !bytes.Equal(got, theirs) {
				fail("the depot has %d bytes of the file in the new directory", len(got))
			}
			if _, ok := e.object("p/" + k.path); ok {
				fail("the old file's object still exists")
			}
		}
		return
	}
	got, err := e.read(k.path)
	if err != nil || !bytes.Equal(got, k.want) {
		fail("the mount has %d bytes (%v), want %d, or others", len(got), err, len(k.want))
	}
	if got, ok := e.object("p/" + k.path); !ok || !bytes.Equal(got, k.want) {
		fail("the depot has %d bytes, want %d, or others", len(got), len(k.want))
	}
	if k.op == "chmod" {
		if a.Mode&0o777 != 0o600 {
			fail("mode %o is shown", a.Mode)
		}
		info, err := e.mem.Head(context.Background(), "p/"+k.path)
		if err != nil || !strings.HasSuffix(info.Metadata["file-permissions"], "600") {
			fail("the depot has mode %q (%v)", info.Metadata["file-permissions"], err)
		}
	}
	if pinned := e.stat1(k.path).Pinned; pinned != (k.state == "pinned") {
		fail("pinned: %v", pinned)
	}
	kept := e.conflicts(k.path, k.full)
	switch {
	case k.kept == nil && len(kept) > 0:
		fail("%d conflicts", len(kept))
	case k.kept != nil && (len(kept) != 1 || !bytes.Equal(kept[0], k.kept)):
		fail("%d conflicts, or other bytes", len(kept))
	}
}

func (e *env) stat1(path string) cache.FileStatus {
	e.t.Helper()
	f, err := e.c.StatPath(context.Background(), path)
	if err != nil {
		e.t.Fatalf("stat %q: %v", path, err)
	}
	return f
}

// conflicts are the bytes that were kept of a path, in the depot or, as status
// names them, in the share.
func (e *env) conflicts(path, full string) (kept [][]byte) {
	e.t.Helper()
	for _, key := range e.mem.Keys("p/.depotfs/conflicts/") {
		if strings.HasSuffix(key, "/"+path) {
			kept = append(kept, e.mem.Bytes(key))
		}
	}
	st, err := e.c.Status(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	for _, p := range st.Problems {
		if _, file, ok := strings.Cut(p.Reason, "the other version is "+e.share+"/"); ok && p.Kind == "conflict" && p.Path == path {
			b, err := os.ReadFile(filepath.Join(e.share, file))
			if err != nil {
				e.t.Error(err)
			}
			kept = append(kept, b)
		}
	}
	return kept
}

// A rename by others costs no upload and leaves one name, in whichever order the two
// directories are looked at.
func TestRenamedByOthers(t *testing.T) {
	for _, first := range []string{"from", "to"} {
		t.Run(first+" is looked at first", func(t *testing.T) {
			e := newEnv(t)
			e.mkdirAll("from")
			e.mkdirAll("to")
			data := pattern(1, 300_000)
			e.write("from/f", data)
			e.flush()
			e.settle = time.Hour
			h := e.mustOpen("from/f", syscall.O_RDONLY)
			puts := e.store.Calls("put")
			if err := os.Rename(filepath.Join(e.share, "from/f"), filepath.Join(e.share, "to/g")); err != nil {
				t.Fatal(err)
			}
			dir, err := e.lookup(first)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.c.OpenDir(context.Background(), dir.Ino); err != nil {
				t.Fatal(err)
			}
			e.scan()
			if _, err := e.lookup("from/f"); !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("the old name: %v", err)
			}
			got, err := io.ReadAll(io.NewSectionReader(readerAt{h}, 0, 1<<20))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("who had it open reads %d bytes, %v", len(got), err)
			}
			h.Release()
			e.flush()
			e.mustRead("to/g", data)
			e.wantObject("p/to/g", data)
			if _, there := e.object("p/from/f"); there {
				t.Error("the object of the old name still exists")
			}
			if n := e.store.Calls("put") - puts; n > 0 {
				t.Errorf("%d objects were sent for a rename", n)
			}
			e.evict("to/g")
			e.mustRead("to/g", data)
		})
	}
}

// A renamed file may have been uploaded under its new name before it is missed under
// its old one: that name goes all the same.
func TestRenamedByOthersAndUploaded(t *testing.T) {
	e := newEnv(t)
	e.mkdirAll("from")
	e.mkdirAll("to")
	data := pattern(1, 300_000)
	e.write("from/f", data)
	e.flush()
	if err := os.Rename(filepath.Join(e.share, "from/f"), filepath.Join(e.share, "to/g")); err != nil {
		t.Fatal(err)
	}
	dir, err := e.lookup("to")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.c.OpenDir(context.Background(), dir.Ino); err != nil {
		t.Fatal(err)
	}
	e.flush()
	e.scan()
	e.flush()
	if _, err := e.lookup("from/f"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
	if _, there := e.object("p/from/f"); there {
		t.Error("the object of the old name still exists")
	}
	e.mustRead("to/g", data)
	e.wantObject("p/to/g", data)
}

// What others make in a directory is listed, though we change the directory after them.
func TestOwnChangesDoNotHideOthers(t *testing.T) {
	e := newEnv(t)
	e.mkdirAll("d")
	e.write("d/one", pattern(1, 10))
	dir, err := e.lookup("d")
	if err != nil {
		t.Fatal(err)
	}
	list := func() (names []string) {
		if err := e.c.OpenDir(context.Background(), dir.Ino); err != nil {
			t.Fatal(err)
		}
		if err := e.c.ReadDir(context.Background(), dir.Ino, 0, func(d cache.DirEntry) bool {
			names = append(names, d.Name)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	list()
	for i, own := range []func(){
		func() { e.write("d/own", pattern(2, 10)) },
		func() { e.mkdirAll("d/sub") },
		func() { _ = e.c.Unlink(context.Background(), dir.Ino, "own") },
		func() { _ = e.c.Rename(context.Background(), dir.Ino, "one", dir.Ino, "two", 0) },
	} {
		theirs := fmt.Sprintf("theirs%d", i)
		e.outside("d/"+theirs, pattern(3, 10))
		own()
		if names := list(); !slices.Contains(names, theirs) {
			t.Errorf("change %d: %s is not listed: %v", i, theirs, names)
		}
	}
}

// Others may make a directory again that only the depot has, and put files into it.
func TestOthersMakeARemoteDirectory(t *testing.T) {
	e := newEnv(t)
	e.mkdirAll("snapshots/1")
	e.write("snapshots/1/s", pattern(1, 100_000))
	e.flush()
	e.close()
	e.share, e.state = t.TempDir(), t.TempDir() // another zone: all of it is remote
	e.open()
	e.scan()
	e.outside("snapshots/1/theirs", pattern(2, 100))
	dir, err := e.lookup("snapshots/1")
	if err == nil {
		err = e.c.OpenDir(context.Background(), dir.Ino)
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := e.c.ReadDir(context.Background(), dir.Ino, 0, func(d cache.DirEntry) bool {
		names = append(names, d.Name)
		return true
	}); err != nil || len(names) != 2 {
		t.Errorf("listed: %v, %v", names, err)
	}
	e.outside("snapshots/2/theirs", pattern(2, 100))
	e.scan()
	e.scan()
	e.flush()
	e.wantObject("p/snapshots/1/theirs", pattern(2, 100))
	e.wantObject("p/snapshots/2/theirs", pattern(2, 100))
	e.mustRead("snapshots/1/s", pattern(1, 100_000))
}

// With --share-deletes delete a removed tree goes everywhere after ten minutes; what
// nobody could see when it was removed stays, and so do templates. Nothing that only
// looks at the tree in between brings it back.
func TestRemovedTreeWhileBeside(t *testing.T) {
	e := newEnv(t)
	e.close()
	e.deploy = cache.Beside
	e.open()
	data := pattern(1, 100_000)
	for _, dir := range []string{"snapshots/1", "snapshots/2/x", "template/t"} {
		e.mkdirAll(dir)
		e.write(dir+"/a", data)
		e.write(dir+"/b.properties", data[:100])
	}
	e.flush()
	h := e.mustOpen("snapshots/1/a", syscall.O_RDONLY)
	for _, dir := range []string{"snapshots/1", "snapshots/2", "template/t"} {
		if err := os.RemoveAll(filepath.Join(e.share, dir)); err != nil {
			t.Fatal(err)
		}
	}
	e.scan()
	if _, err := e.read("snapshots/2/x/a"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("open of a file that was removed: %v, want ErrNotExist", err)
	}
	for range 2 {
		e.ahead.Add(int64(6 * time.Minute))
		e.scan()
		e.scan()
	}
	for range 3 { // directories go when nothing is left in them
		e.scan()
	}
	for _, name := range []string{"snapshots/1", "snapshots/2"} {
		if _, err := e.lookup(name); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("%s still exists: %v", name, err)
		}
	}
	got, err := io.ReadAll(io.NewSectionReader(readerAt{h}, 0, 1<<20))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("who had a removed file open reads %d bytes, %v", len(got), err)
	}
	h.Release()
	e.flush()
	for _, key := range e.mem.Keys("p/snapshots/") {
		if key != "p/snapshots/" {
			t.Errorf("%s still exists in the depot", key)
		}
	}
	e.mustRead("template/t/a", data)
	e.wantObject("p/template/t/a", data)
}

// A removal that does not last is none.
func TestRemovedAndMadeAgainWhileBeside(t *testing.T) {
	e := newEnv(t)
	e.close()
	e.deploy = cache.Beside
	e.open()
	e.mkdirAll("volumes")
	data := pattern(1, 1000)
	e.write("volumes/v", data)
	e.flush()
	full := filepath.Join(e.share, "volumes/v")
	if err := os.Rename(full, full+".away"); err != nil {
		t.Fatal(err)
	}
	a, err := e.lookup("volumes/v")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.c.Open(context.Background(), a.Ino, syscall.O_RDONLY); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if err := os.Rename(full+".away", full); err != nil {
		t.Fatal(err)
	}
	e.scan()
	e.ahead.Add(int64(11 * time.Minute))
	e.scan()
	e.flush()
	e.mustRead("volumes/v", data)
	e.wantObject("p/volumes/v", data)
}

// A file that others remove before it was uploaded holds up neither a flush nor the
// other files of its directory; after ten minutes its name goes.
func TestRemovedBeforeItWasUploaded(t *testing.T) {
	e := newEnv(t)
	e.mkdirAll("volumes")
	e.settle = time.Hour
	e.write("volumes/lost", pattern(1, 1000))
	e.write("volumes/other", pattern(2, 1000))
	if err := os.Remove(filepath.Join(e.share, "volumes/lost")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.read("volumes/lost"); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v, want EIO", err)
	}
	left := e.flushFor(20 * time.Second)
	if len(left) != 1 || left[0].Path != "volumes/lost" || !strings.Contains(left[0].Reason, "removed") {
		t.Errorf("flush left %+v", left)
	}
	e.wantObject("p/volumes/other", pattern(2, 1000))
	e.scan()
	e.ahead.Add(int64(11 * time.Minute))
	e.scan()
	if _, err := e.lookup("volumes/lost"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("after ten minutes: %v", err)
	}
	e.flush()
}

// The answer to an upload is lost, and then others remove the file: what the depot
// has is the new version or the old one, and either can be read.
func TestRemovedAfterAnUnansweredUpload(t *testing.T) {
	for _, arrived := range []bool{true, false} {
		for _, open := range []bool{false, true} {
			t.Run(fmt.Sprintf("arrived=%v,open=%v", arrived, open), func(t *testing.T) {
				e := newEnv(t)
				old, data := pattern(1, 1000), pattern(2, 90_000)
				e.write("f", old)
				e.flush()
				e.settle = time.Hour
				e.write("f", data)
				want := old
				if arrived {
					e.store.Inject(storetest.LoseAnswer(storetest.Put).On("p/f"))
					want = data
				}
				e.store.Inject(storetest.Fail(storetest.Put, cache.ErrUnavailable).On("p/f").Always())
				if left := e.flushFor(500 * time.Millisecond); len(left) != 1 {
					t.Fatalf("flush left %+v", left)
				}
				if open {
					defer e.mustOpen("f", syscall.O_RDONLY).Release()
				}
				if err := os.Remove(filepath.Join(e.share, "f")); err != nil {
					t.Fatal(err)
				}
				e.scan()
				e.store.Clear()
				e.flush()
				e.scan()
				if got, _ := e.object("p/f"); open && bytes.Equal(got, data) {
					want = data // sent from the file that was open, when the store came back
				}
				e.mustRead("f", want)
				e.wantObject("p/f", want)
			})
		}
	}
}
