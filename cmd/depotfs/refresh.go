package main

import "github.com/urfave/cli/v2"

func (s *system) refreshCommand() *cli.Command {
	return &cli.Command{
		Name:      "refresh",
		Usage:     "read now what other zones did, and wait until it shows here",
		ArgsUsage: "[MOUNTPOINT]",
		Description: "Otherwise the other zones' journals are read every --poll-interval, and when something\n" +
			"is missed.",
		Action: func(c *cli.Context) error { return s.ask(c, "refresh", pathsRequest{}) },
	}
}
