package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
)

// Handle is one open file. Its methods may be called concurrently, except that
// nothing may follow Release.
type Handle struct {
	c     *Cache
	n     *node
	file  *os.File
	write bool
	ahead fetch.Streams // guarded by partial.mu
	done  atomic.Bool
}

// Open opens a regular file. Of flags, the access mode and O_TRUNC count. A file
// that was clean is durably dirty before a writing Open returns. ErrStale says that
// others gave the name to another file: who looks it up again finds that one.
func (c *Cache) Open(ctx context.Context, ino Ino, flags int) (*Handle, error) {
	for try := 0; ; try++ {
		h, err := c.open1(ctx, ino, flags)
		if !errors.Is(err, errOutside) {
			return h, err
		}
		if try == maxLooks {
			return nil, fmt.Errorf("open inode %d: others keep changing it in the share: %w", ino, ErrBusy)
		}
		if err := c.lookAtInode(ino); err != nil {
			return nil, err
		}
		if rec, err := c.record(ino); err != nil || len(rec.Links) == 0 {
			return nil, fmt.Errorf("open inode %d: replaced in the share: %w", ino, ErrStale)
		}
	}
}

// maxLooks is how often an open looks at what others did before it gives up.
const maxLooks = 5

func (c *Cache) open1(ctx context.Context, ino Ino, flags int) (*Handle, error) {
	write := flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0
	n := c.acquire(ino)
	err := c.withName(ino, false, func(rec *catalog.Inode, path string) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if err := c.load(n, rec, path); err != nil {
			return err
		}
		c.scans.heat(rec.Links[0].Parent, c.now())
		if err := c.lookAtDirty(n, rec, path); err != nil {
			return err
		}
		return c.addHandle(n, write, path)
	})
	if errors.Is(err, iofs.ErrNotExist) {
		err = c.openOrphan(n, write, err)
	}
	if err != nil {
		c.drop(n)
		return nil, err
	}
	h := &Handle{c: c, n: n, file: n.file, write: write}
	c.used.Store(ino, c.nanos())
	if flags&syscall.O_TRUNC != 0 {
		if err := h.Truncate(ctx, 0); err != nil {
			h.Release()
			return nil, err
		}
	}
	return h, nil
}

// openOrphan opens a file that has no name any more but is open elsewhere, as
// /proc/self/fd and NFS clients do.
func (c *Cache) openOrphan(n *node, write bool, cause error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == nil || n.handles == 0 {
		return cause
	}
	n.handles++
	if write {
		n.writers++
	}
	return nil
}

// addHandle counts a handle; n.mu is held and the file loaded.
func (c *Cache) addHandle(n *node, write bool, path string) error {
	if write {
		if n.missing { // what is written would be gone with the last handle
			return fmt.Errorf("open %q for writing: %w: %w", path, errLost, syscall.EIO)
		}
		if n.ro {
			return fmt.Errorf("open %q for writing: %w", path, syscall.EACCES)
		}
		if err := c.beginWrite(n, path); err != nil {
			return err
		}
		n.writers++
	}
	n.handles++
	return nil
}

// beginWrite makes a clean whole file durably dirty and stops its upload; n.mu is held.
// Partial files are marked by their first write, which we see.
func (c *Cache) beginWrite(n *node, path string) error {
	if n.writers > 0 {
		c.lookSoonLocked(n)
		return nil // an upload that is under way knows of writers, and compares stamps
	}
	if n.upload != nil {
		n.upload(errWriter)
		n.upload = nil
	}
	if !n.whole.Load() {
		return nil
	}
	rec, err := c.record(n.ino)
	if err != nil {
		return err
	}
	n.clean, n.openedAt = catalog.Stamp{}, c.nanos()
	if rec.State != Clean {
		return c.noteWriting(n, rec)
	}
	gen, err := c.cat.NextGen()
	if err != nil {
		return err
	}
	if _, err = c.change(n.ino, func(tx *catalog.Tx, r *catalog.Inode) error {
		if err := step(r, evWrite); err != nil {
			return err
		}
		r.Gen = gen
		r.DirtySince = n.openedAt
		return c.enqueue(tx, r, path)
	}); err != nil {
		return fmt.Errorf("mark %q dirty: %w", path, err)
	}
	// A write must not reach the share before the catalog durably knows: after a
	// power cut the changed file would pass for clean.
	if err := c.cat.Sync(context.Background()); err != nil {
		return fmt.Errorf("mark %q dirty: %w", path, err)
	}
	n.clean = rec.Stamp
	return nil
}

// Ino returns the inode number.
func (h *Handle) Ino() Ino { return h.n.ino }

// Backing returns the one backing file of the inode, the same for every handle
// that is open at a time, and whether all bytes are in it and stay.
func (h *Handle) Backing() (*os.File, bool) { return h.file, h.n.whole.Load() }

