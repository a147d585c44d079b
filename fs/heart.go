package fs

import (
	"context"
	"os"

	"depotfs/cache"
)

// Heart is what the kernel's questions are passed on to: the methods of
// *cache.Cache that this door needs, with handles as an interface so that tests
// can put anything behind the mount. FromCache makes one. All methods may be
// called concurrently.
type Heart interface {
	// Epoch is the generation of every inode number but the root's.
	Epoch() uint64

	Lookup(ctx context.Context, parent cache.Ino, name string) (cache.Attr, error)
	Attr(ctx context.Context, ino cache.Ino) (cache.Attr, error)
	Parent(ctx context.Context, ino cache.Ino) (cache.Attr, error)
	// SetAttr changes attributes; h is the handle it was asked through, or nil.
	SetAttr(ctx context.Context, ino cache.Ino, h Handle, set cache.SetAttr) (cache.Attr, error)

	OpenDir(ctx context.Context, ino cache.Ino) error
	// ReadDir calls fn for each entry after cookie until fn is false; 0 starts.
	ReadDir(ctx context.Context, ino cache.Ino, cookie uint64, fn func(cache.DirEntry) bool) error
	// ReadDirPlus is ReadDir with attributes; a name without them has Attr.Ino 0.
	ReadDirPlus(ctx context.Context, ino cache.Ino, cookie uint64, fn func(cache.DirEntry, cache.Attr) bool) error
	SyncDir(ctx context.Context, ino cache.Ino) error

	Create(ctx context.Context, who cache.Owner, parent cache.Ino, name string, mode uint32, flags int) (cache.Attr, Handle, error)
	Tmpfile(ctx context.Context, who cache.Owner, parent cache.Ino, mode uint32, flags int) (cache.Attr, Handle, error)
	Open(ctx context.Context, ino cache.Ino, flags int) (Handle, error)

	Mknod(ctx context.Context, who cache.Owner, parent cache.Ino, name string, mode, rdev uint32) (cache.Attr, error)
	Mkdir(ctx context.Context, who cache.Owner, parent cache.Ino, name string, mode uint32) (cache.Attr, error)
	Symlink(ctx context.Context, who cache.Owner, parent cache.Ino, name, target string) (cache.Attr, error)
	Readlink(ctx context.Context, ino cache.Ino) (string, error)
	Link(ctx context.Context, ino, parent cache.Ino, name string) (cache.Attr, error)
	Unlink(ctx context.Context, parent cache.Ino, name string) error
	Rmdir(ctx context.Context, parent cache.Ino, name string) error
	Rename(ctx context.Context, oldParent cache.Ino, oldName string, newParent cache.Ino, newName string, flags cache.RenameFlags) error

	GetXattr(ctx context.Context, ino cache.Ino, name string) ([]byte, error)
	SetXattr(ctx context.Context, ino cache.Ino, name string, value []byte, flags int) error
	ListXattr(ctx context.Context, ino cache.Ino) ([]string, error)
	RemoveXattr(ctx context.Context, ino cache.Ino, name string) error

	Statfs(ctx context.Context) (cache.Statfs, error)

	// CloseMatters says whether Handle.Flush can do or tell anything.
	CloseMatters() bool
}

// Handle is an open file of a Heart. Nothing follows Release.
type Handle interface {
	Ino() cache.Ino
	// Backing returns the inode's one backing file, the same for all handles that
	// are open at a time, and whether all bytes are in it and stay.
	Backing() (f *os.File, resident bool)
	// ReadAt is never short before the end of the file; ctx ends a wait for bytes
	// that are not here.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
	Sync(ctx context.Context, dataOnly bool) error
	Flush(ctx context.Context) error
	Release()
	Allocate(ctx context.Context, off, length int64, mode uint32) error
	Seek(ctx context.Context, off int64, whence int) (int64, error)
	CopyRange(ctx context.Context, off int64, dst Handle, dstOff, length int64) (int64, error)
}
