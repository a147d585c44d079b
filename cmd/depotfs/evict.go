package main

import "github.com/urfave/cli/v2"

func (s *system) evictCommand() *cli.Command {
	return &cli.Command{
		Name:      "evict",
		Usage:     "drop the local bytes of files that the depot has",
		ArgsUsage: "PATH...",
		Description: "The files stay listed and readable: what is read comes back from the depot.\n" +
			"What is open, pinned, or not yet in the depot stays here and is named.",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			return s.work(c, job{name: "evict", doing: "evicting", did: "in the depot only", left: "stayed here"})
		},
	}
}
