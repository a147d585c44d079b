package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"depotfs/cache"
)

func (s *system) trashCommand() *cli.Command {
	older := &cli.StringFlag{Name: "older-than", Usage: "only what was deleted `D` ago or longer, such as 24h", DefaultText: "all"}
	return &cli.Command{
		Name:  "trash",
		Usage: "the bucket's versions of deleted files: list, bring back, delete for good",
		Subcommands: []*cli.Command{{
			Name:      "list",
			Usage:     "what can be brought back, the latest deletion first",
			ArgsUsage: "[PATH...]",
			Description: "With PATH only what was deleted there, or below it. ENTRY is the name of one version, for\n" +
				"restore and purge. Deletes that have not reached the bucket yet are not shown: see depotfs flush.",
			Flags:  []cli.Flag{jsonFlag()},
			Action: s.trashList,
		}, {
			Name:      "restore",
			Usage:     "bring deleted files back, in all zones",
			ArgsUsage: "ENTRY|PATH...",
			Description: "PATH is a file, of which the version comes back that was deleted last; or a directory, of which\n" +
				"all files come back that were deleted last, with pauses of 5 minutes at most. Directories are\n" +
				"made anew. A name that exists is not replaced: use --to. Returns when the bucket has the files.",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "to", Usage: "restore the one ENTRY or PATH as `PATH`"}},
			Action: s.trashRestore,
		}, {
			Name:      "purge",
			Usage:     "delete versions from the trash for good",
			ArgsUsage: "[ENTRY|PATH...]",
			Description: "Without ENTRY and PATH the whole trash, of all zones. Without --yes it only says how much that\n" +
				"is, and exits 1.",
			Flags:  []cli.Flag{older, &cli.BoolFlag{Name: "yes", Usage: "delete them"}},
			Action: s.trashPurge,
		}},
	}
}

// isEntry says whether a word of the command line is the name of an entry of the trash.
func isEntry(word string) bool {
	_, ok := cache.EntryTime(word)
	return ok
}

// picked is what a command of the trash is to work on, in one mount.
type picked struct {
	mount          mountEntry
	entries, paths []string
}

// pick finds the mounts of entries and paths. An entry is of the mount that the caller
// stands in, where there are several.
func (s *system) pick(words []string) ([]picked, error) {
	mounts, err := s.mounts()
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		t, err := mounts.target("")
		return []picked{{mount: t.mount}}, err
	}
	var all []picked
	for _, word := range words {
		where := word
		if isEntry(word) {
			where = ""
		}
		t, err := mounts.target(where)
		if err != nil {
			return nil, err
		}
		i := 0
		for i < len(all) && all[i].mount.StateDir != t.mount.StateDir {
			i++
		}
		if i == len(all) {
			all = append(all, picked{mount: t.mount})
		}
		if isEntry(word) {
			all[i].entries = append(all[i].entries, word)
		} else {
			all[i].paths = append(all[i].paths, t.path)
		}
	}
	return all, nil
}

func (s *system) trashList(c *cli.Context) error {
	all, err := s.pick(c.Args().Slice())
	if err != nil {
		return fmt.Errorf("trash list: %w", err)
	}
	lines := json.NewEncoder(s.out)
	lines.SetEscapeHTML(false)
	t := table{head: []string{"DELETED", "SIZE", "EXPIRES", "ENTRY"}, right: []bool{false, true}}
	for _, p := range all {
		if len(p.entries) > 0 {
			return usagef("trash list: %s is an entry: name paths in a mount", p.entries[0])
		}
		err := newClient(p.mount).stream(c.Context, "trash/list", pathsRequest{Paths: p.paths}, func(e event) error {
			if e.Trash == nil {
				return nil
			}
			if c.Bool("json") {
				if err := lines.Encode(e.Trash); err != nil { // the reader of a pipe has seen enough
					return errors.Join(errReported, err)
				}
				return nil
			}
			t.add(trashLine(*e.Trash)...)
			return nil
		})
		if err != nil {
			return fmt.Errorf("trash list: %w", err)
		}
	}
	switch {
	case c.Bool("json"):
	case len(t.rows) == 0:
		fmt.Fprintln(s.out, "nothing: the trash is empty, or nothing was deleted there")
	default:
		t.print(s.out)
	}
	return nil
}

