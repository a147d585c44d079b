package main

import "github.com/urfave/cli/v2"

func (s *system) warmCommand() *cli.Command {
	return &cli.Command{
		Name:      "warm",
		Usage:     "fetch files now, and wait until all their bytes are here",
		ArgsUsage: "PATH...",
		Flags:     []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			return s.work(c, job{name: "warm", doing: "fetching", did: "here", left: "could not be fetched"})
		},
	}
}
