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

	"depotfs/cache"
)

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
