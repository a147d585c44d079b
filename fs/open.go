package fs

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// ioMode is how the kernel does the I/O of an inode. It is decided at the first
// open and holds until the last release, because the kernel answers EIO to an open
// whose mode does not go with those that are open (doc.go has the table).
type ioMode uint8

const (
	// passthrough: the kernel reads and writes the backing file itself.
	passthrough ioMode = 1 + iota
	// direct: every read and write comes here, nothing stays in the page cache.
	// For files that are not wholly here, on kernels with passthrough.
	direct
	// cached: through the kernel's page cache, as without passthrough.
	cached
)

// openInode is an inode with open handles.
type openInode struct {
	mode    ioMode
	backing int32 // the kernel's number of the backing file; passthrough only
	handles int
	writers int
}

// openShards splits the table so that opens of different files seldom meet: more
// than the processors that would want it at once.
const openShards = 64

// openTable knows the mode of every open inode. An inode is in it only while its
// heart handles are open, so its backing file is one and the same all the time.
type openTable struct {
	device backingDevice
	works  atomic.Bool // passthrough, as far as we know
	shards [openShards]openShard
}

type openShard struct {
	mu     sync.Mutex // guards inodes; covers one ioctl
	inodes map[cache.Ino]*openInode
}

// backingDevice registers backing files with the kernel: *fuse.Server.
type backingDevice interface {
	RegisterBackingFd(*fuse.BackingMap) (int32, syscall.Errno)
	UnregisterBackingFd(id int32) syscall.Errno
}

func (t *openTable) shard(ino cache.Ino) *openShard { return &t.shards[ino%openShards] }

// open counts one more handle of ino and says how it does its I/O. first is true
// for the first writer, failed is why the kernel did not take the backing file.
func (t *openTable) open(ino cache.Ino, file *os.File, resident, write bool) (mode ioMode, backing int32, first bool, failed error) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.inodes[ino]
	if o == nil {
		o = &openInode{}
		o.mode, o.backing, failed = t.decide(file, resident)
		if s.inodes == nil {
			s.inodes = map[cache.Ino]*openInode{}
		}
		s.inodes[ino] = o
	}
	o.handles++
	if write {
		first = o.writers == 0
		o.writers++
	}
	return o.mode, o.backing, first, failed
}

func (t *openTable) decide(file *os.File, resident bool) (ioMode, int32, error) {
	switch {
	case !t.works.Load():
		return cached, 0, nil
	case !resident:
		return direct, 0, nil
	}
	id, err := t.register(file)
	if err == 0 {
		return passthrough, id, nil
	}
	switch err {
	case syscall.EPERM, syscall.ENOSYS, syscall.ENOTTY, syscall.ELOOP, syscall.EOPNOTSUPP:
		// These are about the process, the kernel or the share, so about every file.
		t.works.Store(false)
	}
	return cached, 0, err
}

func (t *openTable) register(file *os.File) (int32, syscall.Errno) {
	// SyscallConn rather than Fd: the file stays open as long as the ioctl runs,
	// and keeps its mode.
	conn, err := file.SyscallConn()
	if err != nil {
		return 0, syscall.EBADF
	}
	id, errno := int32(0), syscall.EBADF
	_ = conn.Control(func(fd uintptr) {
		id, errno = t.device.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	})
	return id, errno
}

// release ends one handle of ino; the heart's handle must still be open.
func (t *openTable) release(ino cache.Ino, write bool) {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.inodes[ino]
	if write {
		o.writers--
	}
	if o.handles--; o.handles > 0 {
		return
	}
	delete(s.inodes, ino)
	if o.mode == passthrough {
		// The kernel let go of it before it sent the release. An open that comes
		// now registers the same file under a new number.
		t.device.UnregisterBackingFd(o.backing)
	}
}

// written says whether ino is open for writing.
func (t *openTable) written(ino cache.Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.inodes[ino]
	return o != nil && o.writers > 0
}

// unseenWriters says whether somebody may change ino without passing by here.
func (t *openTable) unseenWriters(ino cache.Ino) bool {
	s := t.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.inodes[ino]
	return o != nil && o.mode == passthrough && o.writers > 0
}

// fileShards is as openShards.
const fileShards = 64

// fileTable gives open files the numbers by which the kernel calls them.
type fileTable struct {
	last   atomic.Uint64
	open   atomic.Int64
	shards [fileShards]fileShard
}

type fileShard struct {
	mu    sync.RWMutex // guards files
	files map[uint64]*openFile
}

// openFile is what one open(2) made.
type openFile struct {
	handle Handle
	write  bool
}

func (t *fileTable) add(f *openFile) uint64 {
	fh := t.last.Add(1)
	s := &t.shards[fh%fileShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[uint64]*openFile{}
	}
	s.files[fh] = f
	t.open.Add(1)
	return fh
}

// get returns the handle of fh, or nil.
func (t *fileTable) get(fh uint64) Handle {
	s := &t.shards[fh%fileShards]
	s.mu.RLock()
	defer s.mu.RUnlock()
	if f := s.files[fh]; f != nil {
		return f.handle
	}
	return nil
}

// remove forgets fh and returns its file, or nil.
func (t *fileTable) remove(fh uint64) *openFile {
	s := &t.shards[fh%fileShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[fh]
	if f != nil {
		delete(s.files, fh)
		t.open.Add(-1)
	}
	return f
}
