package cache_test

import (
	"context"
	"errors"
	iofs "io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Two zones write one path and do not know of each other: the version finished last has
// the name in both, the other is kept, and nobody sends anything again.
func TestTwoZonesWriteOnePath(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("d")
	tell(a, b)
	first, second := pattern(1, 2000), pattern(2, 3000)
	a.write("d/f", first)
	b.write("d/f", second) // finished later
	tell(a, b)
	tell(a, b)
	a.mustRead("d/f", second)
	b.mustRead("d/f", second)
	sameTrees(a, b)
	a.wantObject("p/d/f", second)
	if kept := a.kept(); len(kept) != 1 || !strings.HasSuffix(kept[0], "d/f") {
		t.Errorf("kept %q, want the first version once", kept)
	}
	puts := a.store.Calls("put") + b.store.Calls("put")
	tell(a, b)
	if n := a.store.Calls("put") + b.store.Calls("put") - puts; n > 0 {
		t.Errorf("%d objects were sent after both agreed", n)
	}
}

// Properties that differ in their comments alone are no conflict.
func TestSamePropertiesAreNoConflict(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("template/tmpl/2/5")
	tell(a, b)
	b.write("template/tmpl/2/5/template.properties", []byte("#\n#Mon\nid=5\nuniquename=x\n"))
	a.write("template/tmpl/2/5/template.properties", []byte("#\n#Tue\nuniquename=x\nid=5\n"))
	tell(a, b)
	tell(a, b)
	sameTrees(a, b)
	if kept := a.kept(); len(kept) > 0 {
		t.Errorf("kept %q", kept)
	}
}

// What was written in one zone and deleted later in another one is deleted; what was
// written is kept as a conflict. What was written after the delete stays, everywhere.
func TestWriteAgainstDelete(t *testing.T) {
	t.Parallel()
	for _, last := range []string{"delete", "write"} {
		t.Run(last+" is last", func(t *testing.T) {
			zs := newZones(t, 2)
			a, b := zs[0], zs[1]
			a.mkdirAll("d")
			a.write("d/f", pattern(1, 2000))
			tell(a, b)
			b.warm("d/f")
			changed := pattern(2, 2500)
			b.settle = time.Hour // until it flushes
			if last == "write" {
				a.unlink("d/f")
				time.Sleep(time.Millisecond) // both have one clock, and this is to be the later one
				b.write("d/f", changed)
			} else {
				b.write("d/f", changed)
				time.Sleep(time.Millisecond) // so that it is later by that clock
				a.unlink("d/f")
			}
			a.flush()
			b.refresh() // before it has sent its own
			tell(a, b)
			tell(a, b)
			sameTrees(a, b)
			if last == "write" {
				a.mustRead("d/f", changed)
				return
			}
			a.wantNone("d/f")
			b.wantNone("d/f")
			if kept := a.kept(); !slices.Equal(kept, []string{"b d/f"}) {
				t.Errorf("kept %q, want what b had written", kept)
			}
		})
	}
}

// A directory keeps its name; who made a file of that name keeps it as a conflict.
func TestFileAgainstDirectory(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	a.write("x", pattern(1, 2000))
	a.flush()
	c.refresh() // has the file before it hears of the directory
	b.mkdirAll("x")
	b.write("x/y", pattern(2, 100))
	tell(a, b, c)
	tell(a, b, c)
	sameTrees(a, b, c)
	c.wantNames("x", "x/y")
	if kept := a.kept(); !slices.Equal(kept, []string{"a x"}) {
		t.Errorf("kept %q, want the file once", kept)
	}
}

// A record for a file that is open for writing waits, also over a restart, and is applied
// when its writer has gone.
func TestRecordWaitsForWriter(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("d")
	a.write("d/f", pattern(1, 2000))
	tell(a, b)
	b.warm("d/f")
	h := b.mustOpen("d/f", syscall.O_RDWR)
	second := pattern(2, 2000)
	a.write("d/f", second)
	a.flush()
	b.refresh()
	if got, err := b.read("d/f"); err != nil || string(got) != string(pattern(1, 2000)) {
		t.Errorf("who may be writing sees other bytes: %v", err)
	}
	h.Release()
	b.restart()
	b.refresh()
	b.waitFor("the version that waited", func() bool {
		got, err := b.read("d/f")
		return err == nil && string(got) == string(second)
	})
	sameTrees(a, b)
}

// Files that were written here in part and replaced there: theirs has the name.
func TestPartialWriteAgainstWrite(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("snapshots")
	a.write("snapshots/f", pattern(1, 3<<20))
	tell(a, b)
	b.settle = time.Hour // until it flushes
	b.edit("snapshots/f", 1<<20, []byte("changed here"))
	if s := b.state1("snapshots/f"); s != "dirty" {
		t.Fatalf("it is %s", s)
	}
	theirs := pattern(2, 3<<20)
	a.write("snapshots/f", theirs)
	a.flush()
	b.refresh()
	b.waitFor("their version", func() bool {
		b.flushFor(50 * time.Millisecond)
		got, err := b.read("snapshots/f")
		return err == nil && string(got) == string(theirs)
	})
	tell(a, b)
	sameTrees(a, b)
	if !hasProblem(b, "conflict") {
		t.Error("status does not say that what was written here is kept elsewhere")
	}
}

// A rename is one for the other zone too: nothing is fetched or sent, open files go on.
func TestRenameReachesOtherZone(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("t/old/sub")
	const n = 300
	data := pattern(1, 1200)
	for i := range n {
		a.write("t/old/sub/"+name3(i), data)
	}
	tell(a, b)
	b.waitFor("small files", func() bool {
		return b.pending() == 0 && b.state1("t/old/sub/"+name3(n-1)) == "clean" && b.state1("t/old/sub/"+name3(0)) == "clean"
	})
	h := b.mustOpen("t/old/sub/000", syscall.O_RDONLY)
	defer h.Release()
	before, err := b.lookup("t/old")
	if err != nil {
		t.Fatal(err)
	}
	gets, puts := b.store.Calls("get"), b.store.Calls("put")+b.store.Calls("copy")
	a.rename("t/old", "t/new")
	if _, err := a.c.Flush(context.Background(), nil, nil); err != nil {
		t.Fatal(err)
	}
	b.refresh()
	after, err := b.lookup("t/new")
	if err != nil || after.Ino != before.Ino {
		t.Errorf("the directory has inode %d, it was %d (%v)", after.Ino, before.Ino, err)
	}
	if _, err := b.lookup("t/old"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
	buf := make([]byte, len(data))
	if _, err := h.ReadAt(context.Background(), buf, 0); err != nil || string(buf) != string(data) {
		t.Errorf("who has a file open does not read on: %v", err)
	}
	b.flush()
	// The journal's own objects are fetched; no file is.
	if got := b.store.Calls("get") - gets; got > 5 {
		t.Errorf("%d GET requests for a rename", got)
	}
	if got := b.store.Calls("put") + b.store.Calls("copy") - puts; got > 1 {
		t.Errorf("%d objects were made for another zone's rename", got)
	}
	sameTrees(a, b)
	if s := b.state1("t/new/sub/" + name3(7)); s != "clean" {
		t.Errorf("a file is %s after the rename", s)
	}
	b.restart()
	sameTrees(a, b)
}

func name3(i int) string {
	return string([]byte{byte('0' + i/100), byte('0' + i/10%10), byte('0' + i%10)})
}

// A file that two zones rename has both names then.
func TestTwoZonesRenameOneName(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b, c := zs[0], zs[1], zs[2]
	data := pattern(1, 2000)
	a.mkdirAll("d")
	a.write("d/x", data)
	tell(a, b, c)
	b.evict("d/x") // its bytes are the other name's when it comes to copy them
	a.rename("d/x", "d/y")
	b.ahead.Store(int64(10 * time.Second)) // ten seconds later
	b.rename("d/x", "d/z")
	tell(a, b, c)
	tell(a, b, c)
	sameTrees(a, b, c)
	c.wantNames("d", "d/y", "d/z")
	c.mustRead("d/y", data)
	c.mustRead("d/z", data)
}

// A file written in one zone and renamed in another one goes along with its new bytes.
func TestRenameAgainstWrite(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("d")
	a.write("d/x", pattern(1, 2000))
	tell(a, b)
	changed := pattern(2, 2000)
	b.write("d/x", changed)
	time.Sleep(time.Millisecond) // both have one clock, and the rename is to be the later one
	a.rename("d/x", "d/y")
	tell(a, b)
	tell(a, b)
	sameTrees(a, b)
	a.wantNames("d", "d/y")
	a.mustRead("d/y", changed)
}