// ReadAt reads like io.ReaderAt: io.EOF only at the end of the file, never short
// before it. Missing bytes are fetched; ctx ends a wait for them.
func (h *Handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if h.n.whole.Load() {
		return h.file.ReadAt(p, off)
	}
	return h.n.readPartial(ctx, h, p, off)
}

// WriteAt writes like io.WriterAt.
func (h *Handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if !h.write {
		return 0, syscall.EBADF
	}
	if len(p) == 0 {
		return 0, nil // writes nothing and grows nothing
	}
	if h.n.whole.Load() {
		n, err := h.file.WriteAt(p, off)
		if errors.Is(err, syscall.ENOSPC) {
			h.c.noSpace(h.n.ino)
		}
		return n, err
	}
	return h.c.writePartial(h.n, p, off)
}

// Truncate sets the length.
func (h *Handle) Truncate(ctx context.Context, size int64) error {
	if !h.write {
		return syscall.EINVAL
	}
	if size < 0 {
		return syscall.EINVAL
	}
	if h.n.whole.Load() {
		return h.file.Truncate(size)
	}
	return h.c.truncatePartial(h.n, size)
}

// Sync returns when the bytes are durable in the cache directory and the catalog
// durably knows that they are dirty.
func (h *Handle) Sync(ctx context.Context, dataOnly bool) error {
	n := h.n
	if n.whole.Load() {
		var err error
		if dataOnly {
			err = unix.Fdatasync(int(h.file.Fd()))
		} else {
			err = h.file.Sync()
		}
		if err != nil {
			return fmt.Errorf("fsync inode %d: %w", n.ino, err)
		}
		if h.write {
			n.mu.Lock()
			h.c.lookSoonLocked(n) // fsync is the last we hear of writes where nobody closes
			n.mu.Unlock()
		}
		return h.c.syncNew(n)
	}
	return h.c.syncPartial(n)
}

// syncNew makes a new or renamed file's name and record durable, once.
func (c *Cache) syncNew(n *node) (err error) {
	if !n.unsynced.Swap(false) {
		return nil
	}
	defer func() {
		if err != nil {
			n.unsynced.Store(true) // not durable: the next fsync must not say that it is
		}
	}()
	err = c.withName(n.ino, false, func(rec *catalog.Inode, path string) error {
		return c.share.SyncDir(parentPath(path))
	})
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("fsync directory of inode %d: %w", n.ino, err)
	}
	if err := c.cat.Sync(context.Background()); err != nil {
		return err
	}
	return nil
}

// Flush is called at close(2). A share on the network gets to see that close too: its
// client then sends what it has held back, so that other machines read what was
// written, and tells of errors that it had not told yet. No upload waits for it: over
// NFS there is no close, so they start from quiet (CLOUDSTACK.md 0.3).
func (h *Handle) Flush(context.Context) error {
	if !h.write || !h.n.whole.Load() || !h.c.CloseMatters() {
		return nil
	}
	again, err := unix.FcntlInt(h.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.Close(again)
	}
	if err != nil {
		return fmt.Errorf("close inode %d in the cache directory: %w", h.n.ino, err)
	}
	return nil
}

// CloseMatters says whether Flush can do or tell anything: the kernel need not ask
// where the share is on this machine's disk.
func (c *Cache) CloseMatters() bool { return c.share.IsNetwork() }

// Allocate is fallocate(2).
func (h *Handle) Allocate(ctx context.Context, off, length int64, mode uint32) error {
	if !h.write {
		return syscall.EBADF
	}
	if !h.n.whole.Load() {
		// Rare on images that are not here: make them whole, then as usual.
		if err := h.c.complete(ctx, h.n); err != nil {
			return err
		}
	}
	return ignoringEINTR(func() error { return unix.Fallocate(int(h.file.Fd()), mode, off, length) })
}

// CopyRange is copy_file_range(2) between two open files.
func (h *Handle) CopyRange(ctx context.Context, off int64, dst *Handle, dstOff, length int64) (int64, error) {
	if !dst.write {
		return 0, syscall.EBADF
	}
	if h.n.whole.Load() && dst.n.whole.Load() {
		n, err := unix.CopyFileRange(int(h.file.Fd()), &off, int(dst.file.Fd()), &dstOff, int(min(length, maxCopy)), 0)
		if n > 0 && off == dstOff { // both have moved on
			h.c.copied.note(h.n.ino, dst.n.ino)
		}
		return int64(n), err
	}
	buf := make([]byte, min(length, copyChunk))
	n, err := h.ReadAt(ctx, buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	n, err = dst.WriteAt(ctx, buf[:n], dstOff)
	if n > 0 && off == dstOff {
		h.c.copied.note(h.n.ino, dst.n.ino)
	}
	return int64(n), err
}

const (
	maxCopy   = 1 << 30 // what one call copies at most, so that it stays interruptible
	copyChunk = 4 << 20 // bytes held in memory when one side is not whole
)
