package cache_test

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/journal"
)

// What one zone writes, the other shows with size and attributes, and reads.
func TestFileReachesOtherZone(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	a.mkdirAll("snapshots/2/5")
	data := pattern(1, 3<<20)
	ino := a.write("snapshots/2/5/s", data)
	if _, err := a.c.SetAttr(context.Background(), ino, nil, cache.SetAttr{Valid: cache.SetMode | cache.SetMtime, Mode: 0o604, Mtime: 1_600_000_000_123_456_789}); err != nil {
		t.Fatal(err)
	}
	a.flush()
	gets, heads := b.store.Calls("get"), b.store.Calls("head")
	b.refresh()
	at, err := b.lookup("snapshots/2/5/s")
	if err != nil {
		t.Fatal(err)
	}
	if at.Size != int64(len(data)) || at.Mode != syscall.S_IFREG|0o604 || at.Mtime != 1_600_000_000_123_456_789 {
		t.Errorf("attributes %+v", at)
	}
	if n := b.store.Calls("head") - heads; n > 0 {
		t.Errorf("%d HEAD requests to learn what the record says", n)
	}
	if s := b.state1("snapshots/2/5/s"); s != "remote" {
		t.Errorf("a snapshot is %s before anybody reads it", s)
	}
	_ = gets
	b.mustRead("snapshots/2/5/s", data)
	sameTrees(a, b)
}

// A directory that a zone tells of by what is in it has no attributes: those that are here stay.
func TestDirectoryWithoutAttributes(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("d")
	e.chmod("d", 0o750)
	e.flush()
	before, err := e.lookup("d")
	if err != nil {
		t.Fatal(err)
	}
	r := journal.Record{Op: journal.Mkdir, Path: "d", Time: time.Now().Add(time.Hour).UnixNano(), Zone: "other"}
	if err := cache.ApplyRecord(context.Background(), e.c, r); err != nil {
		t.Fatal(err)
	}
	if at, err := e.lookup("d"); err != nil || at.Mode != before.Mode || at.UID != before.UID || at.Mtime != before.Mtime {
		t.Errorf("it was %+v and is %+v (%v)", before, at, err)
	}
}

// A version replaces the older one under its name; who has that one open reads on.
func TestVersionReplacesOlder(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"clean", "remote", "partial"} {
		t.Run(state, func(t *testing.T) {
			zs := newZones(t, 2)
			a, b := zs[0], zs[1]
			first, second := pattern(1, 3<<20), pattern(2, 2<<20)
			a.mkdirAll("snapshots")
			a.write("snapshots/f", first)
			tell(a, b)
			switch state {
			case "clean":
				b.warm("snapshots/f")
			case "partial":
				h := b.mustOpen("snapshots/f", syscall.O_RDONLY)
				buf := make([]byte, 10)
				if _, err := h.ReadAt(context.Background(), buf, 0); err != nil {
					t.Fatal(err)
				}
				h.Release()
			}
			before, err := b.lookup("snapshots/f")
			if err != nil {
				t.Fatal(err)
			}
			h := b.mustOpen("snapshots/f", syscall.O_RDONLY)
			defer h.Release()
			a.write("snapshots/f", second)
			if err := a.truncate("snapshots/f", int64(len(second))); err != nil {
				t.Fatal(err)
			}
			tell(a, b)
			after, err := b.lookup("snapshots/f")
			if err != nil || after.Ino == before.Ino {
				t.Fatalf("the new version has the inode of the old one (%v)", err)
			}
			b.mustRead("snapshots/f", second)
			if state == "clean" {
				buf := make([]byte, len(first))
				if _, err := h.ReadAt(context.Background(), buf, 0); err != nil || string(buf) != string(first) {
					t.Errorf("who had the old version open does not read it any more: %v", err)
				}
			}
			b.flush()
			a.wantObject("p/snapshots/f", second)
			sameTrees(a, b)
		})
	}
}

func (e *env) truncate(path string, size int64) error {
	a, err := e.lookup(path)
	if err != nil {
		return err
	}
	_, err = e.c.SetAttr(context.Background(), a.Ino, nil, setSize(size))
	return err
}

