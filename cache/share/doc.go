// Package share is the cache directory: a tree of ordinary files, usually on NFS,
// reached by paths relative to its root that can never leave it.
//
// Names come from a bucket and from whoever else mounts the share, so no path is
// ever handed to the kernel as a string below a trusted directory. Every
// operation opens the parent with openat2 (beneath the root, through no symbolic
// or magic link) and then works on one name in it. A planted symlink gives ELOOP
// and a planted FIFO or device is never opened. Paths may be longer than PATH_MAX.
//
// Beside the tree lies depotfs's own directory, Private:
//
//	depot.json        Marker: which depot and zone this share belongs to
//	partial/<ino>     bytes of a file that is not complete yet
//	partial/<ino>.log Sidecar: which of them were written here
//	open/<ino>        unlinked files that are still open
//	evict/<ino>       files on their way out
//	clean/<n>.log     CleanLog: what the depot has, for when the catalog is lost
//	clock             touched to read the share's clock
//
// What is recorded there survives the loss of the catalog. Both logs are made of
// framed records with a checksum: a torn end is dropped, never misread.
//
// Modes given to OpenFile, Mkdir and Mknod are subject to the process's umask;
// depotfs runs with umask 0. Errors are *os.PathError or *os.LinkError with the
// operation and the relative path around the kernel's errno. All methods of Share
// may be called concurrently, but none during or after Close.
package share
