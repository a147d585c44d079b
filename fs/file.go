package fs

import (
	"errors"
	"io"
	"math"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// writes says whether an open with these flags can change the file.
func writes(flags uint32) bool {
	return flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0
}

// Open opens a file in the mode that its inode has, or gets now.
func (b *bridge) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	h, err := b.heart.Open(b.ctx, cache.Ino(in.NodeId), int(in.Flags))
	if errors.Is(err, cache.ErrStale) {
		return b.stale.status(in.Pid)
	}
	if err != nil {
		return b.fail("open", in.NodeId, err)
	}
	b.stale.opened(in.Pid)
	if b.killPriv && in.Uid != 0 && in.Flags&syscall.O_TRUNC != 0 {
		if err := b.dropPriv(&in.InHeader, h.Ino()); err != nil {
			h.Release()
			return b.fail("open", in.NodeId, err)
		}
	}
	unseen := b.attach(h, in.Flags, out)
	if b.attrTTL != (ttl{}) && (unseen || b.notes.stale(h.Ino())) {
		// What the kernel was told to keep before would outlive stores that it does
		// not see (ttlOf), or is older than what the heart found just now.
		b.forgetAttrs(h.Ino())
	}
	return fuse.OK
}

// Create makes and opens a file.
func (b *bridge) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	a, h, err := b.heart.Create(b.ctx, owner(&in.InHeader), cache.Ino(in.NodeId), name, in.Mode, int(in.Flags))
	if err != nil {
		return b.fail("create", in.NodeId, err)
	}
	b.created(a, h, in.Flags, out)
	return fuse.OK
}

// Tmpfile makes and opens a file without a name.
func (b *bridge) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	a, h, err := b.heart.Tmpfile(b.ctx, owner(&in.InHeader), cache.Ino(in.NodeId), in.Mode, int(in.Flags))
	if err != nil {
		return b.fail("tmpfile", in.NodeId, err)
	}
	b.created(a, h, in.Flags, out)
	return fuse.OK
}

func (b *bridge) created(a cache.Attr, h Handle, flags uint32, out *fuse.CreateOut) {
	unseen := b.attach(h, flags, &out.OpenOut)
	b.entry(&out.EntryOut, &a) // after attach: it asks whether somebody writes
	if unseen && b.attrTTL != (ttl{}) {
		out.AttrValidNsec = uint32(createdTTL)
	}
}

// attach gives h a number and the kernel the mode of its inode. It reports whether
// h is the first writer whose writes do not come by here.
func (b *bridge) attach(h Handle, flags uint32, out *fuse.OpenOut) (unseen bool) {
	file, resident := h.Backing()
	write := writes(flags)
	mode, backing, first, err := b.opens.open(h.Ino(), file, resident, write)
	if err != nil {
		b.strange.warn("the kernel does not take the backing file: no passthrough", "ino", uint64(h.Ino()),
			"whole_mount", !b.opens.works.Load(), "err", err)
	}
	out.Fh = b.files.add(&openFile{handle: h, write: write})
	if !write {
		out.OpenFlags |= fuse.FOPEN_NOFLUSH // nothing to flush: one request less at close
	}
	switch mode {
	case passthrough:
		out.OpenFlags |= fuse.FOPEN_PASSTHROUGH
		if !b.closeMatters {
			out.OpenFlags |= fuse.FOPEN_NOFLUSH // no page waits in the kernel's hands either
		}
		out.BackingID = backing
		return first
	case direct:
		// Writes inside the file may run side by side; the heart orders what it must.
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES
	case cached:
		if b.keepCache && !b.notes.stale(h.Ino()) {
			out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
		}
	}
	return false
}

// Release ends a handle. The table lets go first: an open that comes between must
// find the heart's handle, and with it the same backing file, still there.
func (b *bridge) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	f := b.files.remove(in.Fh)
	if f == nil {
		return
	}
	b.opens.release(f.handle.Ino(), f.write)
	f.handle.Release()
}

