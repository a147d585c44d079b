package fs

import (
	"context"
	"io"
	"os"
	"syscall"

	"depotfs/cache"
)

// lhandle is an open file of a loopback.
type lhandle struct {
	l        *loopback
	n        *lnode
	resident bool
}

func (h *lhandle) Ino() cache.Ino              { return h.n.attr.Ino }
func (h *lhandle) Backing() (*os.File, bool)   { return h.n.file, h.resident }
func (h *lhandle) Flush(context.Context) error { defer h.l.lock("flush")(); return nil }

func (h *lhandle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	unlock := h.l.lock("read")
	waiting := h.l.waiting
	unlock()
	if !h.resident && waiting != nil {
		if err := waiting(ctx, h.Ino()); err != nil {
			return 0, err
		}
	}
	return h.n.file.ReadAt(p, off)
}

func (h *lhandle) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	h.l.lock("write")()
	return h.n.file.WriteAt(p, off)
}

func (h *lhandle) Sync(_ context.Context, dataOnly bool) error {
	if dataOnly {
		h.l.lock("fdatasync")()
	} else {
		h.l.lock("fsync")()
	}
	return h.n.file.Sync()
}

func (h *lhandle) Release() {
	defer h.l.lock("release")()
	h.n.handles--
	if h.n.handles < 0 {
		panic("released twice")
	}
}

func (h *lhandle) Allocate(_ context.Context, off, length int64, mode uint32) error {
	defer h.l.lock("allocate")()
	return syscall.Fallocate(int(h.n.file.Fd()), mode, off, length)
}

func (h *lhandle) Seek(_ context.Context, off int64, whence int) (int64, error) {
	defer h.l.lock("seek")()
	return syscall.Seek(int(h.n.file.Fd()), off, whence)
}

func (h *lhandle) CopyRange(_ context.Context, off int64, dst Handle, dstOff, length int64) (int64, error) {
	defer h.l.lock("copy")()
	buf := make([]byte, min(length, 1<<20))
	n, err := h.n.file.ReadAt(buf, off)
	if err != nil && err != io.EOF {
		return 0, err
	}
	n, err = dst.(*lhandle).n.file.WriteAt(buf[:n], dstOff)
	return int64(n), err
}
