package main

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"time"

	"github.com/urfave/cli/v2"

	"depotfs/cache"
)

func (s *system) flushCommand() *cli.Command {
	return &cli.Command{
		Name:        "flush",
		Usage:       "upload what waits now, and wait until the depot has it",
		ArgsUsage:   "[PATH...]",
		Description: "Without PATH everything of the mount is flushed. Exit code 1 names what did not arrive, and why.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "timeout", Usage: "give up waiting after `D`, such as 90s or 10m; the uploads go on", DefaultText: "none"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			j := job{name: "flush", doing: "uploading", did: "in the depot", left: "did not arrive", mayBeAll: true}
			if c.IsSet("timeout") {
				if err := (durationValue{&j.timeout, time.Millisecond}).set(c.String("timeout"), ""); err != nil {
					return usagef("flush: --timeout: %v", err)
				}
			}
			return s.work(c, j)
		},
	}
}

// job is a command that has the daemon work on paths while it waits.
type job struct {
	name     string // the command
	doing    string // the progress bar's title
	did      string // what is true of the files afterwards
	left     string // what is said of those that failed
	mayBeAll bool   // no path means the whole mount
	timeout  time.Duration
	call     string // the API's word; "" = name
	on       bool   // --yes
}

// jobReport is the JSON of such a command.
type jobReport struct {
	Done bool `json:"done"`
	progress
	NotDone []cache.NotDone `json:"not_done"`
	Seconds float64         `json:"seconds"`
}

// work runs a job on the paths of a command line.
func (s *system) work(c *cli.Context, j job) error {
	if !j.mayBeAll && !c.Args().Present() {
		return usagef("%s: name one or more paths inside a mount", j.name)
	}
	mounts, err := s.mounts()
	if err != nil {
		return fmt.Errorf("%s: %w", j.name, err)
	}
	groups, err := mounts.targets(c.Args().Slice())
	if err != nil {
		return fmt.Errorf("%s: %w", j.name, err)
	}
	start := time.Now()
	report := jobReport{NotDone: []cache.NotDone{}}
	bar := s.newBar(j.doing, c.Bool("json"))
	for _, group := range groups {
		if err := s.workOn(c.Context, j, group, &report, bar); err != nil {
			bar.clear()
			return fmt.Errorf("%s: %w", j.name, err)
		}
	}
	bar.clear()
	report.Done, report.Seconds = len(report.NotDone) == 0, time.Since(start).Seconds()
	if c.Bool("json") {
		if err := printJSON(s.out, report); err != nil {
			return err
		}
	} else {
		s.say(j, report)
	}
	if !report.Done {
		return errReported
	}
	return nil
}

// workOn runs the job in one mount and adds to the report.
func (s *system) workOn(ctx context.Context, j job, group []target, report *jobReport, bar *progressBar) error {
	var paths []string
	for _, t := range group {
		if t.given != "" {
			paths = append(paths, t.path)
		}
	}
	before, last := report.progress, progress{}
	err := newClient(group[0].mount).stream(ctx, cmp.Or(j.call, j.name), pathsRequest{Paths: paths, TimeoutSeconds: j.timeout.Seconds(), On: j.on}, func(e event) error {
		switch {
		case e.Progress != nil:
			last = *e.Progress
			bar.show(before.plus(last))
		case e.NotDone != nil:
			n := *e.NotDone
			n.Path = path.Join(group[0].mount.Mountpoint, n.Path)
			report.NotDone = append(report.NotDone, n)
		}
		return nil
	})
	report.progress = before.plus(last)
	return err
}

func (p progress) plus(q progress) progress {
	return progress{
		FilesDone: p.FilesDone + q.FilesDone, FilesTotal: p.FilesTotal + q.FilesTotal,
		BytesDone: p.BytesDone + q.BytesDone, BytesTotal: p.BytesTotal + q.BytesTotal,
	}
}

// say tells a person how the job ended.
func (s *system) say(j job, r jobReport) {
	for _, n := range r.NotDone {
		fmt.Fprintf(s.err, "depotfs: %s: %s: %s\n", j.name, printable(n.Path), printable(n.Reason))
	}
	if len(r.NotDone) > 0 {
		fmt.Fprintf(s.err, "depotfs: %s: %s %s\n", j.name, count(int64(len(r.NotDone)), "path", "paths"), j.left)
		return
	}
	if terminalWidth(s.out) == 0 {
		return // scripts get silence
	}
	if r.FilesTotal == 0 {
		fmt.Fprintf(s.out, "everything is %s\n", j.did)
		return
	}
	took := time.Duration(r.Seconds * float64(time.Second)).Round(100 * time.Millisecond)
	fmt.Fprintf(s.out, "%s, %s, %s (%v)\n", count(r.FilesDone, "file", "files"), bytesText(r.BytesDone), j.did, took)
}
