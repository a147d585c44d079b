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
			if left := e.flushFor(patience); len(left) > 0 {
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
