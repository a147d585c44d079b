package main

import (
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"depotfs/cache"
)

func (s *system) statCommand() *cli.Command {
	return &cli.Command{
		Name:      "stat",
		Usage:     "where the bytes of single files are, and what depotfs does about them",
		ArgsUsage: "PATH...",
		Flags:     []cli.Flag{jsonFlag()},
		Action:    s.stat,
	}
}

// stat shows every path that it can; with one that it cannot, it exits 1.
func (s *system) stat(c *cli.Context) error {
	if !c.Args().Present() {
		return usagef("stat: name one or more paths inside a mount")
	}
	mounts, err := s.mounts()
	if err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	files := []cache.FileStatus{}
	failed := false
	for _, path := range c.Args().Slice() {
		file, err := s.statOne(c, mounts, path)
		if err != nil {
			failed = true
			fmt.Fprintf(s.err, "depotfs: stat: %v\n", interruptedOr(c.Context, err))
			continue
		}
		if !c.Bool("json") {
			if len(files) > 0 {
				fmt.Fprintln(s.out)
			}
			drawFile(s.out, file, time.Now())
		}
		files = append(files, file)
	}
	if c.Bool("json") {
		if err := printJSON(s.out, files); err != nil {
			return err
		}
	}
	if failed {
		return errReported
	}
	return nil
}

func (s *system) statOne(c *cli.Context, mounts mountTable, path string) (cache.FileStatus, error) {
	var file cache.FileStatus
	if path == "" {
		return file, fmt.Errorf("an empty path names nothing")
	}
	t, err := mounts.target(path)
	if err != nil {
		return file, err
	}
	err = newClient(t.mount).stream(c.Context, "stat", pathsRequest{Paths: []string{t.path}}, func(e event) error {
		switch {
		case e.NotDone != nil:
			return fmt.Errorf("%s: %s", path, e.NotDone.Reason)
		case e.File != nil:
			file = *e.File
		}
		return nil
	})
	return file, err
}

// drawFile shows one file for people.
func drawFile(w io.Writer, f cache.FileStatus, now time.Time) {
	name := f.Path
	if name == "" {
		name = "/"
	}
	fmt.Fprintln(w, printable(name))
	t := table{indent: "  "}
	show := func(key, value string) {
		if value != "" {
			t.add(key, printable(value))
		}
	}
	kind := f.Type
	if f.Class != "" && f.Type == "file" {
		kind += " of class " + f.Class
	}
	if f.Pinned {
		kind += ", pinned"
	}
	show("type", kind)
	show("state", f.State)
	show("why", f.Why)
	if f.Type == "file" {
		show("size", fmt.Sprintf("%s (%s bytes)", bytesText(f.Size), humanize.Comma(f.Size)))
		show("here", hereText(f))
		if f.Pending > 0 {
			show("pending", bytesText(f.Pending))
		}
		if f.Open > 0 {
			show("open", fmt.Sprintf("%s, %d of them writing", count(int64(f.Open), "handle", "handles"), f.Writers))
		}
	}
	show("modified", fmt.Sprintf("%s (%s ago)", f.Mtime.Local().Format("2006-01-02 15:04:05"), agoText(now.Sub(f.Mtime))))
	show("inode", fmt.Sprint(f.Ino))
	show("object", f.Key)
	show("etag", f.ETag)
	show("crc64nvme", f.CRC64)
	show("last error", f.LastError)
	t.print(w)
}

func hereText(f cache.FileStatus) string {
	switch {
	case f.Here >= f.Size:
		return "all of it"
	case f.Here == 0:
		return "nothing"
	default:
		return fmt.Sprintf("%s (%.0f %%)", bytesText(f.Here), 100*float64(f.Here)/float64(f.Size))
	}
}
