package share

import (
	"math"
	"os"

	"golang.org/x/sys/unix"

	"depotfs/cache/catalog"
)

// Stat is what the share says about a file. Times are ns since 1970.
type Stat struct {
	Dev                 uint64
	Ino                 uint64
	Mode                uint32 // type and permissions
	Nlink               uint32
	UID, GID            uint32
	Rdev                uint32
	Size                int64
	Blocks              int64 // 512-byte units
	Atime, Mtime, Ctime int64
}

// Stamp is what identifies the content.
func (st Stat) Stamp() catalog.Stamp {
	return catalog.Stamp{Ino: st.Ino, Size: st.Size, Mtime: st.Mtime, Ctime: st.Ctime}
}

// Type returns the S_IFMT bits.
func (st Stat) Type() uint32 { return st.Mode & unix.S_IFMT }

// IsDir says whether it is a directory.
func (st Stat) IsDir() bool { return st.Type() == unix.S_IFDIR }

// IsRegular says whether it is a regular file.
func (st Stat) IsRegular() bool { return st.Type() == unix.S_IFREG }

// Stat describes a name, never what a symlink points to. On network file systems
// the answer may be as old as their attribute cache.
func (s *Share) Stat(rel string) (Stat, error) { return s.stat("stat", rel, 0) }

// StatSync is Stat with the server asked.
func (s *Share) StatSync(rel string) (Stat, error) {
	return s.stat("statsync", rel, unix.AT_STATX_FORCE_SYNC)
}

func (s *Share) stat(op, rel string, flags int) (st Stat, err error) {
	err = s.on(op, rel, func(dirfd int, name string) error {
		st, err = statAt(dirfd, name, flags|unix.AT_SYMLINK_NOFOLLOW)
		return err
	})
	return st, err
}

// StatFile describes an open file; sync asks the server. The seam is told the
// name that the file was opened by.
func (s *Share) StatFile(f *os.File, sync bool) (st Stat, err error) {
	if err := s.ask("statfile", f.Name()); err != nil {
		return Stat{}, err
	}
	flags := 0
	if sync {
		flags = unix.AT_STATX_FORCE_SYNC
	}
	err = withFd(f, func(fd int) error {
		st, err = statFd(fd, flags)
		return err
	})
	if err != nil {
		return Stat{}, &os.PathError{Op: "statfile", Path: f.Name(), Err: err}
	}
	return st, nil
}

func statFd(fd, flags int) (Stat, error) { return statAt(fd, "", flags|unix.AT_EMPTY_PATH) }

func statAt(dirfd int, name string, flags int) (Stat, error) {
	var x unix.Statx_t
	err := again(func() error { return unix.Statx(dirfd, name, flags|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS, &x) })
	if err != nil {
		return Stat{}, err
	}
	return Stat{
		Dev: unix.Mkdev(x.Dev_major, x.Dev_minor), Ino: x.Ino,
		Mode: uint32(x.Mode), Nlink: x.Nlink, UID: x.Uid, GID: x.Gid,
		Rdev: uint32(unix.Mkdev(x.Rdev_major, x.Rdev_minor)),
		Size: int64(x.Size), Blocks: int64(x.Blocks),
		Atime: nanoseconds(x.Atime), Mtime: nanoseconds(x.Mtime), Ctime: nanoseconds(x.Ctime),
	}, nil
}

// second in nanoseconds.
const second = int64(1e9)

// nanoseconds since 1970; times that 64 bits of them cannot hold (before 1677, after
// 2262) are the nearest that they can. File systems keep longer ones.
func nanoseconds(t unix.StatxTimestamp) int64 {
	switch {
	case t.Sec >= math.MaxInt64/second:
		return math.MaxInt64
	case t.Sec <= math.MinInt64/second:
		return math.MinInt64 / second * second
	}
	return t.Sec*second + int64(t.Nsec)
}

// Chmod sets the permission bits of a file, directory or special file; a
// symlink, which has none, is EOPNOTSUPP.
func (s *Share) Chmod(rel string, mode uint32) error {
	return s.on("chmod", rel, func(dirfd int, name string) error {
		// fchmodat follows symlinks and fchmodat2 is too new (Linux 6.6): pin the
		// inode and change it through /proc.
		fd, err := openat2(dirfd, name, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		st, err := statFd(fd, 0)
		if err != nil {
			return err
		}
		if st.Type() == unix.S_IFLNK {
			return unix.EOPNOTSUPP
		}
		return again(func() error { return unix.Chmod(procPath(fd), mode&0o7777) })
	})
}

// Chown sets the owner of a name, of a symlink itself; -1 keeps.
func (s *Share) Chown(rel string, uid, gid int) error {
	return s.on("chown", rel, func(dirfd int, name string) error {
		return again(func() error { return unix.Fchownat(dirfd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW) })
	})
}

// UtimeNow is the time that makes Utimes use the share's own clock.
const UtimeNow int64 = math.MinInt64

// Utimes sets the times of a name, of a symlink itself, in ns since 1970; nil
// keeps a time, UtimeNow is the present.
func (s *Share) Utimes(rel string, atime, mtime *int64) error {
	return s.on("utimes", rel, func(dirfd int, name string) error {
		ts := []unix.Timespec{timespec(atime), timespec(mtime)}
		return again(func() error { return unix.UtimesNanoAt(dirfd, name, ts, unix.AT_SYMLINK_NOFOLLOW) })
	})
}

// UtimesFile is Utimes for an open file, whatever names it has.
func (s *Share) UtimesFile(f *os.File, atime, mtime *int64) error {
	if err := s.ask("utimesfile", f.Name()); err != nil {
		return err
	}
	err := withFd(f, func(fd int) error {
		ts := []unix.Timespec{timespec(atime), timespec(mtime)}
		return again(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), ts, 0) })
	})
	if err != nil {
		return &os.PathError{Op: "utimes", Path: f.Name(), Err: err}
	}
	return nil
}

func timespec(ns *int64) unix.Timespec {
	switch {
	case ns == nil:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case *ns == UtimeNow:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	sec, nsec := *ns/1e9, *ns%1e9
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	return unix.Timespec{Sec: sec, Nsec: nsec}
}
