package cache_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// A directory comes back as its last burst of deletes found it: each file's last version,
// and nothing that went long before; what exists stays as it is.
func TestDirectoryComesBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("d/sub")
	want := map[string][]byte{}
	e.write("d/old", pattern(9, 10))
	e.flush()
	e.unlink("d/old")
	e.flush()
	e.ahead.Store(int64(time.Hour))
	for i := range 20 {
		path := fmt.Sprintf("d/sub/f%d", i)
		want[path] = pattern(uint64(i), 1000+i)
		e.write(path, want[path])
	}
	e.write("d/twice", pattern(50, 50))
	e.write("dx", pattern(51, 51)) // a neighbour
	e.flush()
	e.unlink("d/twice")
	e.flush()
	want["d/twice"] = pattern(52, 52)
	e.write("d/twice", want["d/twice"])
	e.flush()
	e.unlink("dx")
	for path := range want {
		e.unlink(path)
	}
	e.flush()
	ctx := context.Background()
	dir, _ := e.lookup("d")
	root, _ := e.lookup("")
	if err := e.c.Rmdir(ctx, dir.Ino, "sub"); err != nil {
		t.Fatal(err)
	}
	if err := e.c.Rmdir(ctx, root.Ino, "d"); err != nil {
		t.Fatal(err)
	}
	e.flush()

	e.mkdirAll("d/sub")
	mine := pattern(60, 60)
	e.write("d/sub/f3", mine)
	n, left, err := e.c.TrashRestore(ctx, cache.TrashPick{Paths: []string{"d"}}, nil)
	if err != nil || n != 20 || len(left) != 1 || left[0].Path != "d/sub/f3" || !strings.Contains(left[0].Reason, "--to") {
		t.Fatalf("%d came back, left %+v, %v; want 20, and d/sub/f3 alone", n, left, err)
	}
	lost := want["d/sub/f3"]
	want["d/sub/f3"] = mine
	for path, data := range want {
		e.mustRead(path, data)
		e.wantObject("p/"+path, data)
	}
	for _, path := range []string{"d/old", "dx"} {
		if _, err := e.lookup(path); err == nil {
			t.Errorf("%s came back too", path)
		}
	}
	e.restore(cache.TrashPick{Paths: []string{"d/sub"}, To: "back"})
	e.mustRead("back/f3", lost)
	if n := len(e.trashed("d")); n != 2 { // old, and twice as it was first
		t.Errorf("%d entries are left of d, want 2", n)
	}
}

// The version that was deleted last comes back, or the one that is named.
func TestLastDeletionComesBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for i := range 3 {
		e.write("f", pattern(uint64(i), 100))
		e.flush()
		e.unlink("f")
		e.flush()
	}
	all := e.trashed("f")
	if len(all) != 3 {
		t.Fatalf("the trash has %+v", all)
	}
	e.restore(cache.TrashPick{Paths: []string{"f"}})
	e.mustRead("f", pattern(2, 100))
	e.restore(cache.TrashPick{Entries: []string{all[2].Entry}, To: "new/g"})
	e.mustRead("new/g", pattern(0, 100))
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.write("f", pattern(1, 100))
	e.flush()
	e.unlink("f")
	e.flush()
	entry := e.trashed()[0].Entry
	e.write("file", nil)
	for _, tt := range []struct {
		name, why string
		pick      cache.TrashPick
	}{
		{"an unknown path", "nothing that was deleted there", cache.TrashPick{Paths: []string{"g"}}},
		{"an unknown entry", "no such entry", cache.TrashPick{Entries: []string{"20200101T000000.000000000Z/z1/f"}}},
		{"a name that exists", "the name exists", cache.TrashPick{Paths: []string{"f"}, To: "file"}},
		{"a place below a file", "not a directory", cache.TrashPick{Paths: []string{"f"}, To: "file/f"}},
		{"a temporary name", "temporary", cache.TrashPick{Paths: []string{"f"}, To: "f.tmp"}},
		{"a place outside", "no place to restore", cache.TrashPick{Paths: []string{"f"}, To: "../f"}},
		{"our own directory", "no place to restore", cache.TrashPick{Paths: []string{"f"}, To: ".depotfs/f"}},
		{"two for one place", "no place to restore", cache.TrashPick{Paths: []string{"f"}, Entries: []string{entry}, To: "x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, left, err := e.c.TrashRestore(context.Background(), tt.pick, nil)
			said := fmt.Sprint(err)
			if err == nil && len(left) == 1 {
				said = left[0].Reason
			}
			if !strings.Contains(said, tt.why) {
				t.Errorf("said %q, %v; want ...%s...", said, left, tt.why)
			}
		})
	}
	if len(e.trashed()) != 1 {
		t.Error("the entry is gone")
	}
	e.restore(cache.TrashPick{Entries: []string{entry}})
	e.mustRead("f", pattern(1, 100))
}

// A restore that is cut short goes on by itself: the file is there, and its object gets
// its key when the store answers again.
func TestRestoreSurvivesAKill(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	data := pattern(1, 50_000)
	e.write("f", data)
	e.flush()
	e.unlink("f")
	e.flush()
	e.store.Inject(failCopies("p/f"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, _, err := e.c.TrashRestore(ctx, cache.TrashPick{Paths: []string{"f"}}, nil)
		done <- err
	}()
	e.waitFor("the name is there", func() bool { _, err := e.lookup("f"); return err == nil })
	image := e.copyState()
	cancel()
	<-done
	e.close()
	e.state = image
	e.store.Clear()
	e.open()
	e.mustRead("f", data)
	e.flush()
	e.wantObject("p/f", data)
	e.wantTrash(nil)
}

func failCopies(key string) *storetest.Fault {
	return storetest.Fail(storetest.Copy, cache.ErrUnavailable).On(key).Always()
}
