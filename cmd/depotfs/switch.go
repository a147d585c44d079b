package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"depotfs/cache"
)

func (s *system) enableCommand() *cli.Command {
	return &cli.Command{
		Name:      "enable",
		Usage:     "switch the store on; what was changed meanwhile is uploaded",
		ArgsUsage: "[MOUNTPOINT]",
		Description: "Uses the bucket and keys that the mount was given, or that config set has set. The store is\n" +
			"asked first: when it does not answer, or is not the right one, nothing is changed.",
		Action: func(c *cli.Context) error { return s.ask(c, "enable", pathsRequest{}) },
	}
}

func (s *system) disableCommand() *cli.Command {
	return &cli.Command{
		Name:      "disable",
		Usage:     "switch the store off, over restarts, until enable",
		ArgsUsage: "[MOUNTPOINT]",
		Description: "Files that are here work as before. Those that only the depot has stay listed, and reading\n" +
			"them fails: where there are such files, --yes is wanted. Deletes and renames are kept for enable.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "yes", Usage: "even though some files cannot be read then"}},
		Action: func(c *cli.Context) error {
			return s.ask(c, "disable", pathsRequest{On: c.Bool("yes")})
		},
	}
}

// ask has the daemon do something and shows what it says.
func (s *system) ask(c *cli.Context, what string, req pathsRequest) error {
	if c.Args().Len() > 1 {
		return usagef("%s: takes one mount point at most", what)
	}
	mounts, err := s.mounts()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	t, err := mounts.target(c.Args().First())
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err = newClient(t.mount).stream(c.Context, what, req, func(e event) error {
		if e.Said != "" {
			fmt.Fprintln(s.out, e.Said)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// switchable is what switching the store needs of the heart.
type switchable interface {
	Enable(ctx context.Context, s cache.Store, info cache.StoreInfo, ask bool) (bool, error)
	Disable(ctx context.Context) (bool, error)
	Disabled() (time.Time, bool, error)
	Away() cache.Away
	Status(ctx context.Context) (cache.Status, error)
}

// storeSwitch switches the store of one mount on and off.
type storeSwitch struct {
	heart  switchable
	tuning *tuning // has the settings
}

// enable is `depotfs enable`.
func (w *storeSwitch) enable(ctx context.Context, _ pathsRequest, out *stream) error {
	unlock, err := w.tuning.lock(ctx) // nobody changes the settings meanwhile
	if err != nil {
		return err
	}
	defer unlock()
	cfg := w.tuning.config()
	if cfg.Bucket == "" {
		return errors.New("this mount was given no bucket: name it, and its address and keys where these are wanted, with depotfs config set s3.bucket=NAME, or mount it anew with --bucket NAME")
	}
	store, asker, err := w.tuning.open()
	if err != nil {
		return err
	}
	defer closeStore(asker)
	if !cfg.NoStoreCheck {
		if _, err := checkStore(ctx, asker, cfg, mountRecord{}); err != nil {
			return fmt.Errorf("%w; nothing was changed", err)
		}
	}
	changed, err := w.heart.Enable(ctx, store, storeInfo(cfg), !cfg.NoStoreCheck)
	if !changed {
		closeStore(store)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w; nothing was changed", err)
	case !changed:
		out.send(event{Said: "the store was on already"})
		return nil
	}
	w.tuning.opened(store)
	said := "the store is on: " + storeText(cfg)
	if st, err := w.heart.Status(ctx); err == nil {
		if p := st.Pending; p.Files+p.Moves+p.Removals > 0 {
			said += "; pending: " + pendingLine(p)
		}
	}
	out.send(event{Said: said})
	return nil
}

// disable is `depotfs disable`; On stands for --yes.
func (w *storeSwitch) disable(ctx context.Context, req pathsRequest, out *stream) error {
	if w.tuning.config().Bucket == "" {
		out.send(event{Said: "the store is off already: this mount was given no bucket"})
		return nil
	}
	since, off, err := w.heart.Disabled()
	if err != nil {
		return err
	}
	if off {
		out.send(event{Said: "the store is off already, since " + since.Local().Format(time.DateTime)})
		return nil
	}
	away := awayText(w.heart.Away())
	if away != "" && !req.On {
		return fmt.Errorf("%s: say depotfs warm first to have it here, or depotfs disable --yes", away)
	}
	if _, err := w.heart.Disable(ctx); err != nil {
		return err
	}
	said := "the store is off until depotfs enable"
	if away != "" {
		said += "; " + away
	}
	out.send(event{Said: said})
	return nil
}

// awayText says what cannot be read while the store is off, "" where everything can.
func awayText(a cache.Away) string {
	n := a.Remote + a.Partial
	switch {
	case n == 0 && a.Listed:
		return ""
	case n == 0:
		return "the depot is not listed to its end: files that only it has are not known yet and will not be shown"
	}
	text := fmt.Sprintf("%s not here, or not whole, and cannot be read while the store is off (%s)",
		count(n, "file is", "files are"), bytesText(a.Bytes))
	if !a.Listed {
		text += "; the depot is not listed to its end, there may be more"
	}
	return text
}

// storeText names the store of a mount.
func storeText(cfg Config) string {
	text := "bucket " + cfg.Bucket
	if cfg.Endpoint != "" {
		text += " at " + cfg.Endpoint
	}
	return text
}
