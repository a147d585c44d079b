package share_test

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
	"depotfs/cache/share"
)

type ranges = []catalog.Range

// rs makes ranges of pairs of offset and end.
func rs(pairs ...int64) []catalog.Range {
	var out []catalog.Range
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, catalog.Range{Off: pairs[i], End: pairs[i+1]})
	}
	return out
}

const ino = 4711

func header(base, size int64) share.Header {
	return share.Header{
		Path: "snapshots/2/5/\xff\n", Key: "p/k", ETag: "e-1",
		Base: catalog.Version{Gen: 3, Size: base, CRC64: 1<<64 - 1, HasCRC: true},
		Size: size, BootID: "boot",
	}
}

func openPartial(t testing.TB) (*share.Share, string) {
	t.Helper()
	s, dir := open(t)
	must(t, s.MakePrivate())
	put(t, s, share.PartialPath(ino), "")
	return s, filepath.Join(dir, share.SidecarPath(ino))
}

func appendAll(t testing.TB, sc *share.Sidecar, recs ...share.Record) {
	t.Helper()
	for _, r := range recs {
		must(t, sc.Append(r))
	}
}

// says is what a log means now.
type says struct {
	written     ranges
	limit, size int64
}

func replayed(t testing.TB, s *share.Share, sameBoot bool) says {
	t.Helper()
	h, recs, err := share.ReadSidecar(s, ino)
	must(t, err)
	w, l, z := share.Replay(h, recs, sameBoot)
	return says{w, l, z}
}

func check(t testing.TB, what string, got, want says) {
	t.Helper()
	if !slices.Equal(got.written, want.written) || got.limit != want.limit || got.size != want.size {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func TestSidecarRemembers(t *testing.T) {
	s, _ := openPartial(t)
	h := header(1000, 1000)
	sc, err := share.CreateSidecar(s, ino, h)
	must(t, err)
	appendAll(t, sc, share.WriteRecord(10, 20), share.WriteRecord(100, 200))
	must(t, sc.Sync())
	appendAll(t, sc, share.WriteRecord(300, 400))
	must(t, sc.Close())

	got, _, err := share.ReadSidecar(s, ino)
	must(t, err)
	if !reflect.DeepEqual(got, h) {
		t.Errorf("header: got %+v, want %+v", got, h)
	}
	check(t, "after a kill", replayed(t, s, true), says{rs(10, 20, 100, 200, 300, 400), 1000, 1000})
	check(t, "after a power cut", replayed(t, s, false), says{rs(10, 20, 100, 200), 1000, 1000})

	if _, err := share.CreateSidecar(s, ino, h); !errors.Is(err, iofs.ErrExist) {
		t.Errorf("a log was begun over another: %v", err)
	}
	check(t, "after that", replayed(t, s, false), says{rs(10, 20, 100, 200), 1000, 1000})
	must(t, share.RemoveSidecar(s, ino))
	must(t, share.RemoveSidecar(s, ino))
	if _, _, err := share.ReadSidecar(s, ino); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("after removal: %v", err)
	}
}

func TestReplay(t *testing.T) {
	w, cut := share.WriteRecord, share.TruncateRecord
	mark := share.Record{Kind: share.KindMark}
	at := func(covers int) share.Record { m := mark; m.End = int64(covers); return m }
	for _, tt := range []struct {
		name       string
		base, size int64
		recs       []share.Record
		kill, cut  says // after a kill, after a power cut
	}{
		{"nothing", 100, 100, nil, says{nil, 100, 100}, says{nil, 100, 100}},
		{"the base is longer than the file", 100, 60, nil, says{nil, 60, 60}, says{nil, 60, 60}},
		{"a write that grows", 100, 100, []share.Record{w(90, 150), at(1)},
			says{rs(90, 150), 100, 150}, says{rs(90, 150), 100, 150}},
		{"a gap becomes zeros", 100, 100, []share.Record{w(200, 210), at(1)},
			says{rs(100, 210), 100, 210}, says{rs(100, 210), 100, 210}},
		{"cut and grown", 100, 100, []share.Record{w(0, 50), cut(30), cut(80), at(3)},
			says{rs(0, 80), 30, 80}, says{rs(0, 80), 30, 80}},
		{"cut twice", 100, 100, []share.Record{cut(30), cut(90), cut(60), at(3)},
			says{rs(30, 60), 30, 60}, says{rs(30, 60), 30, 60}},
		{"grown without a mark", 100, 100, []share.Record{cut(200)},
			says{rs(100, 200), 100, 200}, says{nil, 100, 100}},
		{"cut without a mark: the disk may have it", 100, 100, []share.Record{w(0, 50), at(1), cut(30), w(30, 90)},
			says{rs(0, 90), 30, 90}, says{rs(0, 30), 30, 30}},
		{"a cut of what a mark does not cover", 10, 10, []share.Record{w(0, 5), at(1), w(10, 100), cut(50)},
			says{rs(0, 5, 10, 50), 10, 50}, says{rs(0, 5), 10, 10}},
		{"a mark covers what came before its data's sync", 100, 100, []share.Record{w(0, 10), w(20, 30), at(1)},
			says{rs(0, 10, 20, 30), 100, 100}, says{rs(0, 10), 100, 100}},
		{"a mark that claims too much", 100, 100, []share.Record{w(0, 10), at(99), w(20, 30)},
			says{rs(0, 10, 20, 30), 100, 100}, says{rs(0, 10), 100, 100}},
		{"a limit", 100, 100, []share.Record{share.LimitRecord(40), at(1)}, says{nil, 40, 100}, says{nil, 40, 100}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for sameBoot, want := range map[bool]says{true: tt.kill, false: tt.cut} {
				written, limit, size := share.Replay(header(tt.base, tt.size), tt.recs, sameBoot)
				check(t, fmt.Sprintf("same boot %v", sameBoot), says{written, limit, size}, want)
			}
		})
	}
}

