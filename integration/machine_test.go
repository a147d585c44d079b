package integration

import (
	"errors"
	"fmt"
	"hash/crc32"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// check is a list of steps, one to a line, that is run in two directories and must
// be answered the same in both. A line is an operation (operations) and its
// arguments: bare words, Go strings in quotes, and {text*N} for text N times over.
//
// A line of dashes is the barrier. What is before it makes files; what is after it
// works on them, and may find that their bytes are only in the store. No descriptor
// is open across it, and mark takes stats that moved is compared with: the clock
// is known to have moved on in between.
type check struct {
	name   string
	script string
}

const barrier = "---"

// phases are the steps before and after the barrier; without one all are after it.
func (c check) phases() (before, after []string) {
	var steps []string
	for line := range strings.Lines(c.script) {
		if line = strings.TrimSpace(line); line == barrier {
			before, steps = steps, nil
		} else if line != "" {
			steps = append(steps, line)
		}
	}
	return before, steps
}

// machine executes the steps of one check. Credentials, umask and working directory
// are those of its thread alone, so that a step costs one system call.
type machine struct {
	dir   string
	fds   map[string]int
	maps  map[string][]byte
	marks map[string]unix.Stat_t
	born  unix.Timespec // when the second part began
	said  []string      // one line per step: what it answered

	doing *atomic.Pointer[string] // the step under way
}

func newMachine(dir string, doing *atomic.Pointer[string]) *machine {
	return &machine{dir: dir, doing: doing, fds: map[string]int{}, maps: map[string][]byte{}, marks: map[string]unix.Stat_t{}}
}

// run executes steps as root with umask 022 in the check's directory.
func (m *machine) run(steps []string) {
	_ = unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &m.born)
	if err := unix.Chdir(m.dir); err != nil {
		m.said = append(m.said, fmt.Sprintf("chdir %s: %v", m.dir, err))
		return
	}
	unix.Umask(0o022)
	for _, line := range steps {
		m.doing.Store(&line)
		m.said = append(m.said, line+" = "+m.step(line))
	}
	m.become(0, 0, nil)
	for name := range m.fds {
		m.close(name)
	}
	for name := range m.maps {
		_ = unix.Munmap(m.maps[name])
		delete(m.maps, name)
	}
}

func (m *machine) step(line string) (answer string) {
	args, err := words(line)
	if err != nil {
		return "BAD STEP: " + err.Error()
	}
	do, ok := operations[args[0]]
	if !ok {
		return "BAD STEP: no such operation"
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			if e, ok := p.(interface{ Addr() uintptr }); ok && e.Addr() != 0 {
				answer = "SIGBUS"
				return
			}
			answer = fmt.Sprint("BAD STEP: ", p)
		}
	}()
	return do(m, args[1:])
}

// words splits a line.
func words(line string) (found []string, err error) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " ") {
		var word string
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", line, err)
			}
			line = line[len(quoted):]
			if word, err = strconv.Unquote(quoted); err != nil {
				return nil, err
			}
		} else {
			word, line, _ = strings.Cut(line, " ")
		}
		found = append(found, repeats(word))
	}
	return found, nil
}

// repeats expands {text*N}.
func repeats(word string) string {
	for {
		before, rest, ok := strings.Cut(word, "{")
		text, after, ok2 := strings.Cut(rest, "}")
		text, times, ok3 := strings.Cut(text, "*")
		n, err := strconv.Atoi(times)
		if !ok || !ok2 || !ok3 || err != nil {
			return word
		}
		word = before + strings.Repeat(text, n) + after
	}
}

// become changes the credentials of this thread. The saved user id stays root's, so
// that the way back is open; no permission check looks at it.
func (m *machine) become(uid, gid int, groups []int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
	list := make([]uint32, len(groups)+1)
	for i, g := range groups {
		list[i] = uint32(g)
	}
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&list[0])), 0)
	}
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid))
	}
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), 0)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

func (m *machine) close(name string) error {
	fd, ok := m.fds[name]
	if !ok {
		return unix.EBADF
	}
	delete(m.fds, name)
	return unix.Close(fd)
}

// fd is an open descriptor by name, or a number.
func (m *machine) fd(name string) int {
	if fd, ok := m.fds[name]; ok {
		return fd
	}
	if n, err := strconv.Atoi(name); err == nil {
		return n
	}
	return -1
}

// answer is an error as its name.
func answer(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// count is what a call that counts answers.
func count(n int, err error) string {
	if err != nil {
		return answer(err)
	}
	return strconv.Itoa(n)
}

// content is bytes in a few letters.
func content(b []byte) string {
	if len(b) <= 48 {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%d bytes, sum %08x", len(b), crc32.ChecksumIEEE(b))
}

func arg(args []string, i int, otherwise string) string {
	if i < len(args) {
		return args[i]
	}
	return otherwise
}

// number reads decimal, octal (0…) and hexadecimal numbers and sums of them.
func number(text string) int64 {
	var sum int64
	for part := range strings.SplitSeq(text, "+") {
		n, err := strconv.ParseInt(part, 0, 64)
		if err != nil {
			panic(fmt.Sprintf("number %q: %v", text, err))
		}
		sum += n
	}
	return sum
}

// bits reads names joined by |, from a table.
func bits(text string, table map[string]int) int {
	sum := 0
	for part := range strings.SplitSeq(text, "|") {
		v, ok := table[part]
		if !ok {
			v = int(number(part))
		}
		sum |= v
	}
	return sum
}

// typeOf is a file type in a word.
func typeOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "dir"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFBLK:
		return "block"
	case unix.S_IFCHR:
		return "char"
	}
	return strconv.FormatUint(uint64(mode), 8)
}

// describe is a stat as text, without times and inode numbers.
func describe(st *unix.Stat_t) string {
	text := fmt.Sprintf("%s %04o nlink=%d owner=%d:%d size=%d", typeOf(st.Mode), st.Mode&0o7777, st.Nlink, st.Uid, st.Gid, st.Size)
	if st.Mode&unix.S_IFMT == unix.S_IFBLK || st.Mode&unix.S_IFMT == unix.S_IFCHR {
		text += fmt.Sprintf(" device=%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	return text
}

// movement is how a time went.
func movement(from, to unix.Timespec) string {
	switch a, b := from, to; {
	case a == b:
		return "stays"
	case b.Sec > a.Sec || b.Sec == a.Sec && b.Nsec > a.Nsec:
		return "moves"
	}
	return "goes back"
}

// patterned is n bytes that differ at every offset and for every seed.
func patterned(n int, seed byte) []byte {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 12345
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}
