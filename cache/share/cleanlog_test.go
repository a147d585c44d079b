package share_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"depotfs/cache/catalog"
	"depotfs/cache/share"
)

func cleanRecord(path string, n int64) share.CleanRecord {
	return share.CleanRecord{
		Path: path, Key: "p/" + path, ETag: fmt.Sprint("etag-", n),
		Stamp:   catalog.Stamp{Ino: uint64(n), Size: n, Mtime: -n, Ctime: 1 << 60},
		Version: catalog.Version{Gen: 1, Size: n, CRC64: 1<<63 + uint64(n), HasCRC: n%2 == 1},
	}
}

func openClean(t testing.TB, s *share.Share) *share.CleanLog {
	t.Helper()
	l, err := share.OpenCleanLog(s)
	must(t, err)
	return l
}

// load is what a new catalog would learn.
func load(t testing.TB, l *share.CleanLog) map[string]share.CleanRecord {
	t.Helper()
	got := make(map[string]share.CleanRecord)
	must(t, l.Load(func(r share.CleanRecord) { got[r.Path] = r }))
	for path, r := range got { // CRC64 without HasCRC is not kept
		if !r.Version.HasCRC && r.Version.CRC64 != 0 {
			t.Errorf("%q: a checksum that nobody had", path)
		}
	}
	return got
}

func expect(recs ...share.CleanRecord) map[string]share.CleanRecord {
	m := make(map[string]share.CleanRecord)
	for _, r := range recs {
		if !r.Version.HasCRC {
			r.Version.CRC64 = 0
		}
		m[r.Path] = r
	}
	return m
}

func TestCleanLog(t *testing.T) {
	s, _ := open(t)
	l := openClean(t, s)
	if got := load(t, l); len(got) != 0 || l.Grown() {
		t.Errorf("a new log has %v", got)
	}
	a, b, c := cleanRecord("a", 1), cleanRecord("b\xff\n", 2), cleanRecord("c", 3)
	must(t, l.Append(a))
	must(t, l.Append(b))
	must(t, l.Close())

	l = openClean(t, s)
	newer := cleanRecord("a", 11)
	must(t, l.Append(c))
	must(t, l.Append(newer))
	if got, want := load(t, l), expect(newer, b, c); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	must(t, l.Rewrite(slices.Values([]share.CleanRecord{newer, b})))
	d := cleanRecord("d", 4)
	must(t, l.Append(d))
	must(t, l.Close())

	l = openClean(t, s)
	if got, want := load(t, l), expect(newer, b, d); !maps.Equal(got, want) {
		t.Errorf("after Rewrite: got %v, want %v", got, want)
	}
	must(t, l.Close())
}

// Every segment cut at every byte: some records are missing, none is wrong.
func TestCleanLogTorn(t *testing.T) {
	s, dir := open(t)
	l := openClean(t, s)
	must(t, l.Append(cleanRecord("a", 1)))
	must(t, l.Append(cleanRecord("b", 2)))
	must(t, l.Close())
	l = openClean(t, s)
	must(t, l.Append(cleanRecord("c", 3)))
	must(t, l.Close())
	all := expect(cleanRecord("a", 1), cleanRecord("b", 2), cleanRecord("c", 3))
	segments := names(t, s, share.CleanDir)
	if len(segments) != 2 {
		t.Fatalf("segments %q", segments)
	}
	path := filepath.Join(dir, share.CleanDir, segments[0])
	whole, err := os.ReadFile(path)
	must(t, err)
	for n := range whole {
		for _, tail := range []int{0, 4096} {
			must(t, os.WriteFile(path, append(slices.Clone(whole[:n]), make([]byte, tail)...), 0o600))
			l := openClean(t, s)
			got := load(t, l)
			for path, r := range got {
				if r != all[path] {
					t.Fatalf("cut at %d: misread %+v", n, r)
				}
			}
			if _, ok := got["c"]; !ok {
				t.Fatalf("cut at %d: the damage reached the next segment", n)
			}
			// What comes later is never behind the torn end.
			must(t, l.Append(cleanRecord("later", 9)))
			must(t, l.Close())
			l = openClean(t, s)
			if _, ok := load(t, l)["later"]; !ok {
				t.Fatalf("cut at %d: a later record is lost", n)
			}
			must(t, l.Close())
			for _, name := range names(t, s, share.CleanDir)[2:] {
				must(t, s.Unlink(share.CleanDir+"/"+name))
			}
		}
	}
}

