package integration

import (
	"fmt"
	"maps"
	"strings"

	"golang.org/x/sys/unix"
)

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
