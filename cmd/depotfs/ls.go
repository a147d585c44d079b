package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"depotfs/cache"
)

// fileStates are the states that ls can be asked for.
var fileStates = []string{"remote", "partial", "clean", "dirty", "uploading", "conflict"}

func (s *system) lsCommand() *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "list files below a path with their states",
		ArgsUsage: "[PATH]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "state", Usage: "only files in `STATE`: " + strings.Join(fileStates, ", ")},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object a line for scripts"},
		},
		Action: s.ls,
	}
}

// ls prints as it goes: a tree may hold millions of files. So its columns have
// fixed widths.
func (s *system) ls(c *cli.Context) error {
	state := c.String("state")
	switch {
	case c.Args().Len() > 1:
		return usagef("ls: takes one path at most")
	case state != "" && !slices.Contains(fileStates, state):
		return usagef("ls: --state %q is none of %s%s", state, strings.Join(fileStates, ", "), didYouMean(state, fileStates, "", ""))
	}
	mounts, err := s.mounts()
	if err != nil {
		return fmt.Errorf("ls: %w", err)
	}
	t, err := mounts.target(c.Args().First())
	if err != nil {
		return fmt.Errorf("ls: %w", err)
	}
	lines := json.NewEncoder(s.out)
	lines.SetEscapeHTML(false)
	err = newClient(t.mount).stream(c.Context, "ls", pathsRequest{Paths: []string{t.path}, State: state}, func(e event) error {
		switch {
		case e.File == nil, e.File.Type == "dir" && e.File.Path == t.path:
			return nil // what is asked for is what is in it
		case c.Bool("json"):
			err = lines.Encode(e.File)
		default:
			_, err = fmt.Fprintln(s.out, fileLine(*e.File))
		}
		if err != nil { // the reader of a pipe has seen enough
			return errors.Join(errReported, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("ls: %w", err)
	}
	return nil
}

// fileLine is one line of ls: state, size, path.
func fileLine(f cache.FileStatus) string {
	state, name := f.State, printable(f.Path)
	if f.State == "partial" && f.Size > 0 {
		state = fmt.Sprintf("partial %d%%", 100*f.Here/f.Size)
	}
	if f.Pinned {
		state += " *"
	}
	size := bytesText(f.Size)
	if f.Type != "file" {
		state, size = f.Type, "-"
		if f.Type == "dir" {
			name += "/"
		}
	}
	return fmt.Sprintf("%-13s  %9s  %s", state, size, name)
}
