package cache_test

import (
	"context"
	"syscall"
	"testing"
)

// copyFile copies a file within the mount as cp does, by copy_file_range.
func (e *env) copyFile(from, to string) {
	e.t.Helper()
	ctx := context.Background()
	a, err := e.lookup(from)
	if err != nil {
		e.t.Fatal(err)
	}
	src, err := e.c.Open(ctx, a.Ino, syscall.O_RDONLY)
	if err != nil {
		e.t.Fatal(err)
	}
	defer src.Release()
	parent, name := e.parent(to)
	_, dst, err := e.c.Create(ctx, me, parent, name, 0o644, syscall.O_RDWR)
	if err != nil {
		e.t.Fatal(err)
	}
	defer dst.Release()
	for off := int64(0); off < a.Size; {
		n, err := src.CopyRange(ctx, off, dst, off, a.Size-off)
		if err != nil || n == 0 {
			e.t.Fatalf("copy %q at %d: %d bytes (%v)", from, off, n, err)
		}
		off += n
	}
}

// A copy within the mount is a copy inside the store, with what was changed in it since.
func TestCopyWithinTheMountIsNotSent(t *testing.T) {
	t.Parallel()
	const meta = 64 << 10
	for _, tc := range []struct {
		name    string
		evicted bool
	}{{"of a file that is here", false}, {"of a remote file", true}} {
		t.Run(tc.name, func(t *testing.T) {
			e := newZeroEnv(t)
			data := pattern(1, 10*mib+500)
			e.write("src", data)
			e.flush()
			if tc.evicted {
				e.evict("src")
			}
			sent, _, copies := e.moved(func() { e.copyFile("src", "dst"); e.flush() })
			if sent > meta || copies == 0 {
				t.Errorf("%d bytes were sent and %d parts copied", sent, copies)
			}
			e.wantObject("p/dst", data)

			changed := append([]byte(nil), data...)
			copy(changed[5*mib:], "changed")
			sent, _, _ = e.moved(func() {
				e.copyFile("src", "other")
				e.edit("other", 5*mib, []byte("changed"))
				e.flush()
			})
			if sent > mib+meta {
				t.Errorf("%d bytes were sent of a copy that was changed in one part", sent)
			}
			e.wantObject("p/other", changed)
			e.wantObject("p/src", data)
			for path, want := range map[string][]byte{"src": data, "dst": data, "other": changed} {
				e.evict(path)
				e.mustRead(path, want)
			}
		})
	}
}

// The file that was copied has changed since, or is gone: the copy is what it was.
func TestCopyOfAFileThatChanged(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		e := newZeroEnv(t)
		data := pattern(1, 10*mib)
		e.write("src", data)
		e.flush()
		e.copyFile("src", "dst")
		if gone {
			e.unlink("src")
		} else {
			e.edit("src", 3*mib, []byte("changed"))
		}
		e.flush()
		e.wantObject("p/dst", data)
		e.evict("dst")
		e.mustRead("dst", data)
	}
}
