package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"depotfs/cache"
)

func (s *system) zonesCommand() *cli.Command {
	return &cli.Command{
		Name:      "zones",
		Usage:     "list the zones of the depot and how far they are behind, or remove one",
		ArgsUsage: "[MOUNTPOINT] | remove ZONE [MOUNTPOINT]",
		Description: "BEHIND is what a zone has told and is not applied here yet, WAITING what was told here and\n" +
			"that zone has not applied. A zone whose machine is gone for good holds the journals of all\n" +
			"others: remove it. That touches no file, and what it told still counts.",
		Flags:  []cli.Flag{jsonFlag()},
		Action: s.zones,
	}
}

func (s *system) zones(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) > 0 && args[0] == "remove" {
		return s.removeZone(c, args[1:])
	}
	if len(args) > 1 {
		return usagef("zones: takes one mount point at most; to remove a zone, say depotfs zones remove ZONE")
	}
	daemon, err := s.daemonOf("zones", c.Args().First())
	if err != nil {
		return err
	}
	all := []cache.ZoneStatus{}
	if err := daemon.stream(c.Context, "zones", pathsRequest{}, func(e event) error {
		if e.Zone != nil {
			all = append(all, *e.Zone)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("zones: %w", err)
	}
	if c.Bool("json") {
		return printJSON(s.out, all)
	}
	drawZones(s.out, all)
	return nil
}

func (s *system) removeZone(c *cli.Context, args []string) error {
	if len(args) < 1 || len(args) > 2 || c.Bool("json") {
		return usagef("zones remove: name one zone, and the mount point where there are several")
	}
	daemon, err := s.daemonOf("zones remove", strings.Join(args[1:], ""))
	if err != nil {
		return err
	}
	if err := daemon.stream(c.Context, "zones/remove", pathsRequest{Zone: args[0]}, func(event) error { return nil }); err != nil {
		return fmt.Errorf("zones remove: %w", err)
	}
	_, err = fmt.Fprintf(s.out, "zone %s is removed: no other one waits for it any more\n", args[0])
	return err
}

// daemonOf finds the daemon of a path in a mount.
func (s *system) daemonOf(what, path string) (*client, error) {
	mounts, err := s.mounts()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	t, err := mounts.target(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return newClient(t.mount), nil
}

func drawZones(w io.Writer, all []cache.ZoneStatus) {
	t := table{head: []string{"ZONE", "STATE", "HOST", "SEEN", "BEHIND", "WAITING", "VERSION"}}
	for _, z := range all {
		state, behind, waiting := z.State, lagText(z.Behind), lagText(z.Waiting)
		if z.State == "this" {
			state, behind, waiting = "this mount", "", ""
		}
		if z.Error != "" {
			state += ": " + printable(z.Error)
		}
		t.add(z.Zone, state, printable(z.Host), agoText(time.Duration(z.SeenSeconds*float64(time.Second)))+" ago", behind, waiting, printable(z.Version))
	}
	t.print(w)
}

// lagText is "-" where there is none.
func lagText(l cache.ZoneLag) string {
	if l.Batches == 0 {
		return "-"
	}
	n := count(l.Records, "change", "changes")
	if l.Records < 0 {
		n = "more than " + humanize.Comma(l.Batches) + " changes"
	}
	return n + ", " + agoText(time.Duration(l.Seconds*float64(time.Second)))
}

// zonesLine sums up the other zones, "" where there are none.
func zonesLine(z cache.ZonesStatus) string {
	var parts []string
	for _, part := range []struct {
		n    int64
		what string
	}{{int64(z.Alive), "mounted"}, {int64(z.Silent), "SILENT"}, {int64(z.Ended), "unmounted"}} {
		if part.n > 0 {
			parts = append(parts, humanize.Comma(part.n)+" "+part.what)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	line := "others: " + strings.Join(parts, ", ")
	if z.Behind > 0 {
		line += "; " + count(z.Behind, "batch", "batches") + " of theirs not applied here"
	}
	if z.Waiting > 0 {
		line += "; " + count(z.Waiting, "batch", "batches") + " of ours not applied everywhere"
	}
	return line
}

// zones is the daemon's part of `depotfs zones`.
func (c *control) zones(ctx context.Context, _ pathsRequest, out *stream) error {
	all, err := c.heart.Zones(ctx)
	for i := range all {
		out.send(event{Zone: &all[i]})
	}
	return err
}

func (c *control) removeZone(ctx context.Context, req pathsRequest, _ *stream) error {
	return c.heart.RemoveZone(ctx, req.Zone)
}
