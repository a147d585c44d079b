package integration

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
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

func (m *model) body() []byte {
	size := m.random.IntN(50_000)
	switch m.random.IntN(20) {
	case 0:
		size = 5<<20 + m.random.IntN(3<<20)
	case 1, 2, 3:
		size = m.random.IntN(1 << 20)
	}
	return bytesOf(m.random.Uint64(), size)
}

func (m *model) create() {
	name, body := m.place(unix.S_IFREG), m.body()
	old := m.tree[name]
	m.note("create %q %d bytes", name, len(body))
	fd, err := unix.Open(m.p(name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if old != nil {
		m.expect(name, err, unix.EEXIST)
		return
	}
	if !m.expect(name, err, nil) {
		return
	}
	m.expect(name, pwriteAll(fd, body, 0), nil)
	m.expect(name, unix.Close(fd), nil)
	m.tree[name] = &object{kind: unix.S_IFREG, mode: 0o644, body: body}
}

// writeTo writes at a random offset through a descriptor.
func (m *model) writeTo(name string, fd int, o *object) {
	off := m.random.IntN(len(o.body) + 1)
	if m.random.IntN(8) == 0 {
		off += m.random.IntN(200_000) // leaves a hole
	}
	data := bytesOf(m.random.Uint64(), 1+m.random.IntN(100_000))
	m.note("write %q %d+%d", name, off, len(data))
	m.expect(name, pwriteAll(fd, data, off), nil)
	body := bytes.Clone(o.body)
	if grown := off + len(data); grown > len(body) {
		body = append(body, make([]byte, grown-len(body))...)
	}
	copy(body[off:], data)
	o.body, o.mtime = body, 0
}

func (m *model) write() {
	if len(m.open) > 0 && m.random.IntN(3) == 0 {
		h := m.open[m.random.IntN(len(m.open))]
		m.writeTo("(open)", h.fd, h.obj)
		return
	}
	name := m.pick(unix.S_IFREG)
	if name == "" {
		return
	}
	o := m.tree[name]
	fd, err := unix.Open(m.p(name), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if !m.expect(name, err, nil) {
		return
	}
	m.writeTo(name, fd, o)
	if m.random.IntN(4) == 0 {
		m.expect(name, unix.Fsync(fd), nil)
	}
	m.expect(name, unix.Close(fd), nil)
}

func (m *model) truncate() {
	name := m.pick(unix.S_IFREG)
	if name == "" {
		return
	}
	o := m.tree[name]
	size := m.random.IntN(len(o.body)*3/2 + 10)
	m.note("truncate %q from %d to %d", name, len(o.body), size)
	m.expect(name, unix.Truncate(m.p(name), int64(size)), nil)
	body := make([]byte, size)
	copy(body, o.body)
	o.body, o.mtime = body, 0
}

func (m *model) mkdir() {
	name := m.place(unix.S_IFDIR)
	m.note("mkdir %q", name)
	err := unix.Mkdir(m.p(name), 0o755)
	if m.tree[name] != nil {
		m.expect(name, err, unix.EEXIST)
	} else if m.expect(name, err, nil) {
		m.tree[name] = &object{kind: unix.S_IFDIR, mode: 0o755}
	}
}

// move gives everything at and below a path another path.
func (m *model) move(from, to string) map[string]*object {
	moved := map[string]*object{}
	for name, o := range m.tree {
		if name == from || strings.HasPrefix(name, from+"/") {
			moved[to+strings.TrimPrefix(name, from)] = o
			delete(m.tree, name)
		}
	}
	return moved
}

func (m *model) rename() {
	from, kind := m.pick(unix.S_IFREG, unix.S_IFLNK), uint32(unix.S_IFREG)
	if m.random.IntN(3) == 0 {
		from, kind = m.pick(unix.S_IFDIR), unix.S_IFDIR
	}
	if from == "" {
		return
	}
	flags := []uint{0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[m.random.IntN(5)]
	to := m.place(kind)
	if flags != unix.RENAME_EXCHANGE && m.random.IntN(10) == 0 { // over the other kind, which fails
		if other := m.place(unix.S_IFREG + unix.S_IFDIR - kind); m.tree[other] != nil {
			to = other
		}
	}
	src, dst := m.tree[from], m.tree[to]
	var want error
	inside := strings.HasPrefix(to, from+"/")
	switch {
	case flags == unix.RENAME_NOREPLACE && dst != nil:
		want = unix.EEXIST
	case flags == unix.RENAME_EXCHANGE && dst == nil:
		want = unix.ENOENT
	case inside, flags == unix.RENAME_EXCHANGE && strings.HasPrefix(from, to+"/"):
		want = unix.EINVAL
	case strings.HasPrefix(from, to+"/"):
		want = unix.ENOTEMPTY
	case from == to || dst == nil || flags == unix.RENAME_EXCHANGE || dst == src:
	case src.kind == unix.S_IFDIR && dst.kind != unix.S_IFDIR:
		want = unix.ENOTDIR
	case src.kind != unix.S_IFDIR && dst.kind == unix.S_IFDIR:
		want = unix.EISDIR
	case src.kind == unix.S_IFDIR && len(m.children(to)) > 0:
		want = unix.ENOTEMPTY
	}
	m.note("rename %q %q flags %d", from, to, flags)
	err := unix.Renameat2(unix.AT_FDCWD, m.p(from), unix.AT_FDCWD, m.p(to), flags)
	if !m.expect(from, err, want) || from == to || dst == src {
		return
	}
	moved := m.move(from, to)
	if flags == unix.RENAME_EXCHANGE {
		maps.Copy(m.tree, m.move(to, from))
	} else {
		delete(m.tree, to)
	}
	maps.Copy(m.tree, moved)
}

func (m *model) link() {
	from, to := m.pick(unix.S_IFREG), m.place(unix.S_IFREG)
	if from == "" || m.tree[to] != nil {
		return
	}
	m.note("link %q %q", from, to)
	if m.expect(from, unix.Link(m.p(from), m.p(to)), nil) {
		m.tree[to] = m.tree[from]
	}
}

func (m *model) symlink() {
	name, target := m.place(unix.S_IFREG), fmt.Sprintf("target/%d", m.random.IntN(1000))
	if m.tree[name] != nil {
		return
	}
	m.note("symlink %q %q", name, target)
	if m.expect(name, unix.Symlink(target, m.p(name)), nil) {
		m.tree[name] = &object{kind: unix.S_IFLNK, mode: 0o777, target: target}
	}
}

func (m *model) unlink() {
	name := m.pick(unix.S_IFREG, unix.S_IFLNK)
	if name == "" {
		return
	}
	m.note("unlink %q", name)
	if m.expect(name, unix.Unlink(m.p(name)), nil) {
		delete(m.tree, name)
	}
}

func (m *model) rmdir() {
	name := m.pick(unix.S_IFDIR)
	if name == "" {
		return
	}
	m.note("rmdir %q", name)
	err := unix.Rmdir(m.p(name))
	if len(m.children(name)) > 0 {
		m.expect(name, err, unix.ENOTEMPTY)
	} else if m.expect(name, err, nil) {
		delete(m.tree, name)
	}
}

func (m *model) chmod() {
	name := m.pick(unix.S_IFREG, unix.S_IFDIR)
	if name == "" {
		return
	}
	mode := []uint32{0o600, 0o644, 0o755, 0o700, 0o666}[m.random.IntN(5)]
	m.note("chmod %q %o", name, mode)
	m.expect(name, unix.Chmod(m.p(name), mode), nil)
	m.tree[name].mode = mode
}

func (m *model) utimens() {
	name := m.pick(unix.S_IFREG)
	if name == "" {
		return
	}
	for _, h := range m.open {
		if h.obj == m.tree[name] {
			return // a write that is under way in the kernel may move it again
		}
	}
	at := m.random.Int64N(1_700_000_000_000_000_000) + 1
	m.note("utimens %q %d", name, at)
	ts := unix.NsecToTimespec(at)
	m.expect(name, unix.UtimesNanoAt(unix.AT_FDCWD, m.p(name), []unix.Timespec{ts, ts}, 0), nil)
	m.tree[name].mtime = at
}

func (m *model) read() {
	name := m.pick(unix.S_IFREG)
	if name == "" || len(m.tree[name].body) == 0 {
		return
	}
	o := m.tree[name]
	off := m.random.IntN(len(o.body))
	n := min(1+m.random.IntN(300_000), len(o.body)-off)
	m.note("read %q %d+%d", name, off, n)
	fd, err := unix.Open(m.p(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if !m.expect(name, err, nil) {
		return
	}
	m.readFrom(name, fd, o, off, n)
	m.expect(name, unix.Close(fd), nil)
}

func (m *model) readFrom(name string, fd int, o *object, off, n int) {
	buf := make([]byte, n)
	got := 0
	for got < n {
		k, err := unix.Pread(fd, buf[got:], int64(off+got))
		if err != nil || k == 0 {
			m.failf(name, "read %d+%d of %d bytes: %d, %v", off, n, len(o.body), got+k, err)
		}
		got += k
	}
	if diff := difference(buf, o.body[off:off+n]); diff != "" {
		m.failf(name, "read at %d: %s", off, diff)
	}
}

func (m *model) readdir() {
	name := m.pick(unix.S_IFDIR)
	m.note("readdir %q", name)
	entries, err := os.ReadDir(m.p(name))
	if err != nil {
		m.failf(name, "readdir %q: %v", name, err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if want := m.children(name); !slices.Equal(got, want) {
		m.failf(name, "%q holds %q, want %q", name, got, want)
	}
}

// hold opens a file and keeps it open over what comes.
func (m *model) hold() {
	name := m.pick(unix.S_IFREG)
	if name == "" || len(m.open) >= 3 {
		return
	}
	m.note("open %q", name)
	fd, err := unix.Open(m.p(name), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if m.expect(name, err, nil) {
		m.open = append(m.open, &openObject{fd, m.tree[name]})
	}
}

func (m *model) closeOne() {
	if len(m.open) == 0 {
		return
	}
	h := m.open[0]
	if n := len(h.obj.body); n > 0 {
		m.readFrom("(open)", h.fd, h.obj, 0, min(n, 100_000))
	}
	m.note("close")
	m.expect("(open)", unix.Close(h.fd), nil)
	m.open = m.open[1:]
}

func (m *model) closeAll() {
	for _, h := range m.open {
		_ = unix.Close(h.fd)
	}
	m.open = nil
}

// restart ends the daemon, kindly or not, and mounts again.
func (m *model) restart(kill bool) {
	if kill {
		m.note("!kill")
		m.kills++
		m.z.kill()
		m.closeAll()
	} else {
		m.note("!umount")
		m.closeAll()
		m.z.umount()
	}
	m.z.mount()
}

// compare holds the whole mount against the model.
func (m *model) compare() {
	m.t.Helper()
	seen := map[string]bool{"": true}
	err := filepath.WalkDir(m.z.mnt, func(full string, e os.DirEntry, err error) error {
		if err != nil || full == m.z.mnt {
			return err
		}
		name, err := filepath.Rel(m.z.mnt, full)
		if err != nil {
			return err
		}
		seen[name] = true
		m.compareOne(name, full)
		return nil
	})
	if err != nil {
		m.failf("", "walk: %v", err)
	}
	for name := range m.tree {
		if !seen[name] {
			m.failf(name, "%q is lost", name)
		}
	}
}

func (m *model) compareOne(name, full string) {
	m.t.Helper()
	o := m.tree[name]
	if o == nil {
		m.failf(name, "%q should not be there", name)
	}
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		m.failf(name, "stat %q: %v", name, err)
	}
	if st.Mode != o.kind|o.mode {
		m.failf(name, "%q has the mode %o, want %o", name, st.Mode, o.kind|o.mode)
	}
	switch o.kind {
	case unix.S_IFLNK:
		if target, err := os.Readlink(full); err != nil || target != o.target {
			m.failf(name, "%q leads to %q (%v), want %q", name, target, err, o.target)
		}
	case unix.S_IFREG:
		names := 0
		for _, other := range m.tree {
			if other == o {
				names++
			}
		}
		if int(st.Nlink) != names || st.Size != int64(len(o.body)) {
			m.failf(name, "%q has %d names and %d bytes, want %d and %d", name, st.Nlink, st.Size, names, len(o.body))
		}
		if o.mtime != 0 && st.Mtim.Nano() != o.mtime {
			m.failf(name, "%q has the mtime %d, want %d", name, st.Mtim.Nano(), o.mtime)
		}
		body, err := os.ReadFile(full)
		if err != nil {
			m.failf(name, "read %q: %v", name, err)
		}
		if diff := difference(body, o.body); diff != "" {
			m.failf(name, "%q: %s", name, diff)
		}
	}
}

// compareBucket holds the bucket against the model.
func (m *model) compareBucket() {
	m.t.Helper()
	objects := m.d.keys(m.t)
	for name, o := range m.tree {
		switch o.kind {
		case unix.S_IFDIR:
			if _, found := objects[name+"/"]; !found && name != "" && len(m.children(name)) == 0 {
				m.failf(name, "the empty directory %q is not in the bucket", name)
			}
			delete(objects, name+"/")
			continue
		case unix.S_IFLNK:
			if got, found := m.d.Get(m.t, name); !found || string(got) != o.target {
				m.failf(name, "object %q is %q (found: %v), want %q", name, got, found, o.target)
			}
		default:
			got, found := m.d.Get(m.t, name)
			if diff := difference(got, o.body); !found || diff != "" {
				m.failf(name, "object %q (found: %v): %s\n%+v\n%s", name, found, diff, m.z.stat(name), grep(m.z.log(), name))
			}
		}
		delete(objects, name)
	}
	for key := range objects {
		m.failf(strings.TrimSuffix(key, "/"), "object %q belongs to nothing", key)
	}
}
