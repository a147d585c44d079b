package fs

import "github.com/hanwen/go-fuse/v2/fuse"

// The operations that depotfs leaves to the kernel or does not have. ENOSYS tells
// the kernel not to ask this mount again.

// Access is never asked: default_permissions lets the kernel decide by the mode.
func (b *bridge) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// Statx is answered by GetAttr: there is no birth time to tell.
func (b *bridge) Statx(<-chan struct{}, *fuse.StatxIn, *fuse.StatxOut) fuse.Status {
	return fuse.ENOSYS
}

// Ioctl knows none. ENOTTY and not ENOSYS, which some tools print as a failure.
func (b *bridge) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return enotty
}

// GetLk is not asked: the kernel keeps the locks of one mount itself.
func (b *bridge) GetLk(<-chan struct{}, *fuse.LkIn, *fuse.LkOut) fuse.Status { return fuse.ENOSYS }

// SetLk is as GetLk.
func (b *bridge) SetLk(<-chan struct{}, *fuse.LkIn) fuse.Status { return fuse.ENOSYS }

// SetLkw is as GetLk.
func (b *bridge) SetLkw(<-chan struct{}, *fuse.LkIn) fuse.Status { return fuse.ENOSYS }

// Writev passes: go-fuse asks Write then.
func (b *bridge) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// SetDebug is go-fuse's old way; Options.Debug is ours.
func (b *bridge) SetDebug(bool) {}

// Init needs nothing: Mount has shaken hands.
func (b *bridge) Init(*fuse.Server) {}

// OnUnmount needs nothing: Serve returns.
func (b *bridge) OnUnmount() {}
