package integration

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mapEnv names the file that a process of the test binary maps.
const mapEnv = "DEPOTFS_INTEGRATION_MAP"

// mapping is a file that another process has mapped: a page fault of our own could
// wait for the daemon while the runtime waits for us.
type mapping struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// mapElsewhere maps a file for reading, until close.
func mapElsewhere(t testing.TB, path string) *mapping {
	t.Helper()
	m := &mapping{t: t, cmd: exec.Command("/proc/self/exe")}
	m.cmd.Env = append(os.Environ(), mapEnv+"="+path)
	m.cmd.Stderr = os.Stderr
	var err error
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.out = bufio.NewReaderSize(out, 1<<20)
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := m.out.ReadString('\n'); err != nil || line != "mapped\n" {
		t.Fatalf("map %s: %q, %v", path, line, err)
	}
	return m
}

// all reads n bytes through the mapping.
func (m *mapping) all(n int) []byte {
	m.t.Helper()
	if _, err := fmt.Fprintln(m.in, n); err != nil {
		m.t.Fatal(err)
	}
	line, err := m.out.ReadString('\n')
	if err != nil {
		m.t.Fatalf("read a mapping: %v", err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(line))
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func (m *mapping) close() {
	m.in.Close()
	if err := m.cmd.Wait(); err != nil {
		m.t.Errorf("the process that had a file mapped: %v", err)
	}
}

// serveMapping is that process.
func serveMapping(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("map %s: %w", path, err)
	}
	fmt.Println("mapped")
	for {
		var n int
		if _, err := fmt.Scanln(&n); err != nil {
			return nil // the test has closed it
		}
		fmt.Println(hex.EncodeToString(b[:n]))
	}
}
