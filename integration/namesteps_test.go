package integration

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// operation is one word of the checks' language; it says what was answered.
type operation func(m *machine, a []string) string

var operations = merged(nameSteps, fileSteps, attrSteps)

func merged(tables ...map[string]operation) map[string]operation {
	all := map[string]operation{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}

var renameFlags = map[string]int{"noreplace": unix.RENAME_NOREPLACE, "exchange": unix.RENAME_EXCHANGE, "whiteout": unix.RENAME_WHITEOUT}

var nodeTypes = map[string]int{"file": unix.S_IFREG, "fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "block": unix.S_IFBLK, "char": unix.S_IFCHR, "dir": unix.S_IFDIR, "none": 0}

// nameSteps are the calls that make, change, remove and list names.
var nameSteps = map[string]operation{
	// as UID GID [GROUP,GROUP…]
	"as": func(m *machine, a []string) string {
		var groups []int
		for g := range strings.SplitSeq(arg(a, 2, ""), ",") {
			if g != "" {
				groups = append(groups, int(number(g)))
			}
		}
		return answer(m.become(int(number(a[0])), int(number(a[1])), groups))
	},
	"root":  func(m *machine, a []string) string { return answer(m.become(0, 0, nil)) },
	"umask": func(m *machine, a []string) string { unix.Umask(int(number("0" + a[0]))); return "ok" },
	"cd":    func(m *machine, a []string) string { return answer(unix.Chdir(a[0])) },
	"mkdir": func(m *machine, a []string) string { return answer(unix.Mkdir(a[0], octal(arg(a, 1, "755")))) },
	"rmdir": func(m *machine, a []string) string { return answer(unix.Rmdir(a[0])) },
	"unlink": func(m *machine, a []string) string {
		return answer(unix.Unlink(a[0]))
	},
	"symlink":  func(m *machine, a []string) string { return answer(unix.Symlink(a[0], a[1])) },
	"readlink": func(m *machine, a []string) string { return readlink(a[0]) },
	"mkfifo":   func(m *machine, a []string) string { return answer(unix.Mkfifo(a[0], octal(arg(a, 1, "644")))) },
	// mknod PATH TYPE MODE [MAJOR MINOR]
	"mknod": func(m *machine, a []string) string {
		dev := unix.Mkdev(uint32(number(arg(a, 3, "0"))), uint32(number(arg(a, 4, "0"))))
		return answer(unix.Mknod(a[0], uint32(nodeTypes[a[1]])|octal(a[2]), int(dev)))
	},
	// make TYPE PATH makes one of that type, whatever call that takes.
	"make": func(m *machine, a []string) string { return answer(makeNode(a[0], a[1])) },
	// link OLD NEW [follow]
	"link": func(m *machine, a []string) string {
		flags := 0
		if arg(a, 2, "") == "follow" {
			flags = unix.AT_SYMLINK_FOLLOW
		}
		return answer(unix.Linkat(unix.AT_FDCWD, a[0], unix.AT_FDCWD, a[1], flags))
	},
	// linkfd FD NEW gives a file that was opened with O_TMPFILE a name.
	"linkfd": func(m *machine, a []string) string {
		return answer(unix.Linkat(m.fd(a[0]), "", unix.AT_FDCWD, a[1], unix.AT_EMPTY_PATH))
	},
	"linkproc": func(m *machine, a []string) string {
		return answer(unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", m.fd(a[0])), unix.AT_FDCWD, a[1], unix.AT_SYMLINK_FOLLOW))
	},
	// rename OLD NEW [FLAG|FLAG]
	"rename": func(m *machine, a []string) string {
		if len(a) < 3 {
			return answer(unix.Rename(a[0], a[1]))
		}
		return answer(unix.Renameat2(unix.AT_FDCWD, a[0], unix.AT_FDCWD, a[1], uint(bits(a[2], renameFlags))))
	},
	// ls PATH lists names and types.
	"ls": func(m *machine, a []string) string {
		entries, err := os.ReadDir(a[0])
		if err != nil {
			return answer(err)
		}
		var names []string
		for _, e := range entries {
			name := e.Name()
			if len(name) > 40 {
				name = fmt.Sprintf("%.20s…%d", name, len(name))
			}
			names = append(names, strconv.Quote(name)+" "+e.Type().String()[:1])
		}
		return strings.Join(names, ",")
	},
	// exists PATH… says which there are.
	"exists": func(m *machine, a []string) string {
		text := ""
		for _, name := range a {
			var st unix.Stat_t
			text += answer(unix.Lstat(name, &st)) + " "
		}
		return text
	},
	// deep NAME N makes N directories in each other and stands in the last.
	"deep": func(m *machine, a []string) string {
		for range number(a[1]) {
			if err := unix.Mkdir(a[0], 0o755); err != nil {
				return answer(err)
			}
			if err := unix.Chdir(a[0]); err != nil {
				return answer(err)
			}
		}
		return "ok"
	},
	// undeep NAME N goes back up and removes them.
	"undeep": func(m *machine, a []string) string {
		for range number(a[1]) {
			if err := unix.Chdir(".."); err != nil {
				return answer(err)
			}
			if err := unix.Rmdir(a[0]); err != nil {
				return answer(err)
			}
		}
		return "ok"
	},
	// many DIR N makes files, removeseen DIR lists while it removes what it has seen.
	"many": func(m *machine, a []string) string {
		for i := range number(a[1]) {
			if err := os.WriteFile(fmt.Sprintf("%s/n%05d", a[0], i), nil, 0o644); err != nil {
				return answer(err)
			}
		}
		return "ok"
	},
	"removeseen": func(m *machine, a []string) string {
		dir, err := os.Open(a[0])
		if err != nil {
			return answer(err)
		}
		defer dir.Close()
		seen := []string{}
		for {
			names, err := dir.Readdirnames(37)
			if len(names) == 0 {
				slices.Sort(seen)
				return fmt.Sprintf("%d seen, %d once, %v", len(seen), len(slices.Compact(seen)), err)
			}
			seen = append(seen, names...)
			for _, name := range names {
				if err := unix.Unlink(a[0] + "/" + name); err != nil {
					return answer(err)
				}
			}
		}
	},
}

func octal(text string) uint32 { return uint32(number("0" + text)) }

func readlink(path string) string {
	buf := make([]byte, 8192)
	n, err := unix.Readlink(path, buf)
	if err != nil {
		return answer(err)
	}
	return content(buf[:n])
}

func makeNode(kind, path string) error {
	switch kind {
	case "dir":
		return unix.Mkdir(path, 0o755)
	case "symlink":
		return unix.Symlink("target", path)
	case "block", "char":
		return unix.Mknod(path, uint32(nodeTypes[kind])|0o644, int(unix.Mkdev(1, 3)))
	case "fifo", "socket", "file":
		return unix.Mknod(path, uint32(nodeTypes[kind])|0o644, 0)
	}
	return fmt.Errorf("no type %q", kind)
}
