package cache_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"depotfs/cache"
)

const theirs = "z9" // another zone than the one that is tested

func template(id int) string { return fmt.Sprintf("template/tmpl/2/%d", id) }

func properties(id int) []byte { return []byte(fmt.Sprintf("id=%d\n", id)) }

func imageOf(id int) []byte { return pattern(uint64(id), 5000+id) }

// install makes templates as CloudStack does, brings them to the depot and has a zone be
// their maker.
func (e *env) install(zone string, ids ...int) {
	e.t.Helper()
	for _, id := range ids {
		dir := template(id)
		e.mkdirAll(dir)
		e.write(dir+"/image.qcow2", imageOf(id))
		e.write(dir+"/template.properties", properties(id))
	}
	e.flush()
	for _, id := range ids {
		if err := cache.SetOrigin(e.c, template(id), zone); err != nil {
			e.t.Fatal(err)
		}
	}
}

// uninstall deletes a template as the agent in a secondary storage VM does.
func (e *env) uninstall(path string) {
	e.t.Helper()
	ctx := context.Background()
	dir, err := e.lookup(path)
	if err != nil {
		e.t.Fatalf("lookup %q: %v", path, err)
	}
	if err := e.c.OpenDir(ctx, dir.Ino); err != nil {
		e.t.Fatal(err)
	}
	var names []string
	if err := e.c.ReadDir(ctx, dir.Ino, 0, func(d cache.DirEntry) bool { names = append(names, d.Name); return true }); err != nil {
		e.t.Fatal(err)
	}
	for _, name := range names {
		if err := e.c.Unlink(ctx, dir.Ino, name); err != nil {
			e.t.Fatalf("unlink %s/%s: %v", path, name, err)
		}
	}
	parent, name := e.parent(path)
	if err := e.c.Rmdir(ctx, parent, name); err != nil {
		e.t.Fatalf("rmdir %s: %v", path, err)
	}
}

// installed checks that a template is there with all bytes.
func (e *env) installed(ids ...int) {
	e.t.Helper()
	for _, id := range ids {
		e.mustRead(template(id)+"/image.qcow2", imageOf(id))
		e.mustRead(template(id)+"/template.properties", properties(id))
	}
}

func (e *env) absent(paths ...string) {
	e.t.Helper()
	for _, path := range paths {
		if _, err := e.lookup(path); err == nil {
			e.t.Errorf("%s is there", path)
		}
	}
}

// plainKeys lists the objects but depotfs's own.
func (e *env) plainKeys() []string {
	return slices.DeleteFunc(e.mem.Keys("p/"), func(k string) bool { return strings.HasPrefix(k, "p/.depotfs/") })
}

// settleRemovals waits until no object waits to be removed.
func (e *env) settleRemovals() {
	e.t.Helper()
	e.waitFor("removals to end", func() bool { return e.status().Pending.Removals == 0 })
}

// heldNames lists what deletes list shows, as "kind path".
func (e *env) heldNames() (out []string) {
	e.t.Helper()
	if err := e.c.EachHeldName(context.Background(), "", func(n cache.HeldName) error {
		out = append(out, n.Kind+" "+n.Path)
		return nil
	}); err != nil {
		e.t.Fatal(err)
	}
	return out
}

// takenBack waits until nothing of a burst is on its way back any more.
func (e *env) takenBack() {
	e.t.Helper()
	e.waitFor("the first deletes to be taken back", func() bool {
		notes := 0
		err := e.c.EachHeldName(context.Background(), "", func(n cache.HeldName) error {
			if n.Note != "" {
				notes++
			}
			return nil
		})
		return err == nil && notes == 0
	})
}

func (e *env) approve(paths ...string) []cache.NotDone {
	e.t.Helper()
	left, err := e.c.ApproveDeletes(context.Background(), paths, nil)
	if err != nil {
		e.t.Fatalf("approve: %v", err)
	}
	return left
}

func (e *env) discard(paths ...string) []cache.NotDone {
	e.t.Helper()
	left, err := e.c.DiscardDeletes(context.Background(), paths, nil)
	if err != nil {
		e.t.Fatalf("discard: %v", err)
	}
	return left
}

func (e *env) wantHeld(n int64) {
	e.t.Helper()
	if s := e.status().Deletes; s.Held != n {
		e.t.Errorf("status says that %d deletes are held, want %d (%+v)\n%s", s.Held, n, s, strings.Join(e.heldNames(), "\n"))
	}
	if got := int64(len(e.heldNames())); got != n {
		e.t.Errorf("%d deletes are listed, want %d", got, n)
	}
}

func from(first, n int) (ids []int) {
	for i := range n {
		ids = append(ids, first+i)
	}
	return ids
}