// readLockOwner in a READ says that a read(2) waits for it. Reads that fill pages
// do not have it, and must not end for a signal: a page fault would kill the
// process with SIGBUS.
const readLockOwner = fuse.READ_LOCKOWNER

// Read reads what passthrough does not.
func (b *bridge) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := b.files.get(in.Fh)
	if h == nil {
		return nil, fuse.EBADF
	}
	ctx := b.ctx
	if in.ReadFlags&readLockOwner != 0 {
		ctx = interrupt(cancel)
	}
	n, err := h.ReadAt(ctx, buf, int64(in.Offset))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, b.fail("read", in.NodeId, err)
	}
	return b.reads.result(buf[:n]), fuse.OK
}

// readResults makes answers to Read without leaving garbage.
type readResults struct{ pool sync.Pool }

type readResult struct {
	data []byte
	from *readResults
}

func (r *readResults) result(data []byte) *readResult {
	res, ok := r.pool.Get().(*readResult)
	if !ok {
		res = &readResult{from: r}
	}
	res.data = data
	return res
}

// Bytes returns what was read.
func (r *readResult) Bytes([]byte) ([]byte, fuse.Status) { return r.data, fuse.OK }

// Size returns the length of what was read.
func (r *readResult) Size() int { return len(r.data) }

// Done is called once, when the answer is on its way.
func (r *readResult) Done() {
	r.data = nil
	r.from.pool.Put(r)
}

// Write writes what passthrough does not.
func (b *bridge) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	h := b.files.get(in.Fh)
	if h == nil {
		return 0, fuse.EBADF
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := b.dropPriv(&in.InHeader, h.Ino()); err != nil {
			return 0, b.fail("write", in.NodeId, err)
		}
	}
	n, err := h.WriteAt(b.ctx, data, int64(in.Offset))
	if n > 0 && (err == nil || in.WriteFlags&fuse.WRITE_CACHE == 0) {
		return uint32(n), fuse.OK // the rest fails again when the caller goes on
	}
	// Nobody goes on after a short write of mapped pages: the kernel drops them.
	return 0, b.fail("write", in.NodeId, err)
}

// Flush is close(2), once for each descriptor.
func (b *bridge) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	h := b.files.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	return b.fail("flush", in.NodeId, h.Flush(b.ctx))
}

// fsyncDataOnly is FUSE_FSYNC_FDATASYNC.
const fsyncDataOnly = 1

// Fsync makes what was written durable.
func (b *bridge) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h := b.files.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	return b.fail("fsync", in.NodeId, h.Sync(b.ctx, in.FsyncFlags&fsyncDataOnly != 0))
}

// Fallocate allocates, punches and zeroes as fallocate(2).
func (b *bridge) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	h := b.files.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	return b.fail("fallocate", in.NodeId, h.Allocate(b.ctx, int64(in.Offset), int64(in.Length), in.Mode))
}

// Lseek finds data and holes.
func (b *bridge) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	h := b.files.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	off, err := h.Seek(b.ctx, int64(in.Offset), int(in.Whence))
	if err != nil {
		return b.fail("lseek", in.NodeId, err)
	}
	out.Offset = uint64(off)
	return fuse.OK
}

// maxCopy is what one answer can tell: its count has 32 bits; whole pages, so that
// what follows stays aligned.
const maxCopy = math.MaxInt32 &^ (blockSize - 1)

// CopyFileRange copies between two open files without passing the bytes through
// the kernel's caller.
func (b *bridge) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	src, dst := b.files.get(in.FhIn), b.files.get(in.FhOut)
	if src == nil || dst == nil {
		return 0, fuse.EBADF
	}
	if in.Flags != 0 {
		return 0, fuse.EINVAL
	}
	n, err := src.CopyRange(b.ctx, int64(in.OffIn), dst, int64(in.OffOut), int64(min(in.Len, maxCopy)))
	if n > 0 {
		return uint32(n), fuse.OK
	}
	if errors.Is(err, io.EOF) {
		return 0, fuse.OK
	}
	return 0, b.fail("copy_file_range", in.NodeId, err)
}
