package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The daemon counts signals itself (a second one forces); commands end at
	// the first one, and a second kills them.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	sys := &system{
		in:        os.Stdin,
		out:       os.Stdout,
		err:       os.Stderr,
		lookupEnv: os.LookupEnv,
		environ:   os.Environ,
		mountinfo: openMountinfo,
	}
	os.Exit(sys.run(ctx, os.Args))
}
