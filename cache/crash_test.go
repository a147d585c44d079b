package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/catalog"
)

// A crash test runs one operation again and again, each time cut off before
// another of its steps on the share: from that step on the share cannot be reached
// and the catalog is as it was (a copy taken at that instant). A new Cache on both
// must then show the tree as it was before the operation or as it is after it,
// with all bytes, and nothing that nobody claims.
type crashCase struct {
	name  string
	setup func(e *env)
	op    func(e *env) error
}

var errPulled = errors.New("the plug was pulled")

// plug cuts the share off before the step with the given number.
type plug struct {
	mu    sync.Mutex
	armed bool
	left  int
	out   bool
	at    func()
}

func (p *plug) fault(op, tag, rel string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out {
		return errPulled
	}
	if !p.armed || op == "stat" {
		return nil
	}
	if p.left > 0 {
		p.left--
		return nil
	}
	p.out = true
	p.at()
	return errPulled
}

func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	big := pattern(3, 700_000)
	ino := func(e *env, path string) cache.Ino {
		a, err := e.lookup(path)
		if err != nil {
			e.t.Fatalf("%s: %v", path, err)
		}
		return a.Ino
	}
	base := func(e *env) {
		e.mkdirAll("d/sub")
		e.mkdirAll("d2")
		e.write("d/f", big)
		e.write("d/g", big[:1000])
		e.write("d/sub/h", big[:2000])
		e.flush()
	}
	ctx := context.Background()
	rename := func(from, to string, flags cache.RenameFlags) func(e *env) error {
		return func(e *env) error {
			fp, fn := e.parent(from)
			tp, tn := e.parent(to)
			return e.c.Rename(ctx, fp, fn, tp, tn, flags)
		}
	}
	for _, c := range []crashCase{
		{"create", base, func(e *env) error {
			p, n := e.parent("d/new")
			_, h, err := e.c.Create(ctx, me, p, n, 0o600, syscall.O_RDWR)
			if err == nil {
				h.Release()
			}
			return err
		}},
		{"mkdir", base, func(e *env) error {
			p, n := e.parent("d/newdir")
			_, err := e.c.Mkdir(ctx, me, p, n, 0o700)
			return err
		}},
		{"unlink", base, func(e *env) error {
			p, n := e.parent("d/f")
			return e.c.Unlink(ctx, p, n)
		}},
		{"unlink while open", base, func(e *env) error {
			h, err := e.c.Open(ctx, ino(e, "d/f"), syscall.O_RDWR)
			if err != nil {
				return err
			}
			defer h.Release()
			p, n := e.parent("d/f")
			return e.c.Unlink(ctx, p, n)
		}},
		{"rmdir", base, func(e *env) error {
			p, n := e.parent("d2")
			return e.c.Rmdir(ctx, p, n)
		}},
		{"rename", base, rename("d/f", "d2/x", 0)},
		{"rename over", base, rename("d/f", "d/g", 0)},
		{"rename directory", base, rename("d/sub", "d2/sub2", 0)},
		{"rename directory over", base, rename("d/sub", "d2", 0)},
		{"exchange", base, rename("d/f", "d/sub/h", cache.RenameExchange)},
		{"rename remote over resident", func(e *env) { base(e); e.evict("d/f") }, rename("d/f", "d/g", 0)},
		{"rename resident over remote", func(e *env) { base(e); e.evict("d/g") }, rename("d/f", "d/g", 0)},
		{"exchange with remote", func(e *env) { base(e); e.evict("d/f") }, rename("d/f", "d/sub/h", cache.RenameExchange)},
		{"link", base, func(e *env) error {
			p, n := e.parent("d2/link")
			_, err := e.c.Link(ctx, ino(e, "d/f"), p, n)
			return err
		}},
		{"evict", base, func(e *env) error {
			left, err := e.c.Evict(ctx, []string{"d/f"}, nil)
			if err == nil && len(left) > 0 {
				err = errors.New(left[0].Reason)
			}
			return err
		}},
		{"promote", func(e *env) { base(e); e.evict("d/f") }, func(e *env) error {
			left, err := e.c.Warm(ctx, []string{"d/f"}, nil)
			if err == nil && len(left) > 0 {
				err = errors.New(left[0].Reason)
			}
			return err
		}},
		{"truncate remote", func(e *env) { base(e); e.evict("d/f") }, func(e *env) error {
			_, err := e.c.SetAttr(ctx, ino(e, "d/f"), nil, setSize(0))
			return err
		}},
		{"cut remote", func(e *env) { base(e); e.evict("d/f") }, func(e *env) error {
			_, err := e.c.SetAttr(ctx, ino(e, "d/f"), nil, setSize(1234))
			return err
		}},
		{"upload of a remote file that was changed", func(e *env) {
			e.close()
			e.mem.MinPart, e.limits = 64<<10, cache.Limits{PartSize: 64 << 10, SmallestPart: 64 << 10}
			e.open()
			base(e)
			e.evict("d/f")
		}, func(e *env) error {
			h, err := e.c.Open(ctx, ino(e, "d/f"), syscall.O_RDWR)
			if err != nil {
				return err
			}
			_, err = h.WriteAt(ctx, []byte{7, 7, 7, 7, 7, 7, 7}, 300_000)
			h.Release()
			for err == nil && len(e.flushFor(100*time.Millisecond)) > 0 {
				if e.fault != nil {
					err = e.fault("stat", "", "") // says whether the plug is out
				}
			}
			return err
		}},
		{"chmod", base, func(e *env) error {
			_, err := e.c.SetAttr(ctx, ino(e, "d/f"), nil, cache.SetAttr{Valid: cache.SetMode, Mode: 0o640})
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // it waits for the disk most of the time
			for step := 0; ; step++ {
				if !crashOnce(t, c, step) {
					if step == 0 {
						t.Fatal("the operation does nothing in the share")
					}
					return
				}
			}
		})
	}
}

