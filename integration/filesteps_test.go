package integration

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

var openFlags = map[string]int{
	"r": unix.O_RDONLY, "w": unix.O_WRONLY, "rw": unix.O_RDWR, "creat": unix.O_CREAT, "excl": unix.O_EXCL, "trunc": unix.O_TRUNC,
	"append": unix.O_APPEND, "nofollow": unix.O_NOFOLLOW, "directory": unix.O_DIRECTORY, "tmpfile": unix.O_TMPFILE, "direct": unix.O_DIRECT,
	"sync": unix.O_SYNC, "dsync": unix.O_DSYNC, "nonblock": unix.O_NONBLOCK, "path": unix.O_PATH, "noatime": unix.O_NOATIME,
}

// alwaysFlags go with every open: a FIFO without another end must not stop a worker.
const alwaysFlags = unix.O_CLOEXEC | unix.O_NONBLOCK

var allocModes = map[string]int{
	"keep": unix.FALLOC_FL_KEEP_SIZE, "punch": unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, "punchonly": unix.FALLOC_FL_PUNCH_HOLE,
	"zero": unix.FALLOC_FL_ZERO_RANGE, "collapse": unix.FALLOC_FL_COLLAPSE_RANGE, "insert": unix.FALLOC_FL_INSERT_RANGE,
	"unshare": unix.FALLOC_FL_UNSHARE_RANGE,
}

var seeks = map[string]int{"set": unix.SEEK_SET, "cur": unix.SEEK_CUR, "end": unix.SEEK_END, "data": unix.SEEK_DATA, "hole": unix.SEEK_HOLE}

// direct is what O_DIRECT wants memory, offsets and lengths to be multiples of.
const directAlign = 4096

// aligned is memory whose address is a multiple of directAlign, plus shift.
func aligned(n, shift int) []byte {
	b := make([]byte, n+2*directAlign)
	at := directAlign - int(uintptr(unsafe.Pointer(&b[0]))%directAlign) + shift
	return b[at : at+n]
}

