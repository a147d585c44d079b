package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// system is what the commands touch of the world around them; tests replace it.
type system struct {
	in        io.Reader
	out, err  io.Writer
	lookupEnv func(string) (string, bool)
	environ   func() []string
	mountinfo func() (io.ReadCloser, error) // the kernel's mount table
}

// run executes one command line and returns the exit code.
func (s *system) run(ctx context.Context, args []string) int {
	app := s.app()
	args, err := arrange(app, args)
	if err == nil {
		err = interruptedOr(ctx, app.RunContext(ctx, args))
	}
	if err != nil && !errors.Is(err, errReported) {
		fmt.Fprintf(s.err, "depotfs: %s\n", oneLine(err.Error()))
	}
	return exitCode(err)
}

// oneLine joins the lines of a message: joined errors and the words of helper
// programs come with line ends.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// app builds the command tree.
func (s *system) app() *cli.App {
	app := &cli.App{
		Name:            "depotfs",
		Usage:           "a directory that keeps its files in an S3 bucket",
		UsageText:       "depotfs COMMAND [options] [PATH...]\n\nPATH may be any path inside a mount: the command finds the mount itself.\nExit codes: 0 done, 1 failed, 2 usage.",
		Version:         buildVersion(),
		HideHelpCommand: true,
		Flags:           []cli.Flag{cli.HelpFlag}, // cli adds it only together with its own help command
		Writer:          s.out,
		ErrWriter:       s.err,
		ExitErrHandler:  func(*cli.Context, error) {}, // run reports and decides
		Action: func(c *cli.Context) error {
			c.App.Writer = s.err
			_ = cli.ShowAppHelp(c)
			return usagef("name a command")
		},
		Commands: []*cli.Command{
			s.mountCommand(),
			s.umountCommand(),
			s.statusCommand(),
			s.statCommand(),
			s.lsCommand(),
			s.flushCommand(),
			s.warmCommand(),
			s.evictCommand(),
			s.pinCommand("pin", "keep local bytes of files, whatever the cache size", true),
			s.pinCommand("unpin", "let files be evicted again", false),
			s.deletesCommand(),
			s.trashCommand(),
			s.conflictsCommand(),
			s.refreshCommand(),
			s.zonesCommand(),
			s.enableCommand(),
			s.disableCommand(),
			s.configCommand(),
			s.versionCommand(),
		},
	}
	app.Commands = append(app.Commands, s.helpCommand(app))
	for _, c := range app.Commands {
		tidy(c)
	}
	return app
}

// tidy gives a command the manners of all others.
func tidy(c *cli.Command) {
	c.HideHelpCommand = true // "help" may be the name of a file
	c.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usagef("%v", err) }
	for _, sub := range c.Subcommands {
		tidy(sub)
	}
}

func (s *system) helpCommand(app *cli.App) *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "show the commands, or one command's options", ArgsUsage: "[COMMAND]",
		Action: func(c *cli.Context) error {
			if c.Args().Len() == 0 {
				return cli.ShowAppHelp(c)
			}
			words := append([]string{app.Name}, c.Args().Slice()...)
			if _, err := arrange(app, words); err != nil {
				return err
			}
			return app.RunContext(c.Context, append(words, "--help"))
		},
	}
}

// arrange puts the options of a command line before its paths, so that
// `depotfs status /mnt --json` does what it says, and refuses words that the
// command tree does not know.
func arrange(app *cli.App, args []string) ([]string, error) {
	commands, flags := app.Commands, []cli.Flag{cli.HelpFlag, cli.VersionFlag}
	where, path := "", args[:1:1]
	rest := args[1:]
	for len(rest) > 0 && len(commands) > 0 && !strings.HasPrefix(rest[0], "-") {
		c := findCommand(commands, rest[0])
		if c == nil {
			return nil, usagef("unknown command %q%s", where+rest[0],
				didYouMean(rest[0], commandNames(commands), "depotfs "+where, seeHelp(where)))
		}
		where += c.Name + " "
		path = append(path, c.Name)
		rest, commands, flags = rest[1:], c.Subcommands, append([]cli.Flag{cli.HelpFlag}, c.Flags...)
	}
	var options, operands []string
	for len(rest) > 0 {
		arg := rest[0]
		rest = rest[1:]
		if arg == "--" {
			operands = append(operands, rest...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			operands = append(operands, arg)
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		flag := findFlag(flags, name)
		if flag == nil {
			return nil, usagef("%sunknown option --%s%s", colon(where), name, didYouMean(name, flagNames(flags), "--", seeHelp(where)))
		}
		options = append(options, arg)
		if _, isBool := flag.(*cli.BoolFlag); isBool || hasValue {
			continue
		}
		if len(rest) == 0 {
			return nil, usagef("%soption --%s needs a value%s", colon(where), name, seeHelp(where))
		}
		options, rest = append(options, rest[0]), rest[1:]
	}
	if len(commands) > 0 && len(operands) == 0 && len(options) == 0 && where != "" {
		return nil, usagef("%swhat? It knows: %s", colon(where), strings.Join(commandNames(commands), ", "))
	}
	out := append(path, options...)
	if len(operands) > 0 {
		out = append(append(out, "--"), operands...)
	}
	return out, nil
}

func colon(where string) string {
	if where == "" {
		return ""
	}
	return strings.TrimSpace(where) + ": "
}

func seeHelp(where string) string {
	return "; see depotfs " + where + "--help"
}

func findCommand(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func commandNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	return names
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func flagNames(flags []cli.Flag) []string {
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()[0])
	}
	return names
}
