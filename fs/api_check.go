package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

// Nothing is embedded in bridge: each operation of the kernel is answered in this
// package, and a new one in go-fuse breaks the build rather than being overlooked.
var (
	_ fuse.RawFileSystem = (*bridge)(nil)
	_ backingDevice      = (*fuse.Server)(nil)
	_ kernelCache        = (*fuse.Server)(nil)

	_ Heart          = heart{}
	_ Handle         = handle{}
	_ cache.Notifier = (*Server)(nil)
)
