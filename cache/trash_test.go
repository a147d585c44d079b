package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

const trashRoot = "p/.depotfs/trash/"

// trashed lists the trash, the latest deletion first.
func (e *env) trashed(paths ...string) []cache.TrashEntry {
	e.t.Helper()
	var all []cache.TrashEntry
	if err := e.c.TrashList(context.Background(), paths, func(t cache.TrashEntry) error { all = append(all, t); return nil }); err != nil {
		e.t.Fatalf("list the trash: %v", err)
	}
	return all
}

// wantTrash expects the trash to hold exactly these versions.
func (e *env) wantTrash(want map[string][]byte) {
	e.t.Helper()
	all := e.trashed()
	for _, t := range all {
		b, known := want[t.Path]
		if !known {
			e.t.Errorf("the trash has %s", t.Entry)
			continue
		}
		e.wantObject(trashRoot+t.Entry, b)
		if t.Zone != "z1" || t.Size != int64(len(b)) || time.Since(t.Deleted) > time.Hour || t.Expires == nil {
			e.t.Errorf("entry %+v", t)
		}
	}
	if len(all) != len(want) {
		e.t.Errorf("the trash has %d versions, want %d", len(all), len(want))
	}
}

func (e *env) restore(pick cache.TrashPick) {
	e.t.Helper()
	_, left, err := e.c.TrashRestore(context.Background(), pick, nil)
	if err != nil || len(left) > 0 {
		e.t.Fatalf("restore %+v: %v %v", pick, left, err)
	}
}

func TestDeletedFileComesBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 300_000)
	e.mkdirAll("d")
	ino := e.write("d/f", data)
	e.flush()
	if _, err := e.c.SetAttr(context.Background(), ino, nil, cache.SetAttr{Valid: cache.SetMode | cache.SetMtime, Mode: 0o4640, Mtime: 1_600_000_000_123456789}); err != nil {
		t.Fatal(err)
	}
	before, err := e.lookup("d/f")
	if err != nil {
		t.Fatal(err)
	}
	e.unlink("d/f") // its object does not have the new attributes yet
	e.flush()
	e.wantTrash(map[string][]byte{"d/f": data})
	if _, there := e.object("p/d/f"); there {
		t.Error("the object is still there")
	}
	e.restore(cache.TrashPick{Paths: []string{"d/f"}})
	after, err := e.lookup("d/f")
	if err != nil || after.Mode != before.Mode&^0o4000 || after.UID != before.UID || after.GID != before.GID || after.Mtime != before.Mtime || after.Size != before.Size {
		t.Errorf("came back as %+v, %v; was %+v", after, err, before)
	}
	if got := e.state1("d/f"); got != "remote" {
		t.Errorf("state %s", got)
	}
	e.wantObject("p/d/f", data)
	e.mustRead("d/f", data)
	e.wantTrash(nil)
	e.restart()
	e.mustRead("d/f", data)
}

// A version is kept before its key gets another one: by a rename over it, and by a new
// file of the name that is uploaded before the delete was done.
func TestVersionIsKeptBeforeItsKeyIsTaken(t *testing.T) {
	t.Parallel()
	first, second, third := pattern(1, 2000), pattern(2, 3000), pattern(3, 4000)
	for name, replace := range map[string]func(e *env){
		"rename over": func(e *env) { e.rename("b", "a") },
		"delete and write": func(e *env) {
			e.unlink("a")
			e.rename("b", "a")
		},
		"delete while the store is down, and write": func(e *env) {
			e.store.SetDown(true)
			e.unlink("a")
			e.write("a", second)
			e.unlink("b")
			e.store.SetDown(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.write("a", first)
			e.write("b", second)
			e.write("c", third)
			e.flush()
			e.c.SetTrashRetention(0)
			e.unlink("c") // nobody wants to keep that
			e.flush()
			e.c.SetTrashRetention(time.Hour)
			replace(e)
			e.flush()
			e.mustRead("a", second)
			e.wantObject("p/a", second)
			want := map[string][]byte{"a": first}
			if strings.Contains(name, "down") {
				want["b"] = second
			}
			e.wantTrash(want)
		})
	}
}

// Whatever fails or is not heard, and whenever the daemon starts anew: the version is kept
// once, and its object goes.
func TestKeepingIsRepeated(t *testing.T) {
	t.Parallel()
	data := pattern(1, 5000)
	for i, fault := range []func() *storetest.Fault{
		func() *storetest.Fault { return storetest.Fail(storetest.Copy, cache.ErrUnavailable).On(trashRoot) },
		func() *storetest.Fault { return storetest.LoseAnswer(storetest.Copy).On(trashRoot) },
		func() *storetest.Fault { return storetest.Fail(storetest.Delete, cache.ErrUnavailable).On("p/f") },
		func() *storetest.Fault { return storetest.LoseAnswer(storetest.Delete).On("p/f") },
		func() *storetest.Fault { return storetest.Fail(storetest.Copy, cache.ErrDenied).On(trashRoot) },
	} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("step %d, started anew %v", i, again), func(t *testing.T) {
				e := newEnv(t)
				e.write("f", data)
				e.flush()
				if again {
					e.store.Inject(fault().Always())
					calls := e.store.Calls(storetest.Copy) + e.store.Calls(storetest.Delete)
					e.unlink("f")
					e.waitFor("the delete is tried", func() bool {
						return e.store.Calls(storetest.Copy)+e.store.Calls(storetest.Delete) > calls
					})
					image := e.copyState()
					e.close()
					e.state = image
					e.store.Clear()
					e.open()
				} else {
					e.store.Inject(fault())
					e.unlink("f")
				}
				e.flush()
				e.wantTrash(map[string][]byte{"f": data})
				if _, there := e.object("p/f"); there {
					t.Error("the object is still there")
				}
			})
		}
	}
}

