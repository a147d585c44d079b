package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// setting is one line of config show.
type setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"` // secrets: "***" when set
	Text   string `json:"text"`  // the value for people
	Source string `json:"source"`
}

// settings lists a Config for people and scripts; secrets are masked.
func (c *Config) settings() []setting {
	var all []setting
	for i := range options {
		o := &options[i]
		v := o.at(c)
		s := setting{Key: o.fileKey(), Value: v.json(), Text: v.show(), Source: c.origin[o.name]}
		if o.group == groupStore && o.isSecret() && s.Text == "" && !strings.HasPrefix(s.Source, "config set") {
			s.Source = "default (the AWS chain)"
		}
		all = append(all, s)
	}
	return all
}

// configReport is the JSON of config show.
type configReport struct {
	Mountpoint string    `json:"mountpoint,omitempty"` // "" = no mount was asked
	Settings   []setting `json:"settings"`
}

func (s *system) configCommand() *cli.Command {
	return &cli.Command{
		Name: "config", Usage: "show and change the settings",
		Subcommands: []*cli.Command{{
			Name:      "show",
			Usage:     "every setting, its value and where it came from; secrets are never shown",
			ArgsUsage: "[MOUNTPOINT]",
			Description: "Shows the settings of the mount that holds MOUNTPOINT, or of the only mount.\n" +
				"With --config FILE, or where nothing is mounted, it shows what `depotfs mount`\nwould take from that file, the environment and the defaults.",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "config", Usage: "show what a mount with this `FILE` would use"},
				jsonFlag(),
			},
			Action: s.configShow,
		}, s.configSetCommand()},
	}
}

func (s *system) configShow(c *cli.Context) error {
	if c.Args().Len() > 1 {
		return usagef("config show: takes one mount point at most")
	}
	report, err := s.configReport(c)
	if err != nil {
		return fmt.Errorf("config show: %w", err)
	}
	if c.Bool("json") {
		return printJSON(s.out, report)
	}
	if report.Mountpoint != "" {
		fmt.Fprintf(s.out, "settings of the mount on %s\n\n", report.Mountpoint)
	} else {
		fmt.Fprintf(s.out, "settings that a mount would use now\n\n")
	}
	t := table{head: []string{"KEY", "VALUE", "SOURCE"}}
	for _, one := range report.Settings {
		value := one.Text
		if value == "" {
			value = "-"
		}
		t.add(one.Key, value, one.Source)
	}
	t.print(s.out)
	return nil
}

func (s *system) configReport(c *cli.Context) (configReport, error) {
	if !c.IsSet("config") {
		mounts, err := s.mounts()
		if err != nil {
			return configReport{}, err
		}
		if c.Args().Present() || len(mounts.ours()) > 0 {
			t, err := mounts.target(c.Args().First())
			if err != nil {
				return configReport{}, err
			}
			report := configReport{Mountpoint: t.mount.Mountpoint}
			err = newClient(t.mount).get(c.Context, "config", &report.Settings)
			return report, err
		}
	}
	cfg, err := loadConfig(given(c), s.lookupEnv)
	return configReport{Settings: cfg.settings()}, err
}

// given collects the flags that were set on a command line.
func given(c *cli.Context) map[string]string {
	set := map[string]string{}
	for i := range options {
		if name := options[i].name; c.IsSet(name) {
			set[name] = fmt.Sprint(c.Value(name))
		}
	}
	return set
}

// jsonFlag is the same for all commands.
func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON for scripts"}
}

// optionFlags makes the flags of mount from the table.
func optionFlags() []cli.Flag {
	var flags []cli.Flag
	for i := range options {
		o := &options[i]
		text := o.fixed
		if o.note != "" {
			text = o.note
		}
		switch {
		case o.only == onlyFile:
		case o.isBool():
			flags = append(flags, &cli.BoolFlag{Name: o.name, Usage: o.usage, Category: o.group, DefaultText: text})
		default:
			flags = append(flags, &cli.StringFlag{Name: o.name, Usage: o.usage, Category: o.group, DefaultText: text})
		}
	}
	return flags
}
