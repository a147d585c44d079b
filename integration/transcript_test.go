package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// transcript writes down what a procedure saw, without paths and inode numbers: two
// directories that behave the same give the same text.
type transcript struct {
	dir   string
	lines []string
}

func (tr *transcript) say(what string, results ...any) {
	line := what
	for _, r := range results {
		if err, ok := r.(error); ok {
			var errno unix.Errno
			if errors.As(err, &errno) {
				r = unix.ErrnoName(errno)
			} else {
				r = strings.ReplaceAll(err.Error(), tr.dir, "DIR")
			}
		}
		line += fmt.Sprintf(" | %v", r)
	}
	tr.lines = append(tr.lines, line)
}

func (tr *transcript) p(name string) string { return filepath.Join(tr.dir, name) }

// open is os.OpenFile by the system call, with the file's end left to the caller.
func (tr *transcript) open(name string, flags int, mode uint32) (int, error) {
	return unix.Open(tr.p(name), flags|unix.O_CLOEXEC, mode)
}

// look says what stat sees.
func (tr *transcript) look(name string) {
	var st unix.Stat_t
	if err := unix.Lstat(tr.p(name), &st); err != nil {
		tr.say("stat "+name, err)
		return
	}
	size := st.Size
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0 // a directory's size is the file system's own business
	}
	tr.say("stat "+name, fmt.Sprintf("%o", st.Mode), st.Nlink, st.Uid, st.Gid, size)
}

// read says what a file holds.
func (tr *transcript) read(name string) {
	body, err := os.ReadFile(tr.p(name))
	if err != nil {
		tr.say("read "+name, err)
		return
	}
	if len(body) > 64 {
		tr.say("read "+name, len(body), fmt.Sprintf("%x", body[:16]), fmt.Sprintf("%x", body[len(body)-16:]))
		return
	}
	tr.say("read "+name, fmt.Sprintf("%q", body))
}

// list says which names a directory has.
func (tr *transcript) list(name string) {
	entries, err := os.ReadDir(tr.p(name))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name()+" "+e.Type().String())
	}
	tr.say("list "+name, len(names), strings.Join(names[:min(len(names), 20)], ","), err)
}

func (tr *transcript) write(name, body string) {
	if err := os.WriteFile(tr.p(name), []byte(body), 0o644); err != nil {
		tr.say("write "+name, err)
	}
}

func compareTranscripts(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("step %d:\n got %s\nwant %s", i, g, w)
		}
	}
}
