package integration

import (
	"errors"
	"fmt"
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

// object is a file, directory or symlink of the model. Hard links share one.
type object struct {
	kind   uint32 // S_IFMT bits
	mode   uint32
	body   []byte
	target string
	mtime  int64 // ns; 0 = nobody has set it
}

// model is the tree as it should be, by path from the root; "" is the root.
type model struct {
	t      testing.TB
	z      *zone
	d      *depot
	random *rand.Rand
	tree   map[string]*object
	open   []*openObject
	trace  []string
	kills  int
}

type openObject struct {
	fd  int
	obj *object
}

// Most names are reused, so that operations meet: over, into and through each other.
const (
	modelNames = 6
	modelFiles = 60
)

func TestModel(t *testing.T) {
	length, seeds := 25*time.Second, []uint64{1, rand.Uint64N(1_000_000)}
	if text := os.Getenv("DEPOTFS_MODEL_TIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("DEPOTFS_MODEL_TIME: %v", err)
		}
	}
	if text := os.Getenv("DEPOTFS_MODEL_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("DEPOTFS_MODEL_SEED: %v", err)
		}
		seeds = []uint64{seed}
	}
	for i, seed := range seeds {
		way := ways[i%len(ways)]
		t.Run(fmt.Sprintf("%s/seed=%d", way.name, seed), func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set, quiet, with("--settle", "50ms", "--part-size", "5MiB"))
			m := &model{t: t, z: z, d: d, random: rand.New(rand.NewPCG(seed, 0)), tree: map[string]*object{"": {kind: unix.S_IFDIR}}}
			defer m.closeAll()
			steps := 0
			for end := time.Now().Add(length); time.Now().Before(end); steps++ {
				z.watchdog.Reset(hangTime)
				m.step()
				if steps%200 == 199 {
					m.compare()
				}
			}
			m.compare()
			m.closeAll()
			z.flush()
			m.compareBucket()
			m.restart(false)
			m.compare()
			t.Logf("seed %d: %d steps, %d kills, %d names in the end", seed, steps, m.kills, len(m.tree))
		})
	}
}

// failf ends the test with what led to it.
func (m *model) failf(name, format string, args ...any) {
	m.t.Helper()
	var about []string
	first := max(0, len(m.trace)-30)
	for i, line := range m.trace {
		if i >= first || name != "" && strings.Contains(line, strconv.Quote(name)) || strings.HasPrefix(line, "!") {
			about = append(about, fmt.Sprintf("%6d %s", i, line))
		}
	}
	m.t.Fatalf("%s\nof %d steps, those that concern it and the last ones:\n%s", fmt.Sprintf(format, args...), len(m.trace), strings.Join(about[max(0, len(about)-120):], "\n"))
}

func (m *model) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

// expect compares an answer with what the model says should be answered.
func (m *model) expect(name string, err error, want error) bool {
	m.t.Helper()
	if !errors.Is(err, want) {
		m.failf(name, "answered %v, want %v", err, want)
	}
	return err == nil
}

func (m *model) p(name string) string { return m.z.path(name) }

// pick chooses a path of one of the kinds; "" when there is none (or the root).
func (m *model) pick(kinds ...uint32) string {
	var names []string
	for name, o := range m.tree {
		if slices.Contains(kinds, o.kind) && (name != "" || len(kinds) > 0 && kinds[0] == unix.S_IFDIR) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return names[m.random.IntN(len(names))]
}

// place is a path for that kind that may or may not exist, in a directory that does.
// Files and directories have names of their own: the servers at hand keep objects
// as files and refuse a key x beside x/y, so that a file and a directory that
// change their names with each other have no way there.
func (m *model) place(kind uint32) string {
	letter := "f"
	if kind == unix.S_IFDIR {
		letter = "d"
	}
	return path.Join(m.pick(unix.S_IFDIR), letter+strconv.Itoa(m.random.IntN(modelNames)))
}

func (m *model) children(dir string) (names []string) {
	for name := range m.tree {
		if name != "" && path.Dir("/"+name) == path.Join("/", dir) {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names
}

func (m *model) step() {
	m.t.Helper()
	r := m.random.IntN(1000)
	switch {
	case r < 150 && len(m.tree) < modelFiles:
		m.create()
	case r < 300:
		m.write()
	case r < 350:
		m.truncate()
	case r < 420 && len(m.tree) < modelFiles:
		m.mkdir()
	case r < 560:
		m.rename()
	case r < 590:
		m.link()
	case r < 610:
		m.symlink()
	case r < 680:
		m.unlink()
	case r < 710:
		m.rmdir()
	case r < 740:
		m.chmod()
	case r < 770:
		m.utimens()
	case r < 860:
		m.read()
	case r < 890:
		m.readdir()
	case r < 920:
		m.hold()
	case r < 940:
		m.closeOne()
	case r < 965:
		name := m.pick(unix.S_IFREG, unix.S_IFDIR)
		m.note("!evict %q", name)
		m.z.run("evict", m.p(name))
	case r < 985:
		m.note("!flush")
		if len(m.open) == 0 {
			m.z.flush()
		} else {
			m.z.run("flush", "--timeout", "200ms", m.z.mnt) // what is open for writing waits
		}
	case r < 993:
		m.restart(false)
	case r < 997:
		m.restart(true)
	}
}
