package integration

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// twins are a mount and a bare directory that get the same operations.
type twins struct {
	t      testing.TB
	mount  string
	bare   string
	random *rand.Rand
	steps  int
	trace  []string
}

// both does one thing in both directories, which must answer alike.
func (w *twins) both(what string, do func(root string) error) {
	w.t.Helper()
	w.steps++
	w.trace = append(w.trace, what)
	got, want := do(w.mount), do(w.bare)
	var g, b unix.Errno
	errors.As(got, &g)
	errors.As(want, &b)
	if g != b || (got == nil) != (want == nil) {
		w.t.Fatalf("step %d, %s: the mount answers %v, a bare directory %v\n%s", w.steps, what, got, want,
			strings.Join(w.trace[max(0, len(w.trace)-20):], "\n"))
	}
}

// name is a path that may or may not exist, at most two directories deep. Files and
// directories have names of their own, for the reason that model.place gives.
func (w *twins) name(letter string) string {
	name := ""
	for range w.random.IntN(3) {
		name += "d" + strconv.Itoa(w.random.IntN(3)) + "/"
	}
	return name + letter + strconv.Itoa(w.random.IntN(8))
}

// run does n random operations.
func (w *twins) run(n int) {
	w.t.Helper()
	for range n {
		w.step()
	}
}

func (w *twins) step() {
	w.t.Helper()
	letter := []string{"f", "f", "f", "d"}[w.random.IntN(4)]
	name, other := w.name(letter), w.name(letter)
	seed, size, off := w.random.Uint64(), w.random.IntN(200_000), w.random.IntN(100_000)
	mode := []uint32{0o600, 0o644, 0o755, 0o4755, 0o777}[w.random.IntN(5)]
	owner := w.random.IntN(3)
	flags := []uint{0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[w.random.IntN(5)]
	at := unix.NsecToTimespec(w.random.Int64N(1_700_000_000_000_000_000))
	write := func(how string, openFlags int) {
		w.both(fmt.Sprintf("%s %s %d+%d", how, name, off, size), func(root string) error {
			fd, err := unix.Open(filepath.Join(root, name), openFlags|unix.O_CLOEXEC, 0o644)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return pwriteAll(fd, bytesOf(seed, size), off)
		})
	}
	path := func(root string) string { return filepath.Join(root, name) }
	what := w.random.IntN(18)
	if letter == "d" && what < 8 {
		w.both("mkdir "+name, func(root string) error { return unix.Mkdir(path(root), 0o755) })
		return
	}
	switch what {
	case 0, 1, 2, 7:
		write("create", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY)
	case 3, 4:
		write("write", unix.O_RDWR)
	case 5:
		write("replace", unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY)
	case 6:
		w.both(fmt.Sprint("truncate ", name, size), func(root string) error { return unix.Truncate(path(root), int64(size)) })
	case 8, 9:
		w.both(fmt.Sprint("rename ", name, other, flags), func(root string) error {
			return unix.Renameat2(unix.AT_FDCWD, path(root), unix.AT_FDCWD, filepath.Join(root, other), flags)
		})
	case 10:
		w.both("link "+name+" "+other, func(root string) error { return unix.Link(path(root), filepath.Join(root, other)) })
	case 11:
		name = w.name("f")
		w.both("symlink "+name, func(root string) error { return unix.Symlink("to/"+other, path(root)) })
	case 12:
		w.both("unlink "+name, func(root string) error { return unix.Unlink(path(root)) })
	case 13:
		w.both("rmdir "+name, func(root string) error { return unix.Rmdir(path(root)) })
	case 14, 16:
		w.both(fmt.Sprintf("chmod %s %o", name, mode), func(root string) error { return unix.Chmod(path(root), mode) })
		w.both("chown "+name, func(root string) error { return unix.Lchown(path(root), owner, owner+1) })
	case 15, 17:
		w.both("utimens "+name, func(root string) error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, path(root), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
		})
	}
}

// sameTimes gives every file the same time in both, so that trees can be compared
// with their times: those that a write left are the clock's.
func (w *twins) sameTimes() {
	w.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(treeOf(w.t, w.bare))) {
		at := unix.NsecToTimespec(1_600_000_000_000_000_000 + int64(len(w.trace)))
		w.both("utimens "+name, func(root string) error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, name), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
		})
	}
}

// restartTwins goes on with the same tree in another daemon.
func restartTwins(z *zone, kill bool) {
	z.t.Helper()
	if kill {
		z.kill()
	} else {
		z.umount()
	}
	z.mount()
}
