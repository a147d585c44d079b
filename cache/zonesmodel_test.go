package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// zoneHistory is one run of random operations in several zones of one depot. Time is its
// own, and every zone's clock is wrong by minutes.
type zoneHistory struct {
	t     *testing.T
	mem   *storetest.Mem
	all   []*env
	down  []bool
	r     *rand.Rand
	o     zoneOracle
	trace []string
	texts []string // what the zones wrote in a clash

	renames []string // the kinds of renames that there are: see renameOf
	start   time.Time
}

// bubbleTime is how far the clock of a bubble is behind the kernel's, which dates files.
func bubbleTime(outside time.Time) time.Duration { return time.Until(outside) }

// newZoneHistory makes n zones; outside is the time before the bubble. Their clocks are wrong
// by what is said, else by minutes.
func newZoneHistory(t *testing.T, n int, seed uint64, outside time.Time, wrong ...time.Duration) *zoneHistory {
	h := &zoneHistory{t: t, mem: storetest.NewMem(), r: rand.New(rand.NewPCG(seed, uint64(n))), o: zoneOracle{}, down: make([]bool, n), start: time.Now()}
	behind := bubbleTime(outside)
	h.mem.SetClock(func() time.Time { return time.Now().Add(behind) })
	for i := range n {
		e := &env{t: t, zone: string(rune('a' + i)), share: t.TempDir(), state: t.TempDir(), mem: h.mem,
			settle: 50 * time.Millisecond, limits: cache.Limits{ColdTimeout: 2 * time.Second, PartSize: modelGrain, SmallestPart: modelGrain}}
		off := time.Duration(h.r.Int64N(int64(20*time.Minute))) - 10*time.Minute
		if i < len(wrong) {
			off = wrong[i]
		}
		e.ahead.Store(int64(behind + off))
		e.store = storetest.NewFaulty(&farStore{Store: h.mem, longest: 60 * time.Millisecond, random: rand.New(rand.NewPCG(seed, uint64(1000+i)))})
		e.open()
		h.all = append(h.all, e)
	}
	h.mem.MinPart = modelGrain
	return h
}

func (h *zoneHistory) end() {
	for _, e := range h.all {
		e.close()
	}
}

func (h *zoneHistory) note(e *env, format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf("%9.3f zone %s: %s", time.Since(h.start).Seconds(), e.zone, fmt.Sprintf(format, args...)))
	if testing.Verbose() {
		h.t.Logf("-- %d: %s", len(h.trace)-1, h.trace[len(h.trace)-1])
	}
}

func (h *zoneHistory) now() int { return len(h.trace) - 1 }

// fail ends the test with the steps that name what the message names, and the last ones.
func (h *zoneHistory) fail(format string, args ...any) {
	h.t.Helper()
	text := fmt.Sprintf(format, args...)
	words := strings.Split(text, "\"")
	var lines []string
	for i, line := range h.trace {
		about := slices.ContainsFunc(words, func(w string) bool {
			return w != "" && strings.Contains(line, strconv.Quote(strings.TrimPrefix(w, "p/")))
		})
		if about || i >= len(h.trace)-30 {
			lines = append(lines, fmt.Sprintf("%5d %s", i, line))
		}
	}
	h.t.Fatalf("%s\n%s", text, strings.Join(lines[max(0, len(lines)-200):], "\n"))
}

// may ends the test for an error that no other zone's change excuses.
func (h *zoneHistory) may(e *env, p string, err error) bool {
	h.t.Helper()
	for _, excuse := range []error{iofs.ErrNotExist, iofs.ErrExist, cache.ErrStale, syscall.ENOTEMPTY, syscall.ENOTDIR, syscall.EISDIR, syscall.EINVAL} {
		if errors.Is(err, excuse) {
			return false
		}
	}
	if err != nil {
		h.fail("zone %s: %q: %v", e.zone, p, err)
	}
	return true
}

// at is the directory of a path; not ok where it is gone.
func (h *zoneHistory) at(e *env, p string) (cache.Ino, string, bool) {
	dir, name := path.Split(p)
	a, err := e.lookup(path.Clean("./" + dir))
	if err == nil && a.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return 0, name, false
	}
	return a.Ino, name, h.may(e, p, err)
}

