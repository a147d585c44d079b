package fs

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"depotfs/cache"
)

// fsType shows in /proc/self/mountinfo as fuse.depotfs.
const fsType = "depotfs"

// Mode of passthrough.
type Mode string

const (
	Auto Mode = "auto" // where the kernel and our rights allow it
	On   Mode = "on"   // or do not mount
	Off  Mode = "off"
)

// Options say how to mount.
type Options struct {
	Mountpoint  string
	FsName      string       // the source that df and mountinfo show; "" = depotfs
	AllowOther  bool         // let other users in; root's mounts always do
	Deploy      cache.Deploy // decides the timeouts that are 0
	Passthrough Mode         // "" = Auto

	// How long the kernel may keep names and attributes without asking again.
	// 0 = as Deploy wants: an hour in gateway, where every change is notified,
	// a second beside. Below 0 = not at all.
	EntryTimeout, AttrTimeout time.Duration

	// BusyWait is how long an unmount waits for users to leave before it goes on
	// without them. 0 = 5 s.
	BusyWait time.Duration

	Debug bool // log every request
	Log   *slog.Logger
}

const (
	gatewayTimeout = time.Hour   // long: invalidation is exact
	besideTimeout  = time.Second // hypervisors change the share without telling us

	defaultBusyWait = 5 * time.Second // what a shell needs to leave; systemd waits 90 s

	// maxTransfer is the most bytes of one READ or WRITE: the most that kernels
	// take without a sysctl. Images are read and written in large pieces.
	maxTransfer = 1 << 20
	// maxBackground is how many readahead and asynchronous direct requests may wait
	// here: cold reads are 20 ms each, and 12 (the default) would be all that a
	// guest with a deep queue gets.
	maxBackground = 256
	// stackDepth lets the cache directory lie on an overlay, as in containers.
	stackDepth = 2
)

// fill checks the options and sets what was left out.
func (o *Options) fill() error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FsName == "" {
		o.FsName = fsType
	}
	if o.Passthrough == "" {
		o.Passthrough = Auto
	}
	switch o.Passthrough {
	case Auto, On, Off:
	default:
		return fmt.Errorf("passthrough %q: must be auto, on or off", o.Passthrough)
	}
	if o.BusyWait <= 0 {
		o.BusyWait = defaultBusyWait
	}
	longest := besideTimeout
	if o.Deploy == cache.Gateway {
		longest = gatewayTimeout
	}
	for _, t := range []*time.Duration{&o.EntryTimeout, &o.AttrTimeout} {
		switch {
		case *t == 0:
			*t = longest
		case o.Deploy != cache.Gateway:
			*t = min(*t, besideTimeout)
		}
	}
	path, err := filepath.Abs(o.Mountpoint)
	if err != nil || o.Mountpoint == "" {
		return fmt.Errorf("mount point %q: need a directory", o.Mountpoint)
	}
	o.Mountpoint = path
	return nil
}
