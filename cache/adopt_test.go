package cache_test

import (
	"context"
	"slices"
	"testing"

	"depotfs/cache"
)

func (e *env) list(path string) []string {
	e.t.Helper()
	a, err := e.lookup(path)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.c.OpenDir(context.Background(), a.Ino); err != nil {
		e.t.Fatal(err)
	}
	var names []string
	if err := e.c.ReadDir(context.Background(), a.Ino, 0, func(d cache.DirEntry) bool { names = append(names, d.Name); return true }); err != nil {
		e.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// A directory that nobody has looked at yet is listed whole, whatever was done with
// single names of it before.
func TestListAfterOneNameWasLookedUp(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(e *env){
		"lookup": func(e *env) {
			if _, err := e.lookup("d/b"); err != nil {
				e.t.Fatal(err)
			}
		},
		"create": func(e *env) { e.write("d/new", []byte("x")) },
		"mkdir":  func(e *env) { e.mkdirAll("d/new") },
		"unlink": func(e *env) { e.unlink("d/gone") },
		"rename": func(e *env) { e.rename("d/gone", "d/new") },
		"link": func(e *env) {
			a, err := e.lookup("d/gone")
			if err != nil {
				e.t.Fatal(err)
			}
			parent, _ := e.parent("d/new")
			if _, err := e.c.Link(context.Background(), a.Ino, parent, "new"); err != nil {
				e.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.close()
			for _, name := range []string{"a", "b", "c", "gone"} {
				e.outside("d/"+name, []byte(name)) // while depotfs is not running
			}
			e.open()
			first(e)
			got := e.list("d")
			for _, want := range []string{"a", "b", "c"} {
				if !slices.Contains(got, want) {
					t.Errorf("%s is not listed: %q", want, got)
				}
			}
		})
	}
}
