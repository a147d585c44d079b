package integration

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

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
