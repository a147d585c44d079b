package fs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary a process that uses a mount: "read PATH", "fault
// PATH" or "map PATH". It prints its thread, then what came of it. A page fault must
// not happen in the process that answers it: the runtime cannot stop the world while
// one waits, so a garbage collection in between would hang both.
const childEnv = "DEPOTFS_TEST_CHILD"

func child(job string) {
	runtime.LockOSThread()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1)
	what, path, _ := strings.Cut(job, " ")
	flags := os.O_RDONLY
	if what == "map" {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		fmt.Println("0\n", err)
		return
	}
	fmt.Println(unix.Gettid())
	switch what {
	case "map":
		serveMapping(f)
	case "read":
		_, err := unix.Pread(int(f.Fd()), make([]byte, 100), 0)
		fmt.Println("read:", err)
	case "fault":
		mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		if err == nil {
			err = unix.Madvise(mem, unix.MADV_RANDOM) // no readahead: the fault itself asks
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("fault:", string(mem[:1]))
	}
}

// serveMapping answers "get OFFSET", "set OFFSET BYTE" and "sync" with a line each.
func serveMapping(f *os.File) {
	st, err := f.Stat()
	if err != nil {
		fmt.Println(err)
		return
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		fmt.Println(err)
		return
	}
	f.Close() // the mapping holds the file
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var off int
		var c byte
		switch n, _ := fmt.Sscanf(in.Text(), "set %d %c", &off, &c); {
		case n == 2:
			mem[off] = c
			fmt.Println("ok")
		case in.Text() == "sync":
			fmt.Println(unix.Msync(mem, unix.MS_SYNC))
		default:
			fmt.Sscanf(in.Text(), "get %d", &off)
			fmt.Printf("%c\n", mem[off])
		}
	}
}

// mapping is a file that another process has mapped.
type mapping struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
	end func()
}

func mapElsewhere(t testing.TB, path string) *mapping {
	t.Helper()
	cmd, in, out, _ := startChild(t, "map "+path)
	return &mapping{t, in, out, func() { in.Close(); cmd.Wait() }}
}

func (m *mapping) ask(format string, args ...any) string {
	m.t.Helper()
	if _, err := fmt.Fprintf(m.in, format+"\n", args...); err != nil {
		m.t.Fatal(err)
	}
	line, err := m.out.ReadString('\n')
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (m *mapping) get(off int) string { m.t.Helper(); return m.ask("get %d", off) }

func (m *mapping) set(off int, c byte) {
	m.t.Helper()
	if got := m.ask("set %d %c", off, c); got != "ok" {
		m.t.Fatal(got)
	}
}

func (m *mapping) sync() {
	m.t.Helper()
	if got := m.ask("sync"); got != "<nil>" {
		m.t.Fatal(got)
	}
}

// TestMain sets what cmd sets for the daemon: modes are as the caller says.
func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		child(job)
		return
	}
	syscall.Umask(0)
	os.Exit(m.Run())
}

// startChild runs a child until it has opened its file.
func startChild(t testing.TB, job string) (cmd *exec.Cmd, in io.WriteCloser, out *bufio.Reader, tid int) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+job)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	out = bufio.NewReader(pipe)
	if _, err := fmt.Fscanln(out, &tid); err != nil {
		t.Fatal(err)
	}
	return cmd, in, out, tid
}
