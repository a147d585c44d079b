package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// change is one KEY=VALUE of config set; an empty text gives up what was set before.
type change struct {
	option *option
	text   string
}

// parseChanges reads KEY=VALUE words and refuses what cannot be changed while a mount
// runs. Values are checked one by one; whether they go together, the daemon says.
func parseChanges(words []string) ([]change, error) {
	var all []change
	seen := map[string]bool{}
	for _, word := range words {
		key, text, ok := strings.Cut(word, "=")
		if !ok {
			return nil, usagef("%q: write it like upload-limit=20MiB", printableKey(word))
		}
		o := optionCalled(key)
		switch {
		case o != nil && !o.live:
			return nil, usagef("%s cannot be changed while running: edit the config file and mount again", key)
		case o == nil:
			return nil, usagef("%q is no setting%s", printableKey(key), didYouMean(key, liveNames(), "", "; those that can be changed while running are "+strings.Join(liveNames(), ", ")))
		case seen[o.name]:
			return nil, usagef("%s is set twice", key)
		}
		seen[o.name] = true
		if text != "" {
			if err := o.at(&Config{}).set(text, "/"); err != nil {
				return nil, usagef("%s: %v", key, err)
			}
		}
		all = append(all, change{o, text})
	}
	return all, nil
}

// optionCalled finds an option by its name or its key in the file.
func optionCalled(name string) *option {
	for i := range options {
		if o := &options[i]; name == o.name || name == o.fileKey() {
			return o
		}
	}
	return nil
}

// liveNames are the settings that can be changed while a mount runs.
func liveNames() (names []string) {
	for i := range options {
		if options[i].live {
			names = append(names, options[i].fileKey())
		}
	}
	return names
}

func (s *system) configSetCommand() *cli.Command {
	return &cli.Command{
		Name:      "set",
		Usage:     "change settings of a running mount, at once and for later mounts",
		ArgsUsage: "KEY=VALUE... [MOUNTPOINT]",
		Description: "Settings that can be changed: " + strings.Join(liveNames(), ", ") + ".\n" +
			"All of one command are changed, or none. They are kept over restarts, and go before flags,\n" +
			"environment and config file; KEY= without a value gives that up again.\n\n" +
			"Settings of the store are tried out first: a store that does not answer, refuses the keys, or is\n" +
			"not the depot of this mount leaves everything as it was. What is on its way goes on.\n\n" +
			"Keys: s3.secret-key=@FILE reads FILE, s3.secret-key=- a line of standard input, for several in\n" +
			"the order in which they are named. A key in the command itself is for everybody to see.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all-zones",
			Usage: "announce them to all zones of the depot, which try them out and take them up within a minute or two; only " + strings.Join(sharedNames(), ", ")}},
		Action: s.configSet,
	}
}

func (s *system) configSet(c *cli.Context) error {
	words, where := c.Args().Slice(), ""
	if n := len(words); n > 0 && (!strings.Contains(words[n-1], "=") || strings.HasPrefix(words[n-1], "/")) {
		words, where = words[:n-1], words[n-1]
	}
	if len(words) == 0 {
		return usagef("config set: name at least one setting, like upload-limit=20MiB")
	}
	changes, err := parseChanges(words)
	if err == nil && c.Bool("all-zones") {
		err = mayShare(changes)
	}
	if err != nil {
		return usagef("config set: %v", err)
	}
	if words, err = s.readSecrets(words); err != nil {
		return fmt.Errorf("config set: %w", err)
	}
	mounts, err := s.mounts()
	if err != nil {
		return fmt.Errorf("config set: %w", err)
	}
	t, err := mounts.target(where)
	if err != nil {
		return fmt.Errorf("config set: %w", err)
	}
	err = newClient(t.mount).stream(c.Context, "config", pathsRequest{Set: words, AllZones: c.Bool("all-zones")}, func(e event) error {
		if e.Said != "" {
			fmt.Fprintln(s.out, e.Said)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("config set: %w", err)
	}
	return nil
}
