// Command loopback mounts a directory elsewhere with the loopback file system that
// comes with go-fuse: the yardstick beside which `make bench` measures depotfs. It
// has no state and no store; what it costs is what FUSE costs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

func main() {
	passthrough := flag.Bool("passthrough", true, "let the kernel read and write files itself, where it can")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: loopback [-passthrough=false] DIR MOUNTPOINT   (until it is unmounted, or SIGTERM)")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Arg(1), *passthrough); err != nil {
		fmt.Fprintln(os.Stderr, "loopback:", err)
		os.Exit(1)
	}
}

// run serves until the mount is gone. The options are those of go-fuse's own
// example, so that its figures are those that other people know; only the umask is
// taken off, without which modes would be wrong.
func run(dir, mountpoint string, passthrough bool) error {
	syscall.Umask(0)
	root, err := fusefs.NewLoopbackRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	keep := time.Second
	opts := &fusefs.Options{
		AttrTimeout: &keep, EntryTimeout: &keep, NullPermissions: true,
		MountOptions: fuse.MountOptions{
			AllowOther: os.Geteuid() == 0, DirectMount: os.Geteuid() == 0,
			FsName: dir, Name: "loopback", Options: []string{"default_permissions"},
		},
	}
	if !passthrough {
		opts.MountOptions.DisabledCapabilities = fuse.CAP_PASSTHROUGH
	}
	server, err := fusefs.Mount(mountpoint, root, opts)
	if err != nil {
		return fmt.Errorf("mount %s: %w", mountpoint, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	failed := make(chan error, 1)
	context.AfterFunc(ctx, func() { failed <- server.Unmount() })
	server.Wait()
	select {
	case err := <-failed:
		if err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("unmount %s: %w", mountpoint, err)
		}
	default:
	}
	return nil
}