// fileSteps are the calls that open files and move bytes.
var fileSteps = map[string]operation{
	// open NAME PATH FLAG|FLAG [MODE]
	"open": func(m *machine, a []string) string {
		fd, err := unix.Open(a[1], bits(a[2], openFlags)|alwaysFlags, octal(arg(a, 3, "644")))
		if err != nil {
			return answer(err)
		}
		m.close(a[0])
		m.fds[a[0]] = fd
		return "ok"
	},
	// try PATH FLAG|FLAG [MODE] opens and closes.
	"try": func(m *machine, a []string) string {
		fd, err := unix.Open(a[0], bits(a[1], openFlags)|alwaysFlags, octal(arg(a, 2, "644")))
		if err == nil {
			err = unix.Close(fd)
		}
		return answer(err)
	},
	// reopen NAME FD FLAGS opens what a descriptor shows.
	"reopen": func(m *machine, a []string) string {
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", m.fd(a[1])), bits(a[2], openFlags)|alwaysFlags, 0)
		if err == nil {
			m.close(a[0])
			m.fds[a[0]] = fd
		}
		return answer(err)
	},
	"close": func(m *machine, a []string) string { return answer(m.close(a[0])) },
	// fill PATH SIZE [SEED] writes a whole file.
	"fill": func(m *machine, a []string) string {
		return answer(os.WriteFile(a[0], patterned(int(number(a[1])), byte(number(arg(a, 2, "1")))), 0o644))
	},
	"put": func(m *machine, a []string) string { return answer(os.WriteFile(a[0], []byte(a[1]), 0o644)) },
	// cat PATH says what is in a file.
	"cat": func(m *machine, a []string) string {
		b, err := os.ReadFile(a[0])
		if err != nil {
			return answer(err)
		}
		return content(b)
	},
	// write FD TEXT [OFFSET]; pattern FD SIZE OFFSET [SEED]
	"write": func(m *machine, a []string) string {
		if len(a) < 3 {
			return count(unix.Write(m.fd(a[0]), []byte(a[1])))
		}
		return count(unix.Pwrite(m.fd(a[0]), []byte(a[1]), number(a[2])))
	},
	"pattern": func(m *machine, a []string) string {
		return count(unix.Pwrite(m.fd(a[0]), patterned(int(number(a[1])), byte(number(arg(a, 3, "2")))), number(a[2])))
	},
	// read FD N [OFFSET]
	"read": func(m *machine, a []string) string {
		buf := make([]byte, number(a[1]))
		n, err := 0, error(nil)
		if len(a) < 3 {
			n, err = unix.Read(m.fd(a[0]), buf)
		} else {
			n, err = unix.Pread(m.fd(a[0]), buf, number(a[2]))
		}
		if err != nil {
			return answer(err)
		}
		return content(buf[:n])
	},
	// dwrite FD N OFFSET [SHIFT]; dread FD N OFFSET [SHIFT]: with memory at a page
	// boundary plus SHIFT.
	"dwrite": func(m *machine, a []string) string {
		buf := aligned(int(number(a[1])), int(number(arg(a, 3, "0"))))
		copy(buf, patterned(len(buf), 7))
		return count(unix.Pwrite(m.fd(a[0]), buf, number(a[2])))
	},
	"dread": func(m *machine, a []string) string {
		buf := aligned(int(number(a[1])), int(number(arg(a, 3, "0"))))
		n, err := unix.Pread(m.fd(a[0]), buf, number(a[2]))
		if err != nil {
			return answer(err)
		}
		return content(buf[:n])
	},
	// dtry FD N OFFSET SHIFT reads with O_DIRECT what need not be possible: where it
	// is, the bytes must be right. It writes them back the same way.
	"dtry": func(m *machine, a []string) string {
		return tryDirect(m.fd(a[0]), int(number(a[1])), number(a[2]), int(number(a[3])))
	},
	// readbad and writebad give the kernel memory that is not there.
	"readbad":  func(m *machine, a []string) string { return badMemory(unix.SYS_PREAD64, m.fd(a[0])) },
	"writebad": func(m *machine, a []string) string { return badMemory(unix.SYS_PWRITE64, m.fd(a[0])) },
	"lseek": func(m *machine, a []string) string {
		off, err := unix.Seek(m.fd(a[0]), number(a[1]), bits(a[2], seeks))
		return count(int(off), err)
	},
	"truncate":  func(m *machine, a []string) string { return answer(unix.Truncate(a[0], number(a[1]))) },
	"ftruncate": func(m *machine, a []string) string { return answer(unix.Ftruncate(m.fd(a[0]), number(a[1]))) },
	"fsync":     func(m *machine, a []string) string { return answer(unix.Fsync(m.fd(a[0]))) },
	"fdatasync": func(m *machine, a []string) string { return answer(unix.Fdatasync(m.fd(a[0]))) },
	"syncrange": func(m *machine, a []string) string {
		return answer(unix.SyncFileRange(m.fd(a[0]), 0, 0, unix.SYNC_FILE_RANGE_WRITE))
	},
	// fallocate FD MODE|MODE OFFSET LENGTH
	"fallocate": func(m *machine, a []string) string {
		return answer(unix.Fallocate(m.fd(a[0]), uint32(bits(a[1], allocModes)), number(a[2]), number(a[3])))
	},
	// copy FROM OFFSET TO OFFSET LENGTH repeats until nothing comes any more.
	"copy": func(m *machine, a []string) string {
		from, to, left, sum := number(a[1]), number(a[3]), number(a[4]), 0
		for left > 0 {
			n, err := unix.CopyFileRange(m.fd(a[0]), &from, m.fd(a[2]), &to, int(left), 0)
			if err != nil {
				return answer(err)
			}
			if n == 0 {
				break
			}
			sum, left = sum+n, left-int64(n)
		}
		return strconv.Itoa(sum)
	},
	// sendfile TO FROM OFFSET LENGTH
	"sendfile": func(m *machine, a []string) string {
		off, left, sum := number(a[2]), number(a[3]), 0
		for left > 0 {
			n, err := unix.Sendfile(m.fd(a[0]), m.fd(a[1]), &off, int(left))
			if err != nil {
				return answer(err)
			}
			if n == 0 {
				break
			}
			sum, left = sum+n, left-int64(n)
		}
		return strconv.Itoa(sum)
	},
	// splice FROM OFFSET TO OFFSET LENGTH by way of a pipe.
	"splice": func(m *machine, a []string) string {
		n, err := splice(m.fd(a[0]), number(a[1]), m.fd(a[2]), number(a[3]), int(number(a[4])))
		return count(n, err)
	},
	"flock": func(m *machine, a []string) string {
		return answer(unix.Flock(m.fd(a[0]), bits(a[1], map[string]int{"sh": unix.LOCK_SH, "ex": unix.LOCK_EX, "un": unix.LOCK_UN, "nb": unix.LOCK_NB})))
	},
	// lock FD r|w|u START LENGTH sets a lock of the open file description.
	"lock": func(m *machine, a []string) string {
		l := unix.Flock_t{Type: int16(map[string]int{"r": unix.F_RDLCK, "w": unix.F_WRLCK, "u": unix.F_UNLCK}[a[1]]), Start: number(a[2]), Len: number(a[3])}
		return answer(unix.FcntlFlock(uintptr(m.fd(a[0])), unix.F_OFD_SETLK, &l))
	},
	"getlock": func(m *machine, a []string) string {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: number(a[1]), Len: number(a[2])}
		if err := unix.FcntlFlock(uintptr(m.fd(a[0])), unix.F_OFD_GETLK, &l); err != nil {
			return answer(err)
		}
		return fmt.Sprint(l.Type, l.Start, l.Len)
	},
	// map NAME FD OFFSET LENGTH r|rw shared|private
	"map": func(m *machine, a []string) string {
		prot, flags := unix.PROT_READ, unix.MAP_SHARED
		if a[4] == "rw" {
			prot |= unix.PROT_WRITE
		}
		if a[5] == "private" {
			flags = unix.MAP_PRIVATE
		}
		b, err := unix.Mmap(m.fd(a[1]), number(a[2]), int(number(a[3])), prot, flags)
		if err == nil {
			m.maps[a[0]] = b
		}
		return answer(err)
	},
	"store": func(m *machine, a []string) string { copy(m.maps[a[0]][number(a[1]):], a[2]); return "ok" },
	"load": func(m *machine, a []string) string {
		off := number(a[1])
		return content(append([]byte(nil), m.maps[a[0]][off:off+number(a[2])]...))
	},
	"msync": func(m *machine, a []string) string { return answer(unix.Msync(m.maps[a[0]], unix.MS_SYNC)) },
	"unmap": func(m *machine, a []string) string {
		b := m.maps[a[0]]
		delete(m.maps, a[0])
		return answer(unix.Munmap(b))
	},
	// bind PATH makes a socket by the call that servers use, connect PATH asks it.
	"bind":    func(m *machine, a []string) string { return bindSocket(m, a[0], a[1]) },
	"connect": func(m *machine, a []string) string { return connectSocket(a[0]) },
	// fdpath FD NAME FLAGS opens below a directory that is open.
	"openat": func(m *machine, a []string) string {
		fd, err := unix.Openat(m.fd(a[1]), a[2], bits(a[3], openFlags)|alwaysFlags, 0o644)
		if err == nil {
			m.fds[a[0]] = fd
		}
		return answer(err)
	},
	"lsfd": func(m *machine, a []string) string {
		buf := make([]byte, 4096)
		n, err := unix.Getdents(m.fd(a[0]), buf)
		if err != nil {
			return answer(err)
		}
		return strconv.FormatBool(n > 0)
	},
}

