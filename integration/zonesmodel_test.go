package integration

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// history is one run of random operations in several zones of one depot, which learn of
// each other in their own time; and what is known of the bytes that were written.
type history struct {
	t      testing.TB
	b      *zones
	o      *oracle
	random *rand.Rand
	cut    []bool
	trace  []string
	counts map[string]int

	renames []string // the kinds that there are: see renameOf
}

// lineDelay is what every piece on a line of the model's takes.
const lineDelay = time.Millisecond

// TestZonesModelOnMounts lets two and five zones whose clocks are minutes apart write, link and delete
// the same few names while their lines are cut, their daemons killed and their files evicted.
// After each part of the run all lines are healed, and then all zones show the same, and
// nothing is lost.
// DEPOTFS_MODEL_RENAMES adds kinds of renames (see renameOf), after which they do not yet, each time.
func TestZonesModelOnMounts(t *testing.T) {
	renames := strings.Split(os.Getenv("DEPOTFS_MODEL_RENAMES"), ",")
	length := modelTime(t, 10*time.Second)
	for _, n := range []int{2, 5} {
		seed := modelSeed(t)
		t.Run(fmt.Sprintf("zones=%d/seed=%d", n, seed), func(t *testing.T) {
			h := &history{t: t, b: newZones(t, 0), o: newOracle(), random: rand.New(rand.NewPCG(seed, uint64(n))), cut: make([]bool, n), counts: map[string]int{}, renames: renames}
			for i := range n {
				skew := time.Duration(h.random.Int64N(int64(16*time.Minute))) - 8*time.Minute
				h.b.join(polled(200*time.Millisecond), quiet, ahead(skew), with("--settle", "50ms", "--part-size", "5MiB", "--cold-timeout", "2s"))
				h.b.heal(i, lineDelay)
			}
			for _, part := range []time.Duration{length / 2, length - length/2} {
				for end := time.Now().Add(part); time.Now().Before(end); {
					h.step(h.random.IntN(n))
				}
				h.check()
			}
			t.Logf("seed %d: %d steps, %v; %s", seed, len(h.trace), h.counts, h.o.fates())
		})
	}
}

// modelTime is how long random operations run.
func modelTime(t testing.TB, length time.Duration) time.Duration {
	if text := os.Getenv("DEPOTFS_MODEL_TIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("DEPOTFS_MODEL_TIME: %v", err)
		}
	}
	return length
}

// modelSeed is the seed that was asked for, else a new one.
func modelSeed(t testing.TB) uint64 {
	text := os.Getenv("DEPOTFS_MODEL_SEED")
	if text == "" {
		return rand.Uint64N(1_000_000)
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("DEPOTFS_MODEL_SEED: %v", err)
	}
	return seed
}

func (h *history) note(z *zone, format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf("%s zone %s: %s", time.Now().UTC().Format("15:04:05.000"), z.name, fmt.Sprintf(format, args...)))
}

// now is the number of the step that was noted last.
func (h *history) now() int { return len(h.trace) - 1 }

// failf ends the test with what led to it: the last steps, and those that name a path.
func (h *history) failf(about []string, format string, args ...any) {
	h.t.Helper()
	var lines []string
	first := max(0, len(h.trace)-40)
	for i, line := range h.trace {
		if i >= first || slices.ContainsFunc(about, func(name string) bool { return strings.Contains(line, strconv.Quote(name)) }) {
			lines = append(lines, fmt.Sprintf("%6d %s", i, line))
		}
	}
	h.t.Fatalf("%s\nof %d steps, those that concern it and the last ones:\n%s", fmt.Sprintf(format, args...), len(h.trace), strings.Join(lines[max(0, len(lines)-200):], "\n"))
}

// check heals everything and holds what all zones show, and what the depot keeps, against
// the history.
func (h *history) check() {
	h.t.Helper()
	for i := range h.b.all {
		h.heal(i)
	}
	faults := h.o.check(h.b, h.b.agree())
	if len(faults) == 0 {
		return
	}
	var about []string
	for _, fault := range faults {
		about = append(about, strings.Split(fault, "\"")[1:]...)
	}
	h.failf(about, "%s", strings.Join(faults, "\n"))
}