func trashLine(e cache.TrashEntry) []string {
	expires := "as zone " + e.Zone + " says"
	if e.Expires != nil {
		expires = e.Expires.Local().Format(time.DateTime)
	}
	return []string{e.Deleted.Local().Format(time.DateTime), bytesText(e.Size), expires, entryText(e.Entry, e.Path)}
}

// entryText is an entry's name, with the path where the name does not show it.
func entryText(entry, path string) string {
	if n := len(entry) - len(path); n > 0 && entry[n:] == path {
		return printable(entry)
	}
	return printable(entry) + "  (" + printable(path) + ")"
}

func (s *system) trashRestore(c *cli.Context) error {
	if !c.Args().Present() {
		return usagef("trash restore: name what was deleted: a path in a mount, or an entry of depotfs trash list")
	}
	all, err := s.pick(c.Args().Slice())
	if err != nil {
		return fmt.Errorf("trash restore: %w", err)
	}
	to := ""
	if given := c.String("to"); given != "" {
		mounts, err := s.mounts()
		if err != nil {
			return fmt.Errorf("trash restore: %w", err)
		}
		t, err := mounts.target(given)
		switch {
		case err != nil:
			return fmt.Errorf("trash restore: --to: %w", err)
		case c.Args().Len() > 1 || t.mount.StateDir != all[0].mount.StateDir:
			return usagef("trash restore: --to takes one entry or path to another place in the same mount")
		}
		to = t.path
	}
	bar := s.newBar("restoring", false)
	defer bar.clear()
	failed := false
	for _, p := range all {
		req := pathsRequest{Entries: p.entries, Paths: p.paths, To: to}
		err := newClient(p.mount).stream(c.Context, "trash/restore", req, func(e event) error {
			switch {
			case e.Progress != nil:
				bar.show(*e.Progress)
			case e.NotDone != nil:
				failed = true
				bar.clear()
				fmt.Fprintf(s.err, "depotfs: trash restore: %s: %s\n", printable(e.NotDone.Path), printable(e.NotDone.Reason))
			case e.Said != "":
				bar.clear()
				fmt.Fprintln(s.out, e.Said)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("trash restore: %w", err)
		}
	}
	if failed {
		return errReported
	}
	return nil
}

func (s *system) trashPurge(c *cli.Context) error {
	req := pathsRequest{On: c.Bool("yes")}
	var err error
	if req.OlderSeconds, err = olderThan(c); err != nil {
		return usagef("trash purge: %v", err)
	}
	all, err := s.pick(c.Args().Slice())
	if err != nil {
		return fmt.Errorf("trash purge: %w", err)
	}
	refused := false
	for _, p := range all {
		req.Entries, req.Paths = p.entries, p.paths
		sum, failed, err := s.purge(c.Context, p.mount, "trash/purge", "trash purge", req)
		if err != nil {
			return fmt.Errorf("trash purge: %w", err)
		}
		refused = refused || failed
		what := count(sum.Entries, "deleted version", "deleted versions") + " (" + bytesText(sum.Bytes) + ")"
		switch {
		case sum.Entries == 0:
			fmt.Fprintln(s.out, "nothing is to be purged")
		case !req.On:
			refused = true
			fmt.Fprintf(s.err, "depotfs: trash purge: %s would be gone for good: say it again with --yes\n", what)
		default:
			fmt.Fprintf(s.out, "%s gone for good\n", what)
		}
	}
	if refused {
		return errReported
	}
	return nil
}

// olderThan reads the option of that name, in seconds; 0 where it is not given.
func olderThan(c *cli.Context) (float64, error) {
	if !c.IsSet("older-than") {
		return 0, nil
	}
	var d time.Duration
	if err := (durationValue{&d, time.Second}).set(c.String("older-than"), ""); err != nil {
		return 0, fmt.Errorf("--older-than: %v", err)
	}
	return d.Seconds(), nil
}

// purge has a daemon delete what is kept, names what it does not have, and returns how
// much that was.
func (s *system) purge(ctx context.Context, m mountEntry, what, name string, req pathsRequest) (sum cache.Purged, failed bool, err error) {
	err = newClient(m).stream(ctx, what, req, func(e event) error {
		switch {
		case e.NotDone != nil:
			failed = true
			fmt.Fprintf(s.err, "depotfs: %s: %s: %s\n", name, printable(e.NotDone.Path), printable(e.NotDone.Reason))
		case e.Purged != nil:
			sum = *e.Purged
		}
		return nil
	})
	return sum, failed, err
}
