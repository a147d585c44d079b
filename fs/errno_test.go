package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

func TestToStatus(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, tc := range []struct {
		name  string
		err   error
		want  fuse.Status
		known bool
	}{
		{"nil", nil, fuse.OK, true},
		{"errno", syscall.ENOSPC, fuse.Status(syscall.ENOSPC), true},
		{"errno of a path", &iofs.PathError{Op: "open", Path: "x", Err: syscall.ENAMETOOLONG}, fuse.Status(syscall.ENAMETOOLONG), true},
		{"errno deep in the chain", fmt.Errorf("a: %w", fmt.Errorf("b: %w", syscall.EDQUOT)), fuse.Status(syscall.EDQUOT), true},
		{"not exist", fmt.Errorf("x: %w", iofs.ErrNotExist), fuse.ENOENT, true},
		{"exist", iofs.ErrExist, fuse.Status(syscall.EEXIST), true},
		{"permission", iofs.ErrPermission, fuse.EACCES, true},
		{"interrupted", fmt.Errorf("x: %w", context.Canceled), fuse.EINTR, true},
		{"too late", context.DeadlineExceeded, fuse.EIO, true},
		{"stale", fmt.Errorf("inode 7: %w", cache.ErrStale), fuse.Status(syscall.ESTALE), true},
		{"busy", cache.ErrBusy, fuse.EBUSY, true},
		{"store off", cache.ErrOff, fuse.EIO, true},
		{"gone", cache.ErrGone, fuse.EIO, true},
		{"denied", cache.ErrDenied, fuse.EIO, true},
		{"checksum", cache.ErrChecksum, fuse.EIO, true},
		{"not in the store", cache.ErrNotFound, fuse.EIO, true},
		{"changed in the store", cache.ErrChanged, fuse.EIO, true},
		{"rejected", cache.ErrRejected, fuse.EIO, true},
		{"another share", cache.ErrMarker, fuse.EIO, true},
		{"the store's errno is not the caller's", fmt.Errorf("%w: %w", cache.ErrUnavailable, refused), fuse.EIO, true},
		{"never ENOSYS", syscall.ENOSYS, fuse.ENOTSUP, true},
		{"errno 0", syscall.Errno(0), fuse.EIO, false},
		{"unknown", io.ErrNoProgress, fuse.EIO, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, known := toStatus(tc.err)
			if got != tc.want || known != tc.known {
				t.Errorf("got %v, known %v; want %v, %v", got, known, tc.want, tc.known)
			}
		})
	}
}

func TestStrangeErrorsAreLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	b := &bridge{strange: &throttle{log: slog.New(slog.NewTextHandler(&out, nil))}}
	for range 100 {
		if st := b.fail("read", 7, errors.New("odd")); st != fuse.EIO {
			t.Fatalf("got %v, want EIO", st)
		}
		b.fail("read", 7, syscall.ENOSPC)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "odd") {
		t.Errorf("got %d lines, want 1 about what is odd:\n%s", n, out.String())
	}
}