// TestSidecarTornAnywhere cuts the log at every byte, and flips every byte: what
// is read is always a prefix of what was written, never something else.
func TestSidecarTornAnywhere(t *testing.T) {
	s, path := openPartial(t)
	sc, err := share.CreateSidecar(s, ino, header(1000, 1000))
	must(t, err)
	appendAll(t, sc, share.WriteRecord(0, 10), share.WriteRecord(50, 60))
	must(t, sc.Sync())
	appendAll(t, sc, share.TruncateRecord(55), share.WriteRecord(100, 120), share.TruncateRecord(500))
	must(t, sc.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	h, all, err := share.ReadSidecar(s, ino)
	must(t, err)
	if len(all) != 6 {
		t.Fatalf("%d records", len(all))
	}
	try := func(what string, content []byte, complete bool) int {
		t.Helper()
		must(t, os.WriteFile(path, content, 0o600))
		gotH, recs, err := share.ReadSidecar(s, ino)
		if err != nil {
			if !errors.Is(err, share.ErrDamaged) && !errors.Is(err, share.ErrNewer) {
				t.Fatalf("%s: untyped error %v", what, err)
			}
			return -1
		}
		if !reflect.DeepEqual(gotH, h) || len(recs) > len(all) || !slices.Equal(recs, all[:len(recs)]) || !complete && len(recs) == len(all) {
			t.Fatalf("%s: misread as %+v %v", what, gotH, recs)
		}
		return len(recs)
	}
	last := -1
	for n := range whole {
		got := try(fmt.Sprintf("cut at %d", n), whole[:n], false)
		if got < last {
			t.Fatalf("cut at %d: %d records, %d before", n, got, last)
		}
		last = got
		// Zeros in place of the rest: as far as the rest was zeros, it is right.
		same := n
		for same < len(whole) && whole[same] == 0 {
			same++
		}
		want := try(fmt.Sprintf("cut at %d", same), whole[:same], same == len(whole))
		zeros := append(slices.Clone(whole[:n]), make([]byte, 8192)...)
		if got := try(fmt.Sprintf("zeros from %d", n), zeros, same == len(whole)); got != want {
			t.Fatalf("zeros from %d: %d records, want %d", n, got, want)
		}
		for _, bit := range []byte{1, 0x80} {
			flipped := slices.Clone(whole)
			flipped[n] ^= bit
			try(fmt.Sprintf("bit flipped at %d", n), flipped, false)
		}
	}
	if n := try("whole", whole, true); n != len(all) {
		t.Errorf("%d of %d records", n, len(all))
	}
	try("garbage behind", append(slices.Clone(whole), "garbage garbage garbage"...), true)
}

// A sequential writer makes few records, and none is lost by making them longer.
func TestSequentialWritesStayFew(t *testing.T) {
	s, _ := openPartial(t)
	sc, err := share.CreateSidecar(s, ino, header(0, 0))
	must(t, err)
	const step, steps = 128 << 10, 20_000
	for i := range int64(steps) {
		must(t, sc.Append(share.WriteRecord(i*step, (i+1)*step)))
		if i%1000 == 999 {
			must(t, sc.Sync())
		}
		if i == 1500 {
			check(t, "in the middle", replayed(t, s, true), says{rs(0, 1501*step), 0, 1501 * step})
			check(t, "in the middle, power cut", replayed(t, s, false), says{rs(0, 1000*step), 0, 1000 * step})
		}
	}
	if sc.Len() > 8<<10 {
		t.Errorf("the log has %d bytes after %d writes", sc.Len(), steps)
	}
	before := sc.Len()
	for i := range int64(100) {
		must(t, sc.Append(share.WriteRecord(i*step, (i+1)*step))) // all known
	}
	if sc.Len() != before {
		t.Errorf("known writes made the log longer")
	}
	must(t, sc.Close())
	check(t, "at the end", replayed(t, s, false), says{rs(0, steps*step), 0, steps * step})
}

func TestCompact(t *testing.T) {
	s, _ := openPartial(t)
	sc, err := share.CreateSidecar(s, ino, header(1000, 1000))
	must(t, err)
	for i := range int64(400) {
		appendAll(t, sc, share.WriteRecord(i*2, i*2+1))
	}
	appendAll(t, sc, share.TruncateRecord(500), share.TruncateRecord(900))
	must(t, sc.Sync())
	want := replayed(t, s, false)
	before := sc.Len()
	must(t, sc.Compact(want.written, want.limit, want.size))
	check(t, "compacted", replayed(t, s, false), want)
	must(t, sc.Compact(rs(0, 900), 500, 900))
	check(t, "all written", replayed(t, s, false), says{rs(0, 900), 500, 900})
	if sc.Len() > before/10 {
		t.Errorf("from %d to %d bytes", before, sc.Len())
	}
	appendAll(t, sc, share.WriteRecord(2000, 2001))
	check(t, "goes on", replayed(t, s, true), says{rs(0, 2001), 500, 2001})
	check(t, "goes on, power cut", replayed(t, s, false), says{rs(0, 900), 500, 900})
	must(t, sc.Sync())
	check(t, "and syncs", replayed(t, s, false), says{rs(0, 2001), 500, 2001})
	must(t, sc.Remove())
	if got := names(t, s, share.PartialDir); !slices.Equal(got, []string{fmt.Sprint(ino)}) {
		t.Errorf("left over: %q", got)
	}
}

// TestSidecarAgainstAModel writes and cuts at random, syncs and compacts now and
// then, and compares what the log means with what was done.
func TestSidecarAgainstAModel(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		s, _ := openPartial(t)
		const base = 200
		sc, err := share.CreateSidecar(s, ino, header(base, base))
		must(t, err)
		var written extent.Set
		limit, size := int64(base), int64(base)
		for range 300 {
			switch rnd.IntN(12) {
			case 0:
				z := int64(rnd.IntN(400))
				must(t, sc.Append(share.TruncateRecord(z)))
				if z < size {
					written.Truncate(z)
					limit = min(limit, z)
				} else {
					written.Add(size, z)
				}
				size = z
			case 1:
				must(t, sc.Sync())
				check(t, "power cut now", replayed(t, s, false), says{written.Ranges(), limit, size})
			case 2:
				if rnd.IntN(5) == 0 {
					must(t, sc.Compact(written.Ranges(), limit, size))
				}
			default:
				off := int64(rnd.IntN(380))
				end := off + 1 + int64(rnd.IntN(20))
				must(t, sc.Append(share.WriteRecord(off, end)))
				written.Add(min(off, size), end)
				size = max(size, end)
			}
			check(t, "killed now", replayed(t, s, true), says{written.Ranges(), limit, size})
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		must(t, sc.Close())
	}
}

func TestSidecarConcurrently(t *testing.T) {
	s, _ := openPartial(t)
	sc, err := share.CreateSidecar(s, ino, header(0, 0))
	must(t, err)
	var wg sync.WaitGroup
	for w := range int64(4) {
		wg.Go(func() {
			for i := range int64(500) {
				off := (w*500 + i) * 10
				if err := sc.Append(share.WriteRecord(off, off+10)); err != nil {
					t.Error(err)
				}
				if i%100 == 0 {
					if err := sc.SyncAfter(func() error { return nil }); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	must(t, sc.Sync())
	check(t, "at the end", replayed(t, s, false), says{rs(0, 20000), 0, 20000})
}

func TestSidecarOfAnotherVersion(t *testing.T) {
	s, path := openPartial(t)
	sc, err := share.CreateSidecar(s, ino, header(1, 1))
	must(t, err)
	must(t, sc.Close())
	for content, want := range map[string]error{"": share.ErrDamaged, "something else altogether": share.ErrDamaged} {
		must(t, os.WriteFile(path, []byte(content), 0o600))
		if _, _, err := share.ReadSidecar(s, ino); !errors.Is(err, want) {
			t.Errorf("%q: %v", content, err)
		}
	}
	must(t, os.WriteFile(path, share.FrameForTest("depotfs sidecar\n", `{"format":2,"size":{}}`), 0o600))
	if _, _, err := share.ReadSidecar(s, ino); !errors.Is(err, share.ErrNewer) {
		t.Errorf("format 2: %v", err)
	}
	if _, err := share.AppendSidecar(s, ino); !errors.Is(err, share.ErrNewer) {
		t.Errorf("format 2 to go on with: %v", err)
	}
}

func FuzzReadSidecar(f *testing.F) {
	f.Add([]byte("depotfs sidecar\n"))
	f.Add(share.FrameForTest("depotfs sidecar\n", `{"format":1}`, "W0123456701234567", "garbage"))
	f.Fuzz(func(t *testing.T, content []byte) {
		h, recs, err := share.ReadSidecarForTest(content)
		if err != nil {
			return
		}
		for _, same := range []bool{true, false} {
			written, limit, size := share.Replay(h, recs, same)
			if limit < 0 || limit > h.Base.Size || size < 0 {
				t.Fatalf("limit %d, size %d", limit, size)
			}
			for _, r := range written {
				if r.Off < 0 || r.Off >= r.End || r.End > size {
					t.Fatalf("range %v of a file of %d", r, size)
				}
			}
		}
	})
}
