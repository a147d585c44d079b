package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func (s *system) pinCommand(name, usage string, on bool) *cli.Command {
	return &cli.Command{
		Name:      name,
		Usage:     usage,
		ArgsUsage: "PATH...",
		Action:    func(c *cli.Context) error { return s.pin(c, name, on) },
	}
}

func (s *system) pin(c *cli.Context, name string, on bool) error {
	if !c.Args().Present() {
		return usagef("%s: name one or more paths inside a mount", name)
	}
	mounts, err := s.mounts()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	groups, err := mounts.targets(c.Args().Slice())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	failed := false
	for _, group := range groups {
		req := pathsRequest{On: on}
		for _, t := range group {
			req.Paths = append(req.Paths, t.path)
		}
		err := newClient(group[0].mount).stream(c.Context, "pin", req, func(e event) error {
			if e.NotDone != nil {
				failed = true
				fmt.Fprintf(s.err, "depotfs: %s: %s: %s\n", name, printable(e.NotDone.Path), printable(e.NotDone.Reason))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if failed {
		return errReported
	}
	return nil
}