// A delete takes the file from every zone, whatever it has of it, and from its share.
func TestDeleteReachesOtherZone(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"clean", "pinned", "remote", "partial", "open"} {
		t.Run(state, func(t *testing.T) {
			zs := newZones(t, 2)
			a, b := zs[0], zs[1]
			data := pattern(1, 3<<20)
			a.mkdirAll("snapshots/2")
			a.write("snapshots/2/f", data)
			tell(a, b)
			var h *cache.Handle
			switch state {
			case "clean", "pinned", "open":
				b.warm("snapshots/2/f")
			case "partial":
				h := b.mustOpen("snapshots/2/f", syscall.O_RDONLY)
				if _, err := h.ReadAt(context.Background(), make([]byte, 10), 0); err != nil {
					t.Fatal(err)
				}
				h.Release()
			}
			if state == "pinned" {
				if bad, err := b.c.Pin(context.Background(), []string{"snapshots/2/f"}, true); err != nil || len(bad) > 0 {
					t.Fatal(bad, err)
				}
			}
			if state == "open" {
				h = b.mustOpen("snapshots/2/f", syscall.O_RDONLY)
			}
			a.unlink("snapshots/2/f")
			a.rmdir("snapshots/2")
			tell(a, b)
			b.wantNone("snapshots/2/f")
			b.wantNone("snapshots/2")
			if h != nil {
				buf := make([]byte, len(data))
				if _, err := h.ReadAt(context.Background(), buf, 0); err != nil || string(buf) != string(data) {
					t.Errorf("who had it open does not read on: %v", err)
				}
				h.Release()
			}
			for _, dir := range []string{"open", "evict", "partial"} {
				left, err := os.ReadDir(filepath.Join(b.share, ".depotfs", dir))
				if err != nil || len(left) > 0 {
					t.Errorf(".depotfs/%s has %v (%v)", dir, left, err)
				}
			}
			b.restart()
			b.refresh()
			b.wantNone("snapshots/2")
			sameTrees(a, b)
		})
	}
}

// A directory in another zone goes when it is empty, and no other one with it.
func TestRmdirOfOtherZone(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	for _, d := range []string{"t/2/20", "t/2/201"} {
		a.mkdirAll(d)
		a.write(d+"/f", pattern(1, 100))
	}
	tell(a, b)
	b.c.Warm(context.Background(), nil, nil)
	b.write("t/2/20/own", pattern(2, 50)) // a does not know
	a.unlink("t/2/20/f")
	a.rmdir("t/2/20")
	a.flush()
	b.refresh()
	b.wantNames("t", "t/2", "t/2/20", "t/2/20/own", "t/2/201", "t/2/201/f")
	tell(a, b)
	sameTrees(a, b)
	a.wantNames("t", "t/2", "t/2/20", "t/2/20/own", "t/2/201", "t/2/201/f")
	b.unlink("t/2/20/own")
	tell(a, b)
	sameTrees(a, b)
	a.wantNames("t", "t/2", "t/2/20", "t/2/201", "t/2/201/f") // who emptied it still has it
	b.rmdir("t/2/20")
	tell(a, b)
	sameTrees(a, b)
	a.wantNames("t", "t/2", "t/2/201", "t/2/201/f")
}

// Symlinks, directories' and files' attributes travel, and a clean file stays clean.
func TestNamesAndAttributesTravel(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 2)
	a, b := zs[0], zs[1]
	ctx := context.Background()
	a.mkdirAll("d/e")
	a.write("d/f", pattern(1, 1000))
	p, err := a.lookup("d")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.c.Symlink(ctx, me, p.Ino, "l", "e/../f"); err != nil {
		t.Fatal(err)
	}
	tell(a, b)
	b.warm("d/f")
	sameTrees(a, b)
	for _, path := range []string{"d/f", "d/e"} {
		at, err := a.lookup(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.c.SetAttr(ctx, at.Ino, nil, cache.SetAttr{Valid: cache.SetMode, Mode: 0o700}); err != nil {
			t.Fatal(err)
		}
	}
	puts := b.store.Calls("put") + b.store.Calls("copy")
	tell(a, b)
	for _, path := range []string{"d/f", "d/e"} {
		at, err := b.lookup(path)
		if err != nil || at.Mode&0o7777 != 0o700 {
			t.Errorf("%s has mode %o, %v", path, at.Mode, err)
		}
	}
	if st, err := os.Stat(filepath.Join(b.share, "d/f")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the share's file: %v, %v", st, err)
	}
	b.scan()
	if s := b.state1("d/f"); s != "clean" {
		t.Errorf("it is %s", s)
	}
	sameTrees(a, b)
	_ = puts
	if err := unlinkErr(a, "d/l"); err != nil {
		t.Fatal(err)
	}
	tell(a, b)
	b.wantNone("d/l")
	sameTrees(a, b)
}

