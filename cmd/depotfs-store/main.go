package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

// version is set by the build (-ldflags "-X main.version=…").
var version = "devel"

// Exit codes, the same as those of depotfs.
const (
	exitFailed = 1 // it could not do what was asked
	exitUsage  = 2 // what was asked makes no sense
)

// usageError is a mistake of the caller: it exits with exitUsage.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// After the first signal the default action is back: a second one ends the
	// process at once, should the orderly shutdown hang.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := &cli.App{
		Name:            "depotfs-store",
		Usage:           "an S3-compatible server in one directory, for trying depotfs out and for tests",
		UsageText:       "depotfs-store --dir DIR [--listen ADDR]",
		Description:     description,
		Version:         version,
		HideHelpCommand: true,
		Writer:          stdout,
		ErrWriter:       io.Discard, // run reports, in one line
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "keep each bucket as a folder of `DIR` (made when it is missing)"},
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:7070", Usage: "serve on `ADDR` (HOST:PORT; port 0: the kernel chooses one)"},
			&cli.StringFlag{Name: "region", Value: "us-east-1", Usage: "the `NAME` that requests are signed for", EnvVars: []string{"AWS_REGION", "AWS_DEFAULT_REGION"}},
		},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usageError{err} },
		ExitErrHandler: func(*cli.Context, error) {}, // run decides on the exit code
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
			}
			if c.String("dir") == "" {
				return usageError{errors.New("--dir is missing: name the directory that keeps the buckets")}
			}
			keys, made, err := keysFromEnv(os.Getenv)
			if err != nil {
				return usageError{err}
			}
			s := server{dir: c.String("dir"), listen: c.String("listen"), region: c.String("region"), keys: keys}
			s.ready = func(address string) {
				if made {
					fmt.Fprintf(stdout, "AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n", keys.access, keys.secret)
				}
				fmt.Fprintf(stdout, "depotfs-store: listening on http://%s dir=%s\n", address, s.dir)
			}
			return s.run(c.Context)
		},
	}
	err := app.RunContext(ctx, args)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "depotfs-store: %v\n", err)
	if usage := (usageError{}); errors.As(err, &usage) {
		fmt.Fprintln(stderr, "Try: depotfs-store --help")
		return exitUsage
	}
	return exitFailed
}

const description = `The keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment;
without them a pair is made and printed, for this run only. When requests are
answered, one line says so on standard output:

   depotfs-store: listening on http://127.0.0.1:7070 dir=/srv/store

SIGTERM and SIGINT stop it. Use path-style addresses (http://HOST:PORT/BUCKET/KEY).
A bucket is created when a signed request first names it.`
