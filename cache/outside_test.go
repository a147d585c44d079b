package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	t.Parallel()
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
