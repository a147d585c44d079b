package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"
)

func (s *system) mountCommand() *cli.Command {
	return &cli.Command{
		Name:      "mount",
		Usage:     "mount a depot; returns when the mount answers",
		ArgsUsage: "MOUNTPOINT",
		Description: "Every option is also DEPOTFS_NAME in the environment and `name:` in the --config FILE;\n" +
			"flags go before the environment, the environment before the file.\n" +
			"The keys come from the AWS chain (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, shared files,\n" +
			"instance role) or from s3.access-key and s3.secret-key in the file.",
		Flags: optionFlags(),
		Action: func(c *cli.Context) error {
			err := s.mount(c)
			var usage *usageError
			if err == nil || errors.Is(err, errReported) {
				return err
			}
			if errors.As(err, &usage) {
				return usagef("mount: %s", usage.msg)
			}
			return fmt.Errorf("mount: %w", err)
		},
	}
}

// mount checks what can be checked, then runs the daemon here (--foreground),
// or starts it and waits until it has mounted.
func (s *system) mount(c *cli.Context) error {
	child := takeReporter(s.lookupEnv)
	cfg, p, err := s.prepare(c)
	if child == nil && !cfg.Foreground {
		if err != nil {
			return err
		}
		return s.daemonise(c.Context, cfg, p)
	}
	tell := s.tellTerminal
	if child != nil {
		tell = child.send
	}
	if err == nil {
		err = s.runMount(c.Context, cfg, p, child != nil, tell)
	}
	if err != nil && child != nil {
		var usage *usageError
		tell(report{Error: interruptedOr(c.Context, err).Error(), Usage: errors.As(err, &usage)})
		return errReported
	}
	return err
}

// prepare reads the settings and checks the directories.
func (s *system) prepare(c *cli.Context) (Config, places, error) {
	if c.Args().Len() != 1 || c.Args().First() == "" {
		return Config{}, places{}, usagef("name one directory to mount on: depotfs mount [options] MOUNTPOINT")
	}
	cfg, err := loadConfig(given(c), s.lookupEnv)
	if err != nil {
		return cfg, places{}, err
	}
	if err := cfg.validate(); err != nil {
		return cfg, places{}, err
	}
	mountpoint, err := filepath.Abs(c.Args().First())
	if err != nil {
		return cfg, places{}, err
	}
	mounts, err := s.mounts()
	if err != nil {
		return cfg, places{}, err
	}
	p, err := checkPlaces(cfg, mountpoint, mounts)
	return cfg, p, err
}

// tellTerminal is the reporter of --foreground; errors are the command's own.
func (s *system) tellTerminal(rep report) {
	switch {
	case rep.Warning != "":
		fmt.Fprintf(s.err, "depotfs: %s\n", rep.Warning)
	case rep.Ready != "":
		fmt.Fprintln(s.out, rep.Ready)
	}
}

// runMount owns a mount from its locks to its end.
func (s *system) runMount(ctx context.Context, cfg Config, p places, daemon bool, tell func(report)) error {
	for _, warning := range strayEnvironment(s.environ()) {
		tell(report{Warning: warning})
	}
	m := &mount{cfg: cfg, places: p, sys: s, daemon: daemon, tell: tell}
	return m.run(ctx)
}