// show is a zone's tree; err is what another look may not find.
func show(e *env) (files, dirs []string, tree map[string]string, err error) {
	tree, dirs = map[string]string{}, []string{""}
	ctx := context.Background()
	for i := 0; i < len(dirs); i++ {
		a, err := e.lookup(dirs[i])
		if err != nil {
			return nil, nil, nil, fmt.Errorf("look up %q: %w", dirs[i], err)
		}
		err = e.c.ReadDirPlus(ctx, a.Ino, 0, func(d cache.DirEntry, a cache.Attr) bool {
			p := path.Join(dirs[i], d.Name)
			switch a.Mode & syscall.S_IFMT {
			case syscall.S_IFDIR:
				dirs, tree[p] = append(dirs, p), fmt.Sprintf("dir %o", a.Mode)
			case syscall.S_IFREG:
				files, tree[p] = append(files, p), fmt.Sprintf("file %o size %d mtime %d", a.Mode, a.Size, a.Mtime)
			default:
				tree[p] = fmt.Sprintf("other %o size %d", a.Mode, a.Size)
			}
			return true
		})
		if err != nil {
			return nil, nil, nil, fmt.Errorf("list %q: %w", dirs[i], err)
		}
	}
	return files, dirs, tree, nil
}

// agree has all zones tell and hear everything until they show the same, with all bytes.
func (h *zoneHistory) agree() map[string]string {
	h.t.Helper()
	var err error
	var first map[string]string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Second) {
		if first, err = h.agreed(); err == nil {
			return first
		}
	}
	h.fail("the zones do not come to agree: %v", err)
	return nil
}

func (h *zoneHistory) agreed() (first map[string]string, err error) {
	told := len(h.mem.Keys("p/.depotfs/journal/"))
	for _, e := range h.all {
		if left := e.flushFor(20 * time.Second); len(left) > 0 {
			return nil, fmt.Errorf("zone %s: flush left %+v", e.zone, left)
		}
		ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
		err := e.c.Refresh(ctx)
		stop()
		if err != nil {
			return nil, fmt.Errorf("zone %s: refresh: %w", e.zone, err)
		}
	}
	if len(h.mem.Keys("p/.depotfs/journal/")) != told {
		return nil, errors.New("there was still something to tell")
	}
	for _, e := range h.all {
		s, err := e.c.Status(context.Background())
		if err != nil {
			return nil, err
		}
		if p := s.Pending; p.Files+p.Moves+p.Removals > 0 {
			return nil, fmt.Errorf("zone %s: there waits %+v", e.zone, p)
		}
		files, _, tree, err := show(e)
		if err != nil {
			return nil, fmt.Errorf("zone %s: %w", e.zone, err)
		}
		for _, p := range files {
			b, err := e.read(p)
			if err != nil {
				return nil, fmt.Errorf("zone %s: read %q: %w", e.zone, p, err)
			}
			if _, err := h.o.saw(e.zone, p, b); err != nil {
				return nil, err
			}
			tree[p] += " sum " + sumOf(b)
		}
		if first == nil {
			first = tree
		} else if !maps.Equal(first, tree) {
			return nil, fmt.Errorf("zone %s shows %s", e.zone, differ(tree, first))
		}
	}
	return first, nil
}

// differ says in which names one tree is not another one.
func differ(got, want map[string]string) string {
	all := maps.Clone(want)
	maps.Copy(all, got)
	var lines []string
	for _, p := range slices.Sorted(maps.Keys(all)) {
		if got[p] != want[p] {
			lines = append(lines, fmt.Sprintf("%q as %q, zone a as %q", p, got[p], want[p]))
		}
	}
	return strings.Join(lines, "; ")
}

func (h *zoneHistory) check() {
	h.t.Helper()
	for i, e := range h.all {
		e.store.SetDown(false)
		e.store.Clear()
		h.down[i] = false
	}
	h.note(h.all[0], "all lines are healed")
	tree := h.agree()
	here := map[string]bool{}
	for _, text := range tree {
		if _, sum, ok := strings.Cut(text, " sum "); ok {
			here[sum] = true
		}
	}
	faults := append(h.o.missing(here, h.kept("p/.depotfs/conflicts/"), h.kept("p/.depotfs/trash/")), h.bucket(tree)...)
	if len(faults) > 0 {
		h.fail("%s", strings.Join(faults, "\n"))
	}
}

