package share

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// readBuffer is how much of a directory one getdents returns: some hundred to a
// thousand names, so that a large directory costs few round trips over NFS.
const readBuffer = 64 << 10

// ReadDir calls fn for each name of a directory but "." and "..", in the file
// system's order, with the inode number and the S_IFMT bits. It reads as it goes:
// what changes meanwhile may or may not be seen. fn's error ends it and is
// returned as it is.
func (s *Share) ReadDir(rel string, fn func(name string, ino uint64, typ uint32) error) error {
	if err := s.check("readdir", rel); err != nil {
		return err
	}
	fd, err := s.root.open(rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return &os.PathError{Op: "readdir", Path: rel, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, readBuffer)
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, buf) })
		if err != nil {
			return &os.PathError{Op: "readdir", Path: rel, Err: err}
		}
		if n == 0 {
			return nil
		}
		for rest := buf[:n]; len(rest) > 0; {
			var e dirent
			if e, rest, err = parseDirent(rest); err != nil {
				return &os.PathError{Op: "readdir", Path: rel, Err: err}
			}
			if e.name == "." || e.name == ".." || e.ino == 0 {
				continue
			}
			if e.typ == 0 { // the file system does not say
				st, err := statAt(fd, e.name, unix.AT_SYMLINK_NOFOLLOW)
				if errors.Is(err, unix.ENOENT) {
					continue
				}
				if err != nil {
					return &os.PathError{Op: "readdir", Path: rel, Err: err}
				}
				e.typ = st.Type()
			}
			if err := fn(e.name, e.ino, e.typ); err != nil {
				return err
			}
		}
	}
}

type dirent struct {
	name string
	ino  uint64
	typ  uint32 // S_IFMT bits, 0 = unknown
}

// parseDirent reads one linux_dirent64: ino 8, offset 8, length 2, type 1, name.
func parseDirent(b []byte) (e dirent, rest []byte, err error) {
	const header = 19
	if len(b) < header {
		return e, nil, unix.EIO
	}
	size := int(binary.NativeEndian.Uint16(b[16:]))
	if size < header || size > len(b) {
		return e, nil, unix.EIO
	}
	name, _, _ := strings.Cut(string(b[header:size]), "\x00")
	return dirent{name: name, ino: binary.NativeEndian.Uint64(b), typ: uint32(b[18]) << 12}, b[size:], nil
}

// SyncDir makes the names of a directory durable. File systems that cannot sync
// directories (they say EINVAL or EOPNOTSUPP) have nothing to be asked for.
func (s *Share) SyncDir(rel string) error {
	if err := s.check("syncdir", rel); err != nil {
		return err
	}
	fd, err := s.root.open(rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		defer unix.Close(fd)
		err = again(func() error { return unix.Fsync(fd) })
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			err = nil
		}
	}
	if err != nil {
		return &os.PathError{Op: "syncdir", Path: rel, Err: err}
	}
	return nil
}

// RemoveAll removes a name below Private and everything in it; what is not there
// is no error. It refuses any other place.
func (s *Share) RemoveAll(rel string) error {
	if !strings.HasPrefix(rel, Private+"/") {
		return &os.PathError{Op: "removeall", Path: rel, Err: fmt.Errorf("not below %s: %w", Private, unix.EPERM)}
	}
	return s.removeAll(rel)
}

func (s *Share) removeAll(rel string) error {
	err := s.Unlink(rel)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	// Linux says EISDIR for a directory, POSIX EPERM.
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	const rounds = 3 // somebody may still be adding names
	for range rounds {
		var names []string
		rerr := s.ReadDir(rel, func(name string, _ uint64, _ uint32) error {
			names = append(names, name)
			return nil
		})
		if errors.Is(rerr, unix.ENOTDIR) {
			return err
		}
		if rerr != nil {
			return ignoreNotExist(rerr)
		}
		for _, name := range names {
			if err := s.removeAll(rel + "/" + name); err != nil {
				return err
			}
		}
		if err = s.Rmdir(rel); !errors.Is(err, unix.ENOTEMPTY) {
			break
		}
	}
	return ignoreNotExist(err)
}
