package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"depotfs/cache"
)

// watchEvery is the pace of --watch: the one that people can read at.
const watchEvery = time.Second

func (s *system) statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "what a mount is doing, what waits and why",
		ArgsUsage: "[MOUNTPOINT]",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "watch", Usage: "draw it again every second, until ctrl-C"},
		},
		Action: s.status,
	}
}

func (s *system) status(c *cli.Context) error {
	if c.Args().Len() > 1 {
		return usagef("status: takes one mount point at most")
	}
	mounts, err := s.mounts()
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	t, err := mounts.target(c.Args().First())
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	daemon := newClient(t.mount)
	show := func() ([]byte, error) {
		var st cache.Status
		if err := daemon.get(c.Context, "status", &st); err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
		var page bytes.Buffer
		switch {
		case c.Bool("json") && c.Bool("watch"):
			return page.Bytes(), json.NewEncoder(s.out).Encode(st) // one line each
		case c.Bool("json"):
			return nil, printJSON(s.out, st)
		}
		drawStatus(&page, st, time.Now())
		return page.Bytes(), nil
	}
	if !c.Bool("watch") {
		page, err := show()
		_, _ = s.out.Write(page)
		return err
	}
	return s.watch(c.Context, show)
}

// watch draws page after page until ctx ends; on a terminal each over the last.
func (s *system) watch(ctx context.Context, show func() ([]byte, error)) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	if terminalWidth(s.out) > 0 {
		defer fmt.Fprintln(s.out) // the prompt comes after the picture
	}
	for {
		page, err := show()
		if ctx.Err() != nil {
			return nil // ctrl-C is how it ends
		}
		if err != nil {
			return err
		}
		if terminalWidth(s.out) > 0 {
			// Home, each line cleared to its end, the rest of the screen cleared: no flicker.
			page = append([]byte("\x1b[H"), bytes.ReplaceAll(page, []byte("\n"), []byte("\x1b[K\n"))...)
			page = append(page, "\x1b[J"...)
		}
		if _, err := s.out.Write(page); err != nil {
			return errors.Join(errReported, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// drawStatus is the picture for people.
func drawStatus(w io.Writer, st cache.Status, now time.Time) {
	how := []string{string(st.Deploy)}
	if st.Passthrough {
		how = append(how, "kernel passthrough")
	} else {
		how = append(how, "no passthrough")
	}
	if !st.Since.IsZero() {
		how = append(how, "up "+agoText(now.Sub(st.Since)))
	}
	fmt.Fprintf(w, "depotfs  zone %s on %s  (%s)\n\n", st.Zone, printable(st.Mountpoint), strings.Join(how, ", "))
	t := table{indent: "  "}
	t.add("share", printable(st.CacheDir))
	if why := shareGone(st.Problems); why != "" {
		t.add("", "GONE: "+printable(why))
	} else if !st.Since.IsZero() {
		t.add("", checkLine(st.Cache))
	}
	t.add("store", storeLine(st.Store))
	if st.Store.Reason != "" {
		t.add("", printable(st.Store.Reason))
	}
	if st.Store.Error != "" {
		t.add("", printable(st.Store.Error))
	}
	if st.Store.State != "off" {
		t.add("", trafficLine(st.Store.StoreUsage))
	}
	if line := limitLine(st.Limits); line != "" {
		t.add("", line)
	}
	if line := sharedLine(st.Shared); line != "" {
		t.add("", printable(line))
	}
	if st.Store.State == "on" && !st.Store.Capabilities.CopyPart {
		t.add("", "changed files are sent whole, and zeros as bytes: it cannot copy parts of objects")
	}
	if line := zonesLine(st.Zones); line != "" {
		t.add("zones", line)
	}
	if st.Zones.Warning != "" {
		t.add("", printable(st.Zones.Warning))
	}
	if line := eventsLine(st.Events); line != "" {
		t.add("events", line)
	}
	t.add("pending", pendingLine(st.Pending))
	if line := adoptionLine(st.Adoption); line != "" {
		t.add("adoption", line)
		if line = comparedLine(st.Adoption); line != "" {
			t.add("", line)
		}
	}
	known, where := cacheLines(st.Cache)
	t.add("cache", known)
	t.add("", where)
	if line := heldLine(st.Trash.HeldStatus, "deleted version", "deleted versions"); line != "" {
		t.add("trash", line)
	}
	if line := heldLine(st.Conflicts, "version that lost its name", "versions that lost their names"); line != "" {
		t.add("conflicts", line+": see depotfs conflicts list")
	}
	if n := st.Cache.Unshowable; n > 0 {
		t.add("", count(n, "object has a key that is", "objects have keys that are")+" no valid file name")
	}
	drawHeld(&t, st.Deletes)
	t.print(w)
	drawTransfers(w, "uploading", st.Pending.Uploading)
	drawTransfers(w, "fetching", st.Cache.Fetching)
	drawProblems(w, st.Problems, now)
}

func storeLine(st cache.StoreStatus) string {
	state := map[string]string{"off": "off: a plain pass-through, nothing is uploaded", "on": "on"}[st.State]
	if state == "" {
		state = strings.ToUpper(st.State)
	}
	line := state
	if st.Bucket != "" && st.State != "off" {
		at := st.Endpoint
		if at == "" {
			at = "Amazon S3"
		}
		line += ": " + st.Bucket
		if st.Prefix != "" {
			line += "/" + printable(st.Prefix)
		}
		line += " at " + at
	}
	if st.State == "on" && (st.Listing == "running" || st.Listing == "waiting") {
		line += ", listing " + st.Listing
	}
	return line
}

func trafficLine(u cache.StoreUsage) string {
	var requests int64
	for _, kind := range slices.Sorted(maps.Keys(u.Requests)) {
		requests += u.Requests[kind]
	}
	line := fmt.Sprintf("sent %s, received %s, %s", bytesText(u.BytesSent), bytesText(u.BytesReceived), count(requests, "request", "requests"))
	if u.Retries > 0 {
		line += ", " + count(u.Retries, "retry", "retries")
	}
	if u.Errors > 0 {
		line += ", " + count(u.Errors, "error", "errors")
	}
	return line
}

func pendingLine(p cache.PendingStatus) string {
	var parts []string
	if p.Files > 0 {
		parts = append(parts, count(p.Files, "file", "files")+" to upload, "+bytesText(p.Bytes))
	}
	if p.Moves > 0 {
		parts = append(parts, count(p.Moves, "change of a name or attribute", "changes of names and attributes"))
	}
	if p.Removals > 0 {
		parts = append(parts, count(p.Removals, "removal", "removals"))
	}
	if p.Records > 0 {
		parts = append(parts, count(p.Records, "change", "changes")+" to tell other zones")
	}
	if len(parts) == 0 {
		return "nothing: the depot has everything"
	}
	if p.OldestSeconds > 0 {
		parts = append(parts, "oldest waits for "+agoText(time.Duration(p.OldestSeconds*float64(time.Second))))
	}
	return strings.Join(parts, ", ")
}

// heldLine says how much is kept aside in the depot, "" where nothing is.
func heldLine(h cache.HeldStatus, one, many string) string {
	if h.Entries == 0 {
		return ""
	}
	return count(h.Entries, one, many) + ", " + bytesText(h.Bytes)
}

// adoptionLine says how far a share that had files before is known, "" where that is
// over and nothing of it waits.
func adoptionLine(a cache.AdoptionStatus) string {
	if a.State != "running" && a.Comparing == 0 {
		return ""
	}
	line := count(a.Files, "file", "files") + " found (" + bytesText(a.Bytes) + ") in " + count(a.DirsDone, "directory", "directories")
	if a.State != "running" {
		return line
	}
	return "running: " + line + ", " + humanize.Comma(a.DirsLeft) + " left"
}

// comparedLine says how what was found compares with the depot.
func comparedLine(a cache.AdoptionStatus) string {
	var parts []string
	for _, part := range []struct {
		n    int64
		what string
	}{{a.Same, "in the depot already"}, {a.Uploaded, "uploaded"}, {a.Conflicts, "in conflict"}, {a.Comparing, "to be read and compared"}} {
		if part.n > 0 {
			parts = append(parts, humanize.Comma(part.n)+" "+part.what)
		}
	}
	return strings.Join(parts, ", ")
}

// cacheLines says how much is known, and where its bytes are.
func cacheLines(c cache.CacheStatus) (known, where string) {
	known = count(c.Files, "file", "files") + " in " + count(c.Dirs, "directory", "directories")
	if c.OpenFiles > 0 {
		known += ", " + humanize.Comma(c.OpenFiles) + " open"
	}
	where = humanize.Comma(c.Resident) + " here (" + bytesText(c.Bytes) + ")"
	if c.Partial > 0 {
		where += ", " + humanize.Comma(c.Partial) + " partly here"
	}
	if c.Remote > 0 {
		where += ", " + humanize.Comma(c.Remote) + " in the depot only"
	}
	return known, where
}

// checkLine says how old the oldest look at the share is.
func checkLine(c cache.CacheStatus) string {
	return "what others do in it was looked for everywhere within " + agoText(time.Duration(c.OldestCheckSeconds*float64(time.Second)))
}

// shareGone is why the share cannot be used, "" where it can.
func shareGone(all []cache.Problem) string {
	for _, p := range all {
		if p.Kind == "share" && p.Path == ".depotfs/depot.json" {
			return p.Reason
		}
	}
	return ""
}

// limitLine says how fast bytes may move, "" where they move as fast as they can.
func limitLine(l cache.LimitStatus) string {
	var parts []string
	if l.Upload > 0 {
		parts = append(parts, "sends at most "+bytesText(l.Upload)+"/s")
	}
	if l.Download > 0 {
		parts = append(parts, "receives at most "+bytesText(l.Download)+"/s")
	}
	return strings.Join(parts, ", ")
}

// shownTransfers and shownProblems keep the picture on one screen; --json has all.
const (
	shownTransfers = 8
	shownProblems  = 15
)

func drawTransfers(w io.Writer, what string, all []cache.Transfer) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\n  %s\n", what)
	t := table{indent: "    ", right: []bool{false, true, true}}
	for _, one := range all[:min(len(all), shownTransfers)] {
		part := 1.0
		if one.Total > 0 {
			part = float64(one.Done) / float64(one.Total)
		}
		t.add(bar(part), fmt.Sprintf("%.0f %%", part*100), bytesText(one.Total), printable(one.Path))
	}
	t.print(w)
	if more := len(all) - shownTransfers; more > 0 {
		fmt.Fprintf(w, "    and %d more\n", more)
	}
}

// bar draws a part of 1 in 20 columns.
func bar(part float64) string {
	full := int(min(max(part, 0), 1)*20 + 0.5)
	return strings.Repeat("█", full) + strings.Repeat("░", 20-full)
}

func drawProblems(w io.Writer, all []cache.Problem, now time.Time) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\n  problems\n")
	t := table{indent: "    ", head: []string{"KIND", "FOR", "TRIES", "PATH", "REASON"}, right: []bool{false, true, true}}
	for _, one := range all[:min(len(all), shownProblems)] {
		since := "-"
		if !one.Since.IsZero() {
			since = agoText(now.Sub(one.Since))
		}
		t.add(one.Kind, since, fmt.Sprint(one.Attempts), printable(one.Path), printable(one.Reason))
	}
	t.print(w)
	if more := len(all) - shownProblems; more > 0 {
		fmt.Fprintf(w, "    and %d more: see depotfs status --json\n", more)
	}
}

// drawHeld adds what is gone here and nowhere else.
func drawHeld(t *table, d cache.DeleteStatus) {
	title := "deletes"
	if d.Held > 0 {
		t.add(title, fmt.Sprintf("HELD: %s (%s) of what other zones made: see depotfs deletes list", count(d.Held, "name", "names"), bytesText(d.HeldBytes)))
		title = ""
	}
	if d.Hidden > 0 {
		t.add(title, count(d.Hidden, "name is", "names are")+" hidden here, and kept by the other zones")
	}
}