func unlinkErr(e *env, path string) error {
	p, n := e.parent(path)
	return e.c.Unlink(context.Background(), p, n)
}

// Records that nobody of us can have written change nothing and are reported.
func TestBadRecordsAreRefused(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 1)
	e := zs[0]
	e.write("own", pattern(1, 100))
	e.flush()
	good := e.putRecord("b", "x", 5_000, pattern(2, 100))
	for name, change := range map[string]func(*journal.Record){
		"escapes":                func(r *journal.Record) { r.Path = "../x" },
		"absolute":               func(r *journal.Record) { r.Path = "/x" },
		"depotfs's own":          func(r *journal.Record) { r.Path = ".depotfs/x" },
		"empty name":             func(r *journal.Record) { r.Path = "a//b" },
		"zero byte":              func(r *journal.Record) { r.Path = "a\x00b" },
		"key outside":            func(r *journal.Record) { r.Key = "q/x" },
		"key of a directory":     func(r *journal.Record) { r.Key = "p/x/" },
		"private key":            func(r *journal.Record) { r.Key = "p/.depotfs/depot.json" },
		"no key":                 func(r *journal.Record) { r.Key = "" },
		"no zone":                func(r *journal.Record) { r.Zone = "" },
		"no time":                func(r *journal.Record) { r.Time = 0 },
		"negative size":          func(r *journal.Record) { r.Size = -1 },
		"unknown":                func(r *journal.Record) { r.Op = "format" },
		"rename into itself":     func(r *journal.Record) { r.Op, r.From, r.Path = journal.Rename, "own", "own/x" },
		"rename from nothing":    func(r *journal.Record) { r.Op = journal.Rename },
		"rename of .depotfs":     func(r *journal.Record) { r.Op, r.From = journal.Rename, ".depotfs" },
		"symlink without target": func(r *journal.Record) { r.Op, r.Key = journal.Symlink, "" },
	} {
		r := good
		change(&r)
		e.apply(r)
		e.wantNames("own")
		if t.Failed() {
			t.Fatalf("%s was applied", name)
		}
	}
	if !hasProblem(e, "import") {
		t.Error("status does not say that records were refused")
	}
	// An object of ours that is only in the depot cannot be claimed by another name.
	e.evict("own")
	r := good
	r.Key = "p/own"
	e.apply(r)
	e.mustRead("own", pattern(1, 100))
	e.apply(good)
	e.mustRead("x", pattern(2, 100))
}

func hasProblem(e *env, kind string) bool {
	e.t.Helper()
	st, err := e.c.Status(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	for _, p := range st.Problems {
		if p.Kind == kind {
			return true
		}
	}
	return false
}

// A put that was made before the name was deleted here does not bring it back, and its
// object goes.
func TestPutBeforeOurDelete(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 1)
	e := zs[0]
	e.mkdirAll("d")
	e.write("d/f", pattern(1, 100))
	e.flush()
	before := e.now()
	e.unlink("d/f")
	e.flush()
	e.apply(e.putRecord("b", "d/f", before, pattern(2, 300)))
	if _, err := e.lookup("d/f"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("an older version came back: %v", err)
	}
	e.flush()
	if _, there := e.object("p/d/f"); there {
		t.Error("its object is still there")
	}
	e.apply(e.putRecord("b", "d/f", e.now(), pattern(3, 300)))
	e.mustRead("d/f", pattern(3, 300))
}
