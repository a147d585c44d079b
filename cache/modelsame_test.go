package cache_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"syscall"
)

// same compares one path.
func (w *walk) same(p string) {
	w.t.Helper()
	f := w.m[p]
	a, err := w.lookup(p)
	if err != nil {
		w.fail("lookup %s: %v", p, err)
	}
	switch {
	case f.dir:
		if a.Mode&syscall.S_IFMT != syscall.S_IFDIR || a.Mode&0o7777 != f.mode {
			w.fail("%s: mode %o, want directory %o", p, a.Mode, f.mode)
		}
	case f.target != "":
		if got, err := w.c.Readlink(context.Background(), a.Ino); err != nil || got != f.target {
			w.fail("%s: symlink to %q (%v), want %q", p, got, err, f.target)
		}
	default:
		if a.Size != int64(len(f.data)) || a.Mode != syscall.S_IFREG|f.mode || int(a.Nlink) != f.names {
			w.fail("%s: size %d mode %o nlink %d, want %d %o %d", p, a.Size, a.Mode, a.Nlink, len(f.data), f.mode, f.names)
		}
		got, err := w.read(p)
		if err != nil || string(got) != string(f.data) {
			w.fail("%s: read %d bytes (%v), want %d, or others", p, len(got), err, len(f.data))
		}
	}
}

// compare looks at the whole tree and, after a flush, at the whole depot.
func (w *walk) compare(depot bool) {
	w.t.Helper()
	if depot {
		if left := w.flushFor(patience); len(left) > 0 {
			w.fail("flush left %+v", left)
		}
		want := map[string]string{}
		for p, f := range w.m {
			switch {
			case f.dir:
				want["p/"+p+"/"] = ""
			case f.target != "":
				want["p/"+p] = f.target
			default:
				want["p/"+p] = string(f.data)
			}
		}
		for _, k := range w.mem.Keys("p/") {
			if strings.HasPrefix(k, "p/.depotfs/") {
				continue
			}
			data, ok := want[k]
			if !ok {
				w.fail("the depot has %q, the tree has not", k)
			}
			if string(w.mem.Bytes(k)) != data {
				w.fail("object %q: %d bytes, want %d, or others", k, len(w.mem.Bytes(k)), len(data))
			}
			delete(want, k)
		}
		if len(want) > 0 {
			w.fail("the depot lacks %q", slices.Sorted(maps.Keys(want)))
		}
		if odd := w.mem.Keys("p/.depotfs/conflicts/"); len(odd) > 0 {
			w.fail("conflicts with ourselves: %q", odd)
		}
		if odd := w.mem.Keys("p/.depotfs/moving/"); len(odd) > 0 {
			w.fail("left in moving/: %q", odd)
		}
	}
	listed := w.tree("")
	for p := range listed {
		if w.m[p] == nil {
			w.fail("%s is listed and should not exist", p)
		}
	}
	for p := range w.m {
		if listed[p] == "" {
			w.fail("%s is not listed", p)
		}
		w.same(p)
	}
}

// modelGrain is the size of a part in half of the runs.
const modelGrain = 20_000
