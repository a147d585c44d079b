package integration

import (
	"bytes"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

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
		k, err := pread(fd, buf[got:], int64(off+got))
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