func TestCleanLogGrowsAndShrinks(t *testing.T) {
	s, _ := open(t)
	l := openClean(t, s)
	n := 0
	for !l.Grown() {
		must(t, l.Append(cleanRecord(fmt.Sprint("file-", n%100), int64(n))))
		n++
	}
	recs := load(t, l)
	if len(recs) != 100 {
		t.Fatalf("%d paths", len(recs))
	}
	must(t, l.Rewrite(maps.Values(recs)))
	if l.Grown() {
		t.Error("still grown after Rewrite")
	}
	if got := names(t, s, share.CleanDir); len(got) != 1 {
		t.Errorf("segments %q", got)
	}
	if got := load(t, l); !maps.Equal(got, recs) {
		t.Errorf("Rewrite changed what the log says")
	}
	must(t, l.Close())
}

// A crash at any step of Rewrite leaves every record.
func TestCleanLogRewriteCrash(t *testing.T) {
	for _, step := range []string{"open", "write", "fsync", "rename", "syncdir", "unlink"} {
		t.Run(step, func(t *testing.T) {
			on := false
			s, _ := openWith(t, share.Options{Fault: func(op, _, _ string) error {
				if on && op == step {
					return unix.EIO
				}
				return nil
			}})
			l := openClean(t, s)
			a, b := cleanRecord("a", 1), cleanRecord("b", 3)
			must(t, l.Append(a))
			must(t, l.Append(b))
			must(t, l.Flush())
			on = true
			if err := l.Rewrite(slices.Values([]share.CleanRecord{a, b})); !errors.Is(err, unix.EIO) {
				t.Errorf("got %v", err)
			}
			on = false
			c := cleanRecord("c", 5)
			must(t, l.Append(c))
			must(t, l.Close())
			l = openClean(t, s)
			if got, want := load(t, l), expect(a, b, c); !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			must(t, l.Rewrite(slices.Values([]share.CleanRecord{a})))
			if got, want := load(t, l), expect(a); !maps.Equal(got, want) {
				t.Errorf("the next Rewrite: got %v", got)
			}
			must(t, l.Close())
			if got := names(t, s, share.CleanDir); len(got) != 1 {
				t.Errorf("left over: %q", got)
			}
		})
	}
}

func TestCleanLogKeepsWhatCannotBeWritten(t *testing.T) {
	full := true
	s, _ := openWith(t, share.Options{Fault: func(op, _, _ string) error {
		if full && op == "write" {
			return unix.ENOSPC
		}
		return nil
	}})
	l := openClean(t, s)
	must(t, l.Append(cleanRecord("a", 1)))
	for range 3 {
		if err := l.Flush(); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("flush: %v", err)
		}
	}
	full = false
	must(t, l.Flush())
	if got, want := load(t, l), expect(cleanRecord("a", 1)); !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	must(t, l.Close())
}

func TestCleanLogConcurrently(t *testing.T) {
	s, _ := open(t)
	l := openClean(t, s)
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 300 {
				if err := l.Append(cleanRecord(fmt.Sprintf("%d-%d", w, i), 1)); err != nil {
					t.Error(err)
				}
				if i%100 == 50 {
					if err := l.Flush(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			if err := l.Rewrite(slices.Values([]share.CleanRecord{cleanRecord("kept", 1)})); err != nil {
				t.Error(err)
			}
			if err := l.Load(func(share.CleanRecord) {}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	must(t, l.Append(cleanRecord("last", 1)))
	must(t, l.Close())
	got := load(t, openClean(t, s))
	if _, ok := got["kept"]; !ok {
		t.Error("Rewrite's record is lost")
	}
	if _, ok := got["last"]; !ok {
		t.Error("a record after Rewrite is lost")
	}
}

func TestCleanLogOfANewerVersion(t *testing.T) {
	s, dir := open(t)
	must(t, s.MakePrivate())
	name := filepath.Join(dir, share.CleanDir, "00000000000000000001.log")
	must(t, os.WriteFile(name, []byte("depotfs clean 2\nsomething"), 0o600))
	if _, err := share.OpenCleanLog(s); !errors.Is(err, share.ErrNewer) {
		t.Errorf("got %v", err)
	}
	must(t, os.WriteFile(name, []byte("nonsense of any kind"), 0o600))
	if got := load(t, openClean(t, s)); len(got) != 0 {
		t.Errorf("read from nonsense: %v", got)
	}
}

func FuzzCleanRecord(f *testing.F) {
	f.Add(share.EncodeCleanForTest(cleanRecord("a", 1)))
	f.Add(share.EncodeCleanForTest(cleanRecord("b", 2)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := share.DecodeCleanForTest(b)
		if !ok {
			return
		}
		again, ok := share.DecodeCleanForTest(share.EncodeCleanForTest(r))
		if !ok || again != r {
			t.Fatalf("%+v becomes %+v", r, again)
		}
	})
}
