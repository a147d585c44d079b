// Package fs is the kernel's door to the heart: it answers FUSE requests.
//
// # Which request asks what
//
//	LOOKUP                    Lookup; "." and ".." (NFS handles) Attr and Parent
//	GETATTR SETATTR           Attr; SetAttr
//	OPENDIR READDIR(PLUS)     OpenDir; ReadDir, ReadDirPlus
//	FSYNCDIR                  SyncDir
//	CREATE TMPFILE OPEN       Create, Tmpfile, Open, then Handle.Backing for the mode of I/O
//	READ WRITE                Handle.ReadAt, WriteAt: only what does not pass through
//	FSYNC FLUSH RELEASE       Handle.Sync, Flush, Release
//	FALLOCATE LSEEK           Handle.Allocate, Seek
//	COPY_FILE_RANGE           Handle.CopyRange
//	MKNOD MKDIR SYMLINK LINK UNLINK RMDIR RENAME READLINK STATFS and xattrs: the method of that name
//
// A node id is an inode number of the catalog and its generation the catalog's
// epoch. There is no tree in memory, so FORGET costs nothing and any number that was
// ever handed out can come back: from the kernel, or from an NFS client after a
// restart. The root alone has generation 0, because the kernel makes it itself.
//
// # Modes of I/O
//
// An inode's mode is decided at its first open and kept until its last release:
//
//	passthrough   the kernel does the I/O on the backing file: resident files
//	direct        each read and write comes here: files that are not wholly here
//	cached        through the page cache: everything, where there is no passthrough
//
// Tried on Linux 6.18, an open beside one that is open already:
//
//	first \ second   passthrough       direct   cached
//	passthrough      same file only    EIO      EIO
//	direct           works (1)         works    works
//	cached           EIO               works    works
//
// (1) but EIO while a direct handle is mapped shared. Hence no mixing: a file that
// becomes resident while it is open in direct mode passes through after everybody
// left. The kernel opens the backing file itself, with the flags of the caller and
// the rights of this daemon. While a table entry exists, its heart handles are open;
// so Open asks the heart first and Release asks it last, and one inode always has
// one backing file and one number for it.
//
// The heart does not see passthrough writes. Nor does it see when they end: the
// kernel swaps a mapped file for the backing file, so RELEASE comes at close(2)
// though a shared mapping goes on storing.
//
// # What the kernel may keep
//
// Names and attributes: an hour in gateway, where the heart notifies every change;
// a second beside. Attributes of an inode that somebody writes by passthrough: not
// at all, since stores through a mapping move mtime unseen; the first such open
// also takes back what the kernel was told before. Missing names: never. Targets of
// symbolic links: for good. Listings: until a name changes behind the mount (dir.go).
// Pages from one open to the next: only in gateway, and
// only if no passthrough happens on this mount, whose writes would go past them.
//
// Notifications go out from a goroutine of their own that holds nothing: the kernel
// takes the directory's lock for them, which a request waiting here may hold. It
// orders them with answers under way, so a late answer does not bring back what was
// invalidated. One thing does not wait its turn there: once an open has returned, stat
// shows what the file was when it was opened, or later, so the open itself has the
// kernel forget attributes that are older.
//
// # NFS
//
// A server that exports the mount holds nothing but node ids: LOOKUP "." and ".."
// connect a handle to the tree again, whatever the kernel forgot. Servers in user
// space also put the device number into their handles; device.go keeps it the same.
//
// # Signals
//
// Only a READ that some read(2) waits for ends early, and only in the heart's wait
// for bytes that are not here. A READ for a page fault goes on, since an error there
// is SIGBUS. Nothing else is ever interrupted: Go programs raise signals all the
// time, and half a rename helps nobody.
//
// # Set-user-ID bits
//
// The kernel leaves them to us (HANDLE_KILLPRIV_V2), because otherwise it asks for
// security.capability before every single write, passthrough or not. What it does
// ask for, before a write to a file with such bits by somebody other than root, is
// a SETATTR of nothing (priv.go).
//
// # Known deadlocks
//
// The daemon must never use its own mount: no working directory in it, no helper
// process that stands there. Worst is a page fault: the runtime cannot stop the
// world while one waits, and the answer waits for the world. Tests map files in
// processes of their own for that reason.
package fs