// names are the files and directories that a zone shows.
func (h *history) names(z *zone) (files, dirs []string) {
	dirs = []string{""}
	for i := 0; i < len(dirs); i++ {
		entries, err := os.ReadDir(z.path(dirs[i]))
		if err != nil && !goneMeanwhile(err) {
			h.failf(nil, "zone %s: list %q: %v", z.name, dirs[i], err)
		}
		for _, e := range entries {
			name := path.Join(dirs[i], e.Name())
			switch {
			case e.IsDir():
				dirs = append(dirs, name)
			case e.Type().IsRegular():
				files = append(files, name)
			}
		}
	}
	return files, dirs
}

// goneMeanwhile says whether an error is what another zone's change may cause at any time.
func goneMeanwhile(err error) bool {
	for _, errno := range []error{unix.ENOENT, unix.ESTALE, unix.EEXIST, unix.ENOTEMPTY, unix.ENOTDIR} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// may ends the test for an error that nothing excuses, and says whether there was none.
func (h *history) may(z *zone, name string, err error) bool {
	h.t.Helper()
	if err != nil && !goneMeanwhile(err) {
		h.failf([]string{name}, "zone %s: %q: %v%s", z.name, name, err, z.logTail())
	}
	return err == nil
}

// open opens a file and reads it through that handle; ok is false where it is not there
// any more, or could not be fetched.
func (h *history) open(z *zone, name string, flags int) (f *os.File, body []byte, v *version, ok bool) {
	h.t.Helper()
	buf := make([]byte, 64)
	n, err := unix.Lgetxattr(z.path(name), "user.depotfs.state", buf)
	if !h.may(z, name, err) {
		return nil, nil, nil, false
	}
	here := slices.Contains([]string{"clean", "dirty", "uploading"}, string(buf[:n]))
	f, err = os.OpenFile(z.path(name), flags, 0)
	if err == nil {
		if body, err = io.ReadAll(f); err != nil {
			f.Close()
		}
	}
	// What is not here may be behind a line that is cut, or overwritten meanwhile.
	if errors.Is(err, unix.EIO) && !here {
		h.counts["cold reads that failed"]++
		return nil, nil, nil, false
	}
	if !h.may(z, name, err) {
		return nil, nil, nil, false
	}
	if v, err = h.o.saw(z.name, name, sum(body)); err != nil {
		h.failf([]string{name}, "%v: %d bytes%s", err, len(body), z.logTail())
	}
	return f, body, v, true
}

// pinned opens a file for writing: from then on no other zone's change takes its name, so
// the version that the handle shows is the one that the next operation replaces.
func (h *history) pinned(z *zone, name string) (f *os.File, body []byte, v *version, ok bool) {
	f, body, v, ok = h.open(z, name, os.O_RDWR)
	if ok && !sameFile(f, z.path(name)) { // it was replaced while it was being opened
		f.Close()
		return nil, nil, nil, false
	}
	return f, body, v, ok
}

func sameFile(f *os.File, full string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(full)
	return err == nil && os.SameFile(open, named)
}

// mount mounts a zone whose line may be cut.
func (h *history) mount(i int) {
	if h.cut[i] {
		h.b.all[i].mount("--no-store-check")
	} else {
		h.b.all[i].mount()
	}
}

// heal ends a cut.
func (h *history) heal(i int) {
	if h.cut[i] {
		h.note(h.b.all[i], "heal")
		h.b.heal(i, lineDelay)
		h.cut[i] = false
	}
}

func (h *history) body() []byte {
	size := 16 + h.random.IntN(50_000)
	switch h.random.IntN(40) {
	case 0:
		size = 5<<20 + h.random.IntN(3<<20)
	case 1, 2, 3:
		size = 16 + h.random.IntN(1<<20)
	}
	return bytesOf(h.random.Uint64(), size)
}

// place is a path that may or may not exist, in a directory that the zone shows. Files and
// directories have names of their own, for the reason that model.place gives.
func (h *history) place(dirs []string, letter string) string {
	return path.Join(dirs[h.random.IntN(len(dirs))], letter+strconv.Itoa(h.random.IntN(modelNames)))
}

func (h *history) pick(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[h.random.IntN(len(names))]
}
