package fs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"depotfs/cache"
)

// list reads a directory from cookie on, in a new open of it.
func list(t testing.TB, path string, cookie uint64, limit int) []fuse.DirEntry {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Seek(fd, int64(cookie), unix.SEEK_SET); err != nil {
		t.Fatal(err)
	}
	var all []fuse.DirEntry
	buf := make([]byte, 4096)
	for len(all) < limit {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		for todo := buf[:n]; len(todo) > 0; {
			var e fuse.DirEntry
			todo = todo[e.Parse(todo):]
			all = append(all, e)
		}
	}
	return all
}

func names(entries []fuse.DirEntry) (all []string) {
	for _, e := range entries {
		all = append(all, e.Name)
	}
	return all
}

// NFS clients come back with a cookie in a new open of the directory, whatever
// happened to the entry that it points behind.
func TestListingGoesOnAtEveryCookie(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		dir := m.path("dir")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			m.write(t, fmt.Sprintf("dir/%03d%s", i, strings.Repeat("n", i%90)), "")
		}
		all := list(t, dir, 0, 1<<20)
		if len(all) != 302 || all[0].Name != "." || all[1].Name != ".." {
			t.Fatalf("got %d entries, beginning with %q", len(all), names(all[:2]))
		}
		var self, up unix.Stat_t
		if unix.Stat(dir, &self) != nil || unix.Stat(m.dir, &up) != nil || all[0].Ino != self.Ino || all[1].Ino != up.Ino {
			t.Errorf("inode numbers of . and ..: got %d, %d; want %d, %d", all[0].Ino, all[1].Ino, self.Ino, up.Ino)
		}
		for i, e := range all {
			if got, want := names(list(t, dir, e.Off, 3)), names(all[i+1:]); len(want) > 0 && got[0] != want[0] {
				t.Fatalf("after %q (cookie %d): got %q, want %q", e.Name, e.Off, got[0], want[0])
			} else if len(want) == 0 && len(got) != 0 {
				t.Fatalf("after the last entry: got %q", got)
			}
		}
		for i := 2; i < len(all); i += 2 { // every other one vanishes
			if err := os.Remove(dir + "/" + all[i].Name); err != nil {
				t.Fatal(err)
			}
			want := names(all[i+1:])
			if got := list(t, dir, all[i].Off, 1); len(got) == 0 || got[0].Name != want[0] {
				t.Fatalf("after %q, which vanished: got %q, want %q", all[i].Name, names(got), want[0])
			}
		}
		if got := list(t, dir, 0, 1<<20); len(got) != 152 {
			t.Errorf("got %d entries in the end, want 152", len(got))
		}
	})
}

func TestListingTellsTypesAndAttributes(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		m.write(t, "file", "hello")
		for _, err := range []error{
			os.Mkdir(m.path("dir"), 0o755), os.Symlink("file", m.path("link")),
			unix.Mkfifo(m.path("fifo"), 0o600), unix.Mknod(m.path("node"), unix.S_IFREG|0o640, 0), unix.Mknod(m.path("sock"), unix.S_IFSOCK|0o600, 0),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Mknod(m.path("dev"), unix.S_IFCHR|0o600, 0x103); err != syscall.EPERM {
			t.Errorf("a device: got %v, want what the heart says", err)
		}
		entries, err := os.ReadDir(m.dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s %v %d", e.Name(), info.Mode(), info.Size()))
		}
		want := []string{"dir drwxr-xr-x 0", "fifo prw------- 0", "file -rw-r--r-- 5", "link Lrwxrwxrwx 4", "node -rw-r----- 0", "sock Srw------- 0"}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		if target, err := os.Readlink(m.path("link")); err != nil || target != "file" {
			t.Errorf("link: got %q, %v", target, err)
		}
	})
}

// A name whose inode vanishes in the middle of a listing is not an error of the
// listing.
func TestListingWhileInodesVanish(t *testing.T) {
	l := newLoopback(t)
	m := mount(t, l, Options{})
	for i := range 50 {
		m.write(t, fmt.Sprint("f", i), "")
	}
	m.settle(t)
	again := mount(t, l, Options{}) // whose kernel side knows nothing yet
	l.mu.Lock()
	delete(l.nodes, 120)
	l.mu.Unlock()
	entries, err := os.ReadDir(again.dir)
	if err != nil || len(entries) != 50 {
		t.Fatalf("got %d entries, %v", len(entries), err)
	}
	l.mu.Lock()
	root := l.nodes[1]
	root.entries = slices.DeleteFunc(root.entries, func(e cache.DirEntry) bool { return e.Ino == 120 })
	l.mu.Unlock()
}

// What the kernel keeps of a listing it goes on using until something changes,
// through the mount or behind it.
func TestListingIsKeptUntilItChanges(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		dir := m.path("dir")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b", "c"} {
			m.write(t, "dir/"+name, "")
		}
		look := func() string {
			t.Helper()
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				got = append(got, e.Name())
			}
			return strings.Join(got, "")
		}
		asked := func() int { return l.count("readdir") + l.count("readdirplus") }
		if got := look(); got != "abc" {
			t.Fatalf("the listing: got %q", got)
		}
		if !remembers(func() bool { look(); before := asked(); return look() == "abc" && asked() == before }) {
			t.Fatal("the kernel asks for a listing that has not changed")
		}
		m.write(t, "dir/d", "")
		if got := look(); got != "abcd" {
			t.Fatalf("after a create: got %q", got)
		}
		if err := os.Rename(dir+"/a", dir+"/e"); err != nil {
			t.Fatal(err)
		}
		if got := look(); got != "bcde" {
			t.Fatalf("after a rename: got %q", got)
		}
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			t.Fatal(err)
		}
		// Behind the kernel's back, and told: the very next listing has it.
		for i := range 20 {
			name := string(rune('f' + i))
			l.change(func() {
				n := l.nodes[cache.Ino(st.Ino)]
				e := n.entries[len(n.entries)-1]
				e.Name, e.Cookie = name, e.Cookie+1
				n.entries = append(n.entries, e)
			})
			m.EntryChanged(cache.Ino(st.Ino), name)
			if got := look(); !strings.HasSuffix(got, name) {
				t.Fatalf("after a change behind the mount: got %q, want %q at its end", got, name)
			}
		}
	})
}

func TestKeptListingsAreBounded(t *testing.T) {
	var k keptListings
	for i := range 3 * maxKept {
		if k.keep(cache.Ino(i)) {
			t.Fatalf("directory %d was kept before it was listed", i)
		}
	}
	if n := len(k.dirs); n > maxKept {
		t.Errorf("%d directories are remembered", n)
	}
	if last := cache.Ino(3*maxKept - 1); !k.keep(last) {
		t.Error("the last one is forgotten")
	} else if k.forget(last); k.keep(last) {
		t.Error("one that changed is still kept")
	}
}
