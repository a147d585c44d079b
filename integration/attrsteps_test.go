package integration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// attrSteps are the calls about attributes.
var attrSteps = map[string]operation{
	"chmod": func(m *machine, a []string) string { return answer(unix.Chmod(a[0], octal(a[1]))) },
	"lchmod": func(m *machine, a []string) string {
		return answer(unix.Fchmodat(unix.AT_FDCWD, a[0], octal(a[1]), unix.AT_SYMLINK_NOFOLLOW))
	},
	"fchmod": func(m *machine, a []string) string { return answer(unix.Fchmod(m.fd(a[0]), octal(a[1]))) },
	// chown PATH UID GID
	"chown": func(m *machine, a []string) string {
		return answer(unix.Chown(a[0], int(number(a[1])), int(number(a[2]))))
	},
	"lchown": func(m *machine, a []string) string {
		return answer(unix.Lchown(a[0], int(number(a[1])), int(number(a[2]))))
	},
	"fchown": func(m *machine, a []string) string {
		return answer(unix.Fchown(m.fd(a[0]), int(number(a[1])), int(number(a[2]))))
	},
	// access PATH rwx asks for the effective user.
	"access": func(m *machine, a []string) string {
		mode := uint32(0)
		for i, c := range "xwr" {
			if strings.ContainsRune(a[1], c) {
				mode |= 1 << i
			}
		}
		return answer(unix.Faccessat(unix.AT_FDCWD, a[0], mode, unix.AT_EACCESS))
	},
	"stat": func(m *machine, a []string) string {
		var st unix.Stat_t
		if err := unix.Lstat(a[0], &st); err != nil {
			return answer(err)
		}
		return describe(&st)
	},
	"statfollow": func(m *machine, a []string) string {
		var st unix.Stat_t
		if err := unix.Stat(a[0], &st); err != nil {
			return answer(err)
		}
		return describe(&st)
	},
	"fstat": func(m *machine, a []string) string {
		var st unix.Stat_t
		if err := unix.Fstat(m.fd(a[0]), &st); err != nil {
			return answer(err)
		}
		return describe(&st)
	},
	// same A B says whether two names are one inode.
	"same": func(m *machine, a []string) string {
		var x, y unix.Stat_t
		if err := unix.Lstat(a[0], &x); err != nil {
			return answer(err)
		}
		if err := unix.Lstat(a[1], &y); err != nil {
			return answer(err)
		}
		return strconv.FormatBool(x.Ino == y.Ino && x.Dev == y.Dev)
	},
	// sparse PATH says whether less is stored than the size.
	"sparse": func(m *machine, a []string) string {
		var st unix.Stat_t
		if err := unix.Stat(a[0], &st); err != nil {
			return answer(err)
		}
		return strconv.FormatBool(st.Blocks*512 < st.Size)
	},
	// mark PATH… remembers the times; moved PATH [MARKED] says which are others now.
	"mark": func(m *machine, a []string) string {
		for _, name := range a {
			var st unix.Stat_t
			if unix.Lstat(name, &st) == nil {
				m.marks[name] = st
			}
		}
		return "ok"
	},
	"moved": func(m *machine, a []string) string {
		var st unix.Stat_t
		if err := unix.Lstat(a[0], &st); err != nil {
			return answer(err)
		}
		return m.moved(&st, arg(a, 1, a[0]))
	},
	"fmoved": func(m *machine, a []string) string {
		var st unix.Stat_t
		if err := unix.Fstat(m.fd(a[0]), &st); err != nil {
			return answer(err)
		}
		return m.moved(&st, a[1])
	},
	// times PATH [a] shows mtime, and atime when asked, and whether ctime is recent.
	"times": func(m *machine, a []string) string {
		var st unix.Stat_t
		if err := unix.Lstat(a[0], &st); err != nil {
			return answer(err)
		}
		return m.times(&st, len(a) > 1)
	},
	"ftimes": func(m *machine, a []string) string {
		var st unix.Stat_t
		if err := unix.Fstat(m.fd(a[0]), &st); err != nil {
			return answer(err)
		}
		return m.times(&st, len(a) > 1)
	},
	// utimes PATH ATIME MTIME [nofollow]; a time is SECONDS[.NANOSECONDS], now or omit.
	"utimes": func(m *machine, a []string) string {
		flags := 0
		if len(a) > 3 {
			flags = unix.AT_SYMLINK_NOFOLLOW
		}
		return answer(unix.UtimesNanoAt(unix.AT_FDCWD, a[0], []unix.Timespec{timeOf(a[1]), timeOf(a[2])}, flags))
	},
	"futimes": func(m *machine, a []string) string {
		path := fmt.Sprintf("/proc/self/fd/%d", m.fd(a[0]))
		return answer(unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{timeOf(a[1]), timeOf(a[2])}, 0))
	},
	// utimesnull PATH sets both to now, as touch does.
	"utimesnull": func(m *machine, a []string) string {
		return answer(unix.Utimes(a[0], nil))
	},
	"setx": func(m *machine, a []string) string {
		flags := map[string]int{"": 0, "create": unix.XATTR_CREATE, "replace": unix.XATTR_REPLACE}[arg(a, 3, "")]
		return answer(unix.Lsetxattr(a[0], a[1], []byte(a[2]), flags))
	},
	"getx": func(m *machine, a []string) string {
		buf := make([]byte, number(arg(a, 2, "70000")))
		n, err := unix.Lgetxattr(a[0], a[1], buf)
		if err != nil {
			return answer(err)
		}
		if len(buf) == 0 {
			return strconv.Itoa(n)
		}
		return content(buf[:n])
	},
	"listx": func(m *machine, a []string) string {
		buf := make([]byte, number(arg(a, 1, "70000")))
		n, err := unix.Llistxattr(a[0], buf)
		if err != nil {
			return answer(err)
		}
		if len(buf) == 0 {
			return strconv.Itoa(n)
		}
		names := strings.Split(string(buf[:n]), "\x00")
		slices.Sort(names)
		return strings.Join(names, ",")
	},
	"rmx": func(m *machine, a []string) string { return answer(unix.Lremovexattr(a[0], a[1])) },
	"fsetx": func(m *machine, a []string) string {
		return answer(unix.Fsetxattr(m.fd(a[0]), a[1], []byte(a[2]), 0))
	},
	// statfs PATH shows what does not depend on what else happens on the disk.
	"statfs": func(m *machine, a []string) string {
		var st unix.Statfs_t
		if err := unix.Statfs(a[0], &st); err != nil {
			return answer(err)
		}
		return fmt.Sprintf("bsize=%d namelen=%d some=%v free<=all=%v", st.Bsize, st.Namelen, st.Blocks > 0 && st.Files > 0, st.Bfree <= st.Blocks && st.Bavail <= st.Bfree)
	},
}