// An object that another zone has put under the key is not ours to delete, nor to keep.
func TestAnothersVersionIsNotKept(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.write("f", pattern(1, 100))
	e.flush()
	theirs := pattern(2, 200)
	if _, err := e.mem.Put(context.Background(), "p/f", bytes.NewReader(theirs), int64(len(theirs)), cache.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	e.unlink("f")
	e.flush()
	e.wantTrash(nil)
	e.wantObject("p/f", theirs)
}

// The object of a file that is read while it is deleted is needed until the last close.
func TestOpenFileIsKeptWhenItIsClosed(t *testing.T) {
	t.Parallel()
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprint("killed ", kill), func(t *testing.T) {
			e := newEnv(t)
			data := pattern(1, 3<<20)
			ino := e.write("f", data)
			e.flush()
			e.evict("f")
			h, err := e.c.Open(context.Background(), ino, syscall.O_RDONLY)
			if err != nil {
				t.Fatal(err)
			}
			e.unlink("f")
			e.wantTrash(nil)
			if kill {
				image := e.copyState()
				h.Release()
				e.close()
				e.state = image
				for _, key := range e.mem.Keys(trashRoot) { // what came after that moment
					if err := e.mem.Delete(context.Background(), key, ""); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := e.mem.Put(context.Background(), "p/f", bytes.NewReader(data), int64(len(data)), cache.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				e.open()
			} else {
				buf := make([]byte, 1000)
				if _, err := h.ReadAt(context.Background(), buf, 2<<20); err != nil || !slices.Equal(buf, data[2<<20:][:1000]) {
					t.Errorf("read: %v", err)
				}
				h.Release()
			}
			e.flush()
			e.wantTrash(map[string][]byte{"f": data})
		})
	}
}

// What goes because its key moved, or because it was changed, is not in the trash; nor
// are directories.
func TestTrashIsForDeletedFilesOnly(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("d/empty")
	data := pattern(1, 1000)
	e.write("d/f", data)
	e.flush()
	e.rename("d", "e")
	e.flush()
	e.write("e/f", pattern(2, 900))
	e.flush()
	dir, err := e.lookup("e")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.c.Rmdir(context.Background(), dir.Ino, "empty"); err != nil {
		t.Fatal(err)
	}
	e.flush()
	e.wantTrash(nil)
	if keys := e.mem.Keys(trashRoot); len(keys) > 0 {
		t.Errorf("the trash has %v", keys)
	}
}

// Paths that make no key, in the tree or only below the trash, come back too.
func TestTrashOfPathsThatAreNoKeys(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("a-directory-with-a-long-name/", 34)
	longest := strings.Repeat("another-directory-with-a-long-name/", 40)
	for name, path := range map[string]string{
		"not UTF-8":                       "b\xffd",
		"a valid key, but not with more":  deep + "x",
		"longer than metadata can record": longest + "x",
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			data := pattern(1, 1000)
			if i := strings.LastIndexByte(path, '/'); i > 0 {
				e.mkdirAll(path[:i])
			}
			e.write(path, data)
			e.flush()
			e.unlink(path)
			e.flush()
			all := e.trashed()
			if len(all) != 1 || all[0].Path != path {
				t.Fatalf("the trash has %+v", all)
			}
			e.restore(cache.TrashPick{Entries: []string{all[0].Entry}})
			e.mustRead(path, data)
			e.waitFor("nothing is left in the trash", func() bool { return len(e.mem.Keys(trashRoot)) == 0 })
		})
	}
}

func TestTrashOfSymlinks(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	ctx := context.Background()
	root, _ := e.lookup("")
	if _, err := e.c.Symlink(ctx, me, root.Ino, "l", "some/where"); err != nil {
		t.Fatal(err)
	}
	e.flush()
	e.unlink("l")
	e.flush()
	e.wantTrash(map[string][]byte{"l": []byte("some/where")})
	e.restore(cache.TrashPick{Paths: []string{"l"}})
	a, err := e.lookup("l")
	if err != nil {
		t.Fatal(err)
	}
	if to, err := e.c.Readlink(ctx, a.Ino); err != nil || to != "some/where" {
		t.Errorf("points to %q, %v", to, err)
	}
	e.wantTrash(nil)
}