func tryDirect(fd, n int, off int64, shift int) string {
	const allowed = "right or EINVAL"
	buf := aligned(n, shift)
	got, err := unix.Pread(fd, buf, off)
	if err == unix.EINVAL {
		return allowed
	}
	if err != nil {
		return answer(err)
	}
	want, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return answer(err)
	}
	size := int64(len(want))
	if diff := difference(buf[:got], want[min(off, size):min(off+int64(n), size)]); diff != "" {
		return diff
	}
	if w, err := unix.Pwrite(fd, buf[:got], off); err != unix.EINVAL && (err != nil || w != got) {
		return "write back: " + count(w, err)
	}
	return allowed
}

func badMemory(call uintptr, fd int) string {
	n, _, errno := unix.Syscall6(call, uintptr(fd), 8, 4096, 0, 0, 0)
	if errno != 0 {
		return unix.ErrnoName(errno)
	}
	return strconv.Itoa(int(n))
}

func splice(from int, fromOff int64, to int, toOff int64, n int) (int, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	sum := 0
	for sum < n {
		in, err := unix.Splice(from, &fromOff, pipe[1], nil, min(n-sum, 32<<10), 0)
		if err != nil || in == 0 {
			return sum, err
		}
		for in > 0 {
			out, err := unix.Splice(pipe[0], nil, to, &toOff, int(in), 0)
			if err != nil {
				return sum, err
			}
			in -= out
			sum += int(out)
		}
	}
	return sum, nil
}

func bindSocket(m *machine, name, path string) string {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return answer(err)
	}
	m.fds[name] = fd
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return answer(err)
	}
	return answer(unix.Listen(fd, 1))
}

func connectSocket(path string) string {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return answer(err)
	}
	defer unix.Close(fd)
	return answer(unix.Connect(fd, &unix.SockaddrUnix{Name: strings.TrimPrefix(path, "./")}))
}