func (m *machine) moved(st *unix.Stat_t, marked string) string {
	was, ok := m.marks[marked]
	if !ok {
		return "there is no mark"
	}
	return fmt.Sprintf("mtime %s, ctime %s", movement(was.Mtim, st.Mtim), movement(was.Ctim, st.Ctim))
}

func (m *machine) times(st *unix.Stat_t, atime bool) string {
	recent := "old"
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &now)
	switch {
	case movement(st.Ctim, now) == "goes back":
		recent = "in the future"
	case movement(m.born, st.Ctim) != "goes back":
		recent = "recent"
	}
	text := fmt.Sprintf("mtime %s, ctime %s", m.point(st.Mtim, now), recent)
	if atime {
		text += ", atime " + m.point(st.Atim, now)
	}
	return text
}

// point is a time as text: one that the check set, or "recent".
func (m *machine) point(t, now unix.Timespec) string {
	if movement(m.born, t) != "goes back" && movement(t, now) != "goes back" {
		return "recent"
	}
	if t.Sec > now.Sec-3600 && t.Sec <= now.Sec {
		return "of this run"
	}
	return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec)
}

func timeOf(text string) unix.Timespec {
	switch text {
	case "now":
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case "omit":
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	sec, nsec, _ := strings.Cut(text, ".")
	t := unix.Timespec{Sec: number(sec)}
	if nsec != "" {
		n, err := strconv.ParseInt(nsec, 10, 64)
		if err != nil {
			panic(err)
		}
		t.Nsec = n
	}
	return t
}