// crashOnce reports whether the plug was pulled: false when the operation has
// fewer steps.
func crashOnce(t *testing.T, c crashCase, step int) bool {
	e := newEnv(t)
	defer e.close()
	p := &plug{left: step}
	e.close()
	e.fault = p.fault
	e.open()
	c.setup(e)
	var image string
	p.at = func() { image = e.copyState() }
	p.mu.Lock()
	p.armed = true
	p.mu.Unlock()
	err := c.op(e)
	p.mu.Lock()
	pulled := p.out
	p.armed, p.out = false, false
	e.fault = nil
	p.mu.Unlock()
	if !pulled {
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		return false
	}
	// The old instance is stopped without touching the share again.
	p.mu.Lock()
	p.out = true
	p.mu.Unlock()
	e.stop()
	<-e.done
	_ = e.c.Close()
	e.c = nil
	e.state = image
	e.open()
	got := e.tree("")

	// Looking at files fetches them: both trees are taken from another zone.
	after := newEnv(t)
	c.setup(after)
	before := after.tree("")
	after.close()
	after = newEnv(t)
	c.setup(after)
	if err := c.op(after); err != nil {
		t.Fatal(err)
	}
	want := after.tree("")
	after.close()
	if !maps.Equal(got, before) && !maps.Equal(got, want) {
		t.Fatalf("step %d (%v): neither before nor after\n got    %v\n before %v\n after  %v", step, err, text(got), text(before), text(want))
	}
	e.flush()
	// The depot follows, and nothing is left that nobody claims.
	var keys []string
	for path, what := range got {
		if strings.HasPrefix(what, "dir") {
			path += "/"
		}
		keys = append(keys, "p/"+path)
	}
	have := slices.DeleteFunc(e.mem.Keys("p/"), func(k string) bool { return strings.HasPrefix(k, "p/.depotfs/") })
	slices.Sort(keys)
	slices.Sort(have)
	if !slices.Equal(keys, have) {
		t.Fatalf("step %d: depot has %q, want %q", step, have, keys)
	}
	for _, dir := range []string{"open", "evict", "partial"} {
		left, err := os.ReadDir(e.share + "/.depotfs/" + dir)
		if err != nil || len(left) > 0 {
			t.Fatalf("step %d: .depotfs/%s has %v (%v)", step, dir, left, err)
		}
	}
	return true
}

// tree describes everything below a directory by path.
func (e *env) tree(path string) map[string]string {
	e.t.Helper()
	out := map[string]string{}
	e.treeInto(path, catalog.Root, out)
	return out
}

func (e *env) treeInto(path string, dir cache.Ino, out map[string]string) {
	e.t.Helper()
	ctx := context.Background()
	if err := e.c.OpenDir(ctx, dir); err != nil {
		e.t.Fatalf("opendir %q: %v", path, err)
	}
	var names []cache.DirEntry
	if err := e.c.ReadDir(ctx, dir, 0, func(d cache.DirEntry) bool { names = append(names, d); return true }); err != nil {
		e.t.Fatalf("readdir %q: %v", path, err)
	}
	for _, d := range names {
		p := strings.TrimPrefix(path+"/"+d.Name, "/")
		a, err := e.c.Lookup(ctx, dir, d.Name)
		if err != nil {
			e.t.Fatalf("lookup %q: %v", p, err)
		}
		switch a.Mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			out[p] = fmt.Sprintf("dir %o nlink %d", a.Mode&0o7777, a.Nlink)
			e.treeInto(p, a.Ino, out)
		case syscall.S_IFREG:
			b, err := e.read(p)
			if err != nil {
				e.t.Fatalf("read %q: %v", p, err)
			}
			sum := bytes.Count(b, []byte{7})
			out[p] = fmt.Sprintf("file %o nlink %d size %d/%d sevens %d", a.Mode&0o7777, a.Nlink, len(b), a.Size, sum)
		default:
			out[p] = fmt.Sprintf("other %o", a.Mode)
		}
	}
}

func text(m map[string]string) string {
	var lines []string
	for k, v := range m {
		lines = append(lines, "\n   "+k+": "+v)
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}
