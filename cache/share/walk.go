package share

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// beneath is how every path is resolved: it stays below the directory it starts
// from and passes no symlink, so a name planted in the share leads nowhere.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// maxPath is the longest path that one system call takes, without its NUL.
const maxPath = unix.PathMax - 1

// validPath refuses what is no path relative to the root. The kernel would catch
// most of it; the last name, though, is handed to calls that know no RESOLVE flags.
func validPath(rel string) error {
	if rel == "" {
		return nil
	}
	if strings.IndexByte(rel, 0) >= 0 {
		return unix.EINVAL
	}
	for rest, more := rel, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if name == "" || name == "." || name == ".." {
			return unix.EINVAL
		}
		if len(name) > unix.NAME_MAX {
			return unix.ENAMETOOLONG
		}
	}
	return nil
}

// parentDir is the directory that a path's last name is in.
type parentDir struct {
	fd   int
	name string
	own  bool // fd is to be closed
}

func (p parentDir) close() {
	if p.own {
		unix.Close(p.fd)
	}
}

// parent opens the directory of rel; the root is its own.
func (s *root) parent(rel string) (parentDir, error) {
	if rel == "" {
		return parentDir{fd: s.fd, name: "."}, nil
	}
	cut := strings.LastIndexByte(rel, '/')
	if cut < 0 {
		return parentDir{fd: s.fd, name: rel}, nil
	}
	fd, err := s.open(rel[:cut], unix.O_PATH|unix.O_DIRECTORY, 0)
	return parentDir{fd: fd, name: rel[cut+1:], own: true}, err
}

// open is openat2 of a path of any length below the root.
func (s *root) open(rel string, flags int, mode uint32) (int, error) {
	dirfd := s.fd
	defer func() {
		if dirfd != s.fd {
			unix.Close(dirfd)
		}
	}()
	for len(rel) > maxPath {
		cut := strings.LastIndexByte(rel[:maxPath+1], '/')
		fd, err := openat2(dirfd, rel[:cut], unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return -1, err
		}
		if dirfd != s.fd {
			unix.Close(dirfd)
		}
		dirfd, rel = fd, rel[cut+1:]
	}
	if rel == "" {
		rel = "."
	}
	return openat2(dirfd, rel, flags, mode)
}

// openat2 resolves beneath dirfd. The kernel answers EAGAIN where a rename
// somewhere disturbed the walk.
func openat2(dirfd int, path string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: beneath,
	}
	if flags&unix.O_CREAT != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE {
		how.Mode = uint64(mode & 0o7777) // openat2 refuses a mode where nothing is made
	}
	const patience = 1000 // renames that meet one and the same walk
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dirfd, path, &how)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EINTR) && !(errors.Is(err, unix.EAGAIN) && try < patience) {
			return -1, err
		}
	}
}

// retry repeats a call that a signal interrupted: Go's runtime sends many.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

// again is retry for calls that return nothing.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// procPath names an open file for calls that take no descriptor of O_PATH.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
