package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"github.com/urfave/cli/v2"

	"depotfs/cache"
)

func (s *system) conflictsCommand() *cli.Command {
	return &cli.Command{
		Name:  "conflicts",
		Usage: "versions that lost their names to others: list, fetch, drop",
		Subcommands: []*cli.Command{{
			Name:        "list",
			Usage:       "what all zones have kept in the bucket, and this one in the cache directory",
			ArgsUsage:   "[MOUNTPOINT]",
			Description: "The latest comes first. ENTRY is the name of one version, for get and drop.",
			Flags:       []cli.Flag{jsonFlag()},
			Action:      s.conflictsList,
		}, {
			Name:        "get",
			Usage:       "write the bytes of one version to a file",
			ArgsUsage:   "ENTRY",
			Description: "A file that exists is not replaced.",
			Flags:       []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE`; - is standard output", DefaultText: "the file's name, in this directory"}},
			Action:      s.conflictsGet,
		}, {
			Name:      "drop",
			Usage:     "delete versions for good",
			ArgsUsage: "ENTRY...",
			Flags:     []cli.Flag{&cli.StringFlag{Name: "older-than", Usage: "all that were kept for `D` or longer, such as 24h"}},
			Action:    s.conflictsDrop,
		}},
	}
}

// theMount is the mount that a command is about that names none.
func (s *system) theMount(where string) (mountEntry, error) {
	mounts, err := s.mounts()
	if err != nil {
		return mountEntry{}, err
	}
	t, err := mounts.target(where)
	return t.mount, err
}

func (s *system) conflictsList(c *cli.Context) error {
	if c.Args().Len() > 1 {
		return usagef("conflicts list: takes one mount point at most")
	}
	m, err := s.theMount(c.Args().First())
	if err != nil {
		return fmt.Errorf("conflicts list: %w", err)
	}
	lines := json.NewEncoder(s.out)
	lines.SetEscapeHTML(false)
	t := table{head: []string{"KEPT", "SIZE", "ENTRY", "WHY"}, right: []bool{false, true}}
	err = newClient(m).stream(c.Context, "conflicts/list", pathsRequest{}, func(e event) error {
		switch {
		case e.Conflict == nil:
		case c.Bool("json"):
			if err := lines.Encode(e.Conflict); err != nil {
				return errors.Join(errReported, err)
			}
		default:
			t.add(conflictLine(*e.Conflict)...)
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("conflicts list: %w", err)
	case c.Bool("json"):
	case len(t.rows) == 0:
		fmt.Fprintln(s.out, "no conflicts")
	default:
		t.print(s.out)
	}
	return nil
}

func conflictLine(e cache.ConflictEntry) []string {
	why := e.Reason
	if why == "" {
		why = "not recorded"
	}
	return []string{e.Kept.Local().Format(time.DateTime), bytesText(e.Size), entryText(e.Entry, e.Path), printable(why)}
}

func (s *system) conflictsGet(c *cli.Context) error {
	entry := c.Args().First()
	if c.Args().Len() != 1 {
		return usagef("conflicts get: name one entry of depotfs conflicts list")
	}
	m, err := s.theMount("")
	if err != nil {
		return fmt.Errorf("conflicts get: %w", err)
	}
	to := c.String("output")
	if to == "-" {
		if err := newClient(m).fetch(c.Context, entry, s.out); err != nil {
			return fmt.Errorf("conflicts get: %w", err)
		}
		return nil
	}
	if to == "" {
		to = path.Base(entry)
	}
	if err := fetchTo(c, newClient(m), entry, to); err != nil {
		return fmt.Errorf("conflicts get: %w", err)
	}
	return nil
}

// fetchTo makes a file of an entry's bytes; one that is not whole does not stay.
func fetchTo(c *cli.Context, daemon *client, entry, to string) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists: name another file with -o", printable(to))
	}
	if err != nil {
		return err
	}
	if err := errors.Join(daemon.fetch(c.Context, entry, f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

func (s *system) conflictsDrop(c *cli.Context) error {
	older, err := olderThan(c)
	if err != nil {
		return usagef("conflicts drop: %v", err)
	}
	if c.Args().Present() == (older > 0) {
		return usagef("conflicts drop: name entries of depotfs conflicts list, or an age with --older-than")
	}
	m, err := s.theMount("")
	if err != nil {
		return fmt.Errorf("conflicts drop: %w", err)
	}
	sum, failed, err := s.purge(c.Context, m, "conflicts/drop", "conflicts drop", pathsRequest{Entries: c.Args().Slice(), OlderSeconds: older})
	if err != nil {
		return fmt.Errorf("conflicts drop: %w", err)
	}
	fmt.Fprintf(s.out, "%s gone for good (%s)\n", count(sum.Entries, "version", "versions"), bytesText(sum.Bytes))
	if failed {
		return errReported
	}
	return nil
}
