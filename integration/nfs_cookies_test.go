package integration

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// listing reads a directory as an NFS server does: some entries at a time, each
// time from a cookie on, in an open of its own.
type listing struct {
	dir    string
	cookie int64
	seen   map[string]int
	end    bool
}

// more reads one small buffer of entries.
func (l *listing) more(t testing.TB, size int) {
	t.Helper()
	fd, err := unix.Open(l.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Seek(fd, l.cookie, unix.SEEK_SET); err != nil {
		t.Fatalf("seekdir to %d: %v", l.cookie, err)
	}
	buf := make([]byte, size)
	n, err := unix.ReadDirent(fd, buf)
	if err != nil {
		t.Fatalf("readdir from %d: %v", l.cookie, err)
	}
	l.end = n == 0
	for buf = buf[:n]; len(buf) > 0; {
		length := binary.NativeEndian.Uint16(buf[16:])
		name := buf[19:length]
		for i, b := range name {
			if b == 0 {
				name = name[:i]
				break
			}
		}
		l.cookie = int64(binary.NativeEndian.Uint64(buf[8:]))
		l.seen[string(name)]++
		buf = buf[length:]
	}
}

// A listing goes on from its cookie, whatever was added and removed meanwhile, and
// over a restart: what was there all the time is listed once.
func TestReaddirCookiesSurvive(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			z := newZone(t, way.set)
			const files, adds = 2500, 80
			dir := z.path("dir")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			name := func(i int) string { return fmt.Sprintf("%s/file-%04d", dir, i) }
			for i := range files {
				put(t, name(i), nil)
			}
			l := &listing{dir: dir, seen: map[string]int{}}
			gone, made := map[int]bool{}, 0
			for round := 0; !l.end; round++ {
				l.more(t, 512+round%5*200)
				for i := round * 5 % files; i < files && i < round*5%files+3; i++ { // some that were listed, some not yet
					if j := i * 7 % files; j%2 == 1 && !gone[j] {
						if err := os.Remove(name(j)); err != nil {
							t.Fatal(err)
						}
						gone[j] = true
					}
				}
				if made < adds { // a listing ends only when nobody adds more
					put(t, fmt.Sprintf("%s/new-%d", dir, made), nil)
					made++
				}
				switch round {
				case 20:
					z.remount()
				case 40:
					z.kill()
					z.mount()
				case 60:
					forgetAll(t)
				}
			}
			if len(gone) < 100 || made < adds {
				t.Fatalf("only %d were removed and %d made meanwhile: this shows nothing", len(gone), made)
			}
			for i := range files {
				base := fmt.Sprintf("file-%04d", i)
				if n := l.seen[base]; n > 1 || n == 0 && !gone[i] {
					t.Errorf("%s was listed %d times (removed meanwhile: %v)", base, n, gone[i])
				}
			}
			for i := range made {
				if n := l.seen[fmt.Sprintf("new-%d", i)]; n > 1 {
					t.Errorf("new-%d was listed %d times", i, n)
				}
			}
			for _, dots := range []string{".", ".."} {
				if l.seen[dots] != 1 {
					t.Errorf("%q was listed %d times", dots, l.seen[dots])
				}
			}
			// The last cookie is the end, in any open.
			again := &listing{dir: dir, cookie: l.cookie, seen: map[string]int{}}
			for again.more(t, 4096); !again.end; again.more(t, 4096) {
			}
			for base := range again.seen {
				if l.seen[base] > 0 {
					t.Errorf("after the end %s is listed again", base)
				}
			}
		})
	}
}