// TestZonesModel runs random operations but renames in two to four zones whose clocks are
// minutes apart and whose lines fail; in the end all show the same, and nothing is lost.
// DEPOTFS_MODEL_SEED repeats one run, DEPOTFS_ZONES_TIME goes on with new ones for so long.
func TestZonesModel(t *testing.T) { zonesModel(t, nil, slices.Concat(foundSeeds, counted(15))) }

// TestZonesModelOfRenames is TestZonesModel with renames; DEPOTFS_MODEL_RENAMES says which
// there are (see renameOf), else files to new names and over others.
func TestZonesModelOfRenames(t *testing.T) {
	if !hardZones() {
		t.Skip("zones that rename do not yet agree after every history: DEPOTFS_HARD=1 tries")
	}
	renames := []string{"fresh", "over"}
	if v := os.Getenv("DEPOTFS_MODEL_RENAMES"); v != "" {
		renames = strings.Split(v, ",")
	}
	zonesModel(t, renames, counted(100))
}

// foundSeeds are of histories without renames that have shown faults.
var foundSeeds = []uint64{573, 3187, 4053, 5176, 6028, 6146, 6173, 7250, 7383, 7435, 7645, 7672, 8194, 8412, 9151, 9685, 10015}

func counted(n int) (seeds []uint64) {
	for i := range n {
		seeds = append(seeds, uint64(i))
	}
	return seeds
}

func zonesModel(t *testing.T, renames []string, seeds []uint64) {
	var longer time.Duration
	var err error
	if v := os.Getenv("DEPOTFS_ZONES_TIME"); v != "" {
		if longer, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	if v := os.Getenv("DEPOTFS_MODEL_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds, longer = []uint64{seed}, 0
	}
	end := time.Now().Add(longer)
	for i := 0; i < len(seeds) || time.Now().Before(end); i++ {
		seed := rand.Uint64N(1_000_000_000)
		if i < len(seeds) {
			seed = seeds[i]
		}
		outside := time.Now()
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newZoneHistory(t, 2+int(seed%3), seed, outside)
				defer h.end()
				h.renames = renames
				for range 2 {
					for range 100 {
						h.step(h.r.IntN(len(h.all)))
					}
					h.check()
				}
			})
		}) {
			return
		}
	}
}

// opened is a file that is open in a zone, with its bytes read through that handle.
type opened struct {
	*cache.Handle
	body []byte
	v    *zoneVersion
}

// open opens and reads a file; not ok where it is not there any more or cannot be fetched.
func (h *zoneHistory) open(e *env, p string, flags int) (f opened, ok bool) {
	h.t.Helper()
	ctx := context.Background()
	st, err := e.c.StatPath(ctx, p)
	if !h.may(e, p, err) || st.Type != "file" {
		return f, false
	}
	a, err := e.lookup(p)
	if !h.may(e, p, err) || a.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return f, false
	}
	handle, err := e.c.Open(ctx, a.Ino, flags)
	if err == nil {
		f.Handle = handle
		f.body, err = readAll(handle)
		if err != nil {
			handle.Release()
		}
	}
	if err != nil && (st.State == "remote" || st.State == "partial") { // overwritten meanwhile, or the line is cut
		return f, false
	}
	if !h.may(e, p, err) {
		return f, false
	}
	if f.v, err = h.o.saw(e.zone, p, f.body); err != nil {
		f.Release()
		h.fail("%v", err)
	}
	return f, true
}

func readAll(handle *cache.Handle) ([]byte, error) {
	var out bytes.Buffer
	buf := make([]byte, 100_000)
	for {
		n, err := handle.ReadAt(context.Background(), buf, int64(out.Len()))
		out.Write(buf[:n])
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return out.Bytes(), err
		}
	}
}

// pinned opens a file for writing: no other zone's change takes its name from then on.
func (h *zoneHistory) pinned(e *env, p string) (f opened, ok bool) {
	if f, ok = h.open(e, p, syscall.O_RDWR); ok && !f.named(e, p) {
		f.Release()
		return f, false
	}
	return f, ok
}

// somewhere says whether the file that is open has a name: another zone may have renamed it.
func (f opened) somewhere(e *env) bool {
	files, _, _, err := show(e)
	return err != nil || slices.ContainsFunc(files, func(p string) bool { return f.named(e, p) })
}

// named says whether a path still means the file that is open.
func (f opened) named(e *env, p string) bool {
	a, err := e.lookup(p)
	return err == nil && a.Ino == f.Ino()
}
