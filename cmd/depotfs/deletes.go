package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"

	"depotfs/cache"
)

func (s *system) deletesCommand() *cli.Command {
	return &cli.Command{
		Name: "deletes", Usage: "decide about deletes that are held, and see which names are hidden",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "names that are gone here and nowhere else", ArgsUsage: "[PATH...]",
				Flags:  []cli.Flag{jsonFlag()},
				Action: s.listDeletes,
			},
			{
				Name: "approve", Usage: "let held deletes go: the other zones and the depot lose the files too", ArgsUsage: "[PATH...]",
				Description: "Without PATH all held deletes are approved. The trash keeps the files for a while.\nHidden names are left alone.",
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "yes", Usage: "do it, without a look at deletes list"}, jsonFlag()},
				Action: func(c *cli.Context) error {
					return s.work(c, job{name: "deletes approve", call: "deletes/approve", doing: "deleting", did: "gone everywhere", left: "not decided", mayBeAll: true, on: c.Bool("yes")})
				},
			},
			{
				Name: "discard", Usage: "bring names back whose deletes are held or hidden", ArgsUsage: "[PATH...]",
				Description: "Without PATH all held names are brought back; hidden ones only where PATH names them,\nor what they are in. Nothing is fetched: the files are read from the depot when they are used.",
				Flags:       []cli.Flag{jsonFlag()},
				Action: func(c *cli.Context) error {
					return s.work(c, job{name: "deletes discard", call: "deletes/discard", doing: "bringing back", did: "back", left: "not brought back", mayBeAll: true})
				},
			},
		},
	}
}

// deletesReport is the JSON of deletes list.
type deletesReport struct {
	Held   []cache.HeldName `json:"held"`
	Hidden []cache.HeldName `json:"hidden"`
}

func (s *system) listDeletes(c *cli.Context) error {
	mounts, err := s.mounts()
	if err != nil {
		return fmt.Errorf("deletes list: %w", err)
	}
	groups, err := mounts.targets(c.Args().Slice())
	if err != nil {
		return fmt.Errorf("deletes list: %w", err)
	}
	report := deletesReport{Held: []cache.HeldName{}, Hidden: []cache.HeldName{}}
	for _, group := range groups {
		var req pathsRequest
		for _, t := range group {
			req.Paths = append(req.Paths, t.path)
		}
		err := newClient(group[0].mount).stream(c.Context, "deletes/list", req, func(e event) error {
			switch {
			case e.Held == nil:
			case e.Held.Kind == "hidden":
				report.Hidden = append(report.Hidden, *e.Held)
			default:
				report.Held = append(report.Held, *e.Held)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("deletes list: %w", err)
		}
	}
	if c.Bool("json") {
		return printJSON(s.out, report)
	}
	s.drawDeletes(report, time.Now())
	return nil
}

// drawDeletes shows the report for people, burst by burst.
func (s *system) drawDeletes(r deletesReport, now time.Time) {
	if len(r.Held)+len(r.Hidden) == 0 {
		fmt.Fprintln(s.out, "no deletes are held, and no names are hidden")
		return
	}
	bursts := map[uint64][]cache.HeldName{}
	var order []uint64
	for _, n := range r.Held {
		if bursts[n.Burst] == nil {
			order = append(order, n.Burst)
		}
		bursts[n.Burst] = append(bursts[n.Burst], n)
	}
	for _, id := range order {
		began := bursts[id][0].Deleted
		for _, n := range bursts[id] {
			if n.Deleted.Before(began) {
				began = n.Deleted
			}
		}
		fmt.Fprintf(s.out, "held: %s since %s, %s ago\n", count(int64(len(bursts[id])), "delete", "deletes"),
			began.Local().Format(time.DateTime), agoText(now.Sub(began)))
		drawNames(s, bursts[id])
	}
	if len(r.Held) > 0 {
		fmt.Fprintf(s.out, "depotfs deletes approve lets them go everywhere, depotfs deletes discard brings them back\n")
	}
	if len(r.Hidden) > 0 {
		fmt.Fprintf(s.out, "hidden here, and kept by the other zones: %s\n", count(int64(len(r.Hidden)), "name", "names"))
		drawNames(s, r.Hidden)
	}
}

func drawNames(s *system, names []cache.HeldName) {
	t := table{indent: "  ", head: []string{"TYPE", "SIZE", "MADE BY", "PATH", ""}, right: []bool{false, true}}
	for _, n := range names {
		size, origin := "", n.Origin
		if n.Type == "file" {
			size = bytesText(n.Size)
		}
		if origin == "" {
			origin = "?"
		}
		t.add(n.Type, size, printable(origin), printable(n.Path), n.Note)
	}
	t.print(s.out)
}

// decider is what the deletes commands need of *cache.Cache.
type decider interface {
	EachHeldName(ctx context.Context, path string, fn func(cache.HeldName) error) error
	ApproveDeletes(ctx context.Context, paths []string, fn func(cache.Progress)) ([]cache.NotDone, error)
	DiscardDeletes(ctx context.Context, paths []string, fn func(cache.Progress)) ([]cache.NotDone, error)
}

// deletes is the control API's part for held deletes.
type deletes struct{ heart decider }

// routes adds its questions to those of the control API.
func (d *deletes) routes(mux *http.ServeMux, c *control) {
	mux.HandleFunc("POST /v1/deletes/list", c.streamed(d.list))
	mux.HandleFunc("POST /v1/deletes/approve", c.streamed(d.approve))
	mux.HandleFunc("POST /v1/deletes/discard", c.streamed(func(ctx context.Context, req pathsRequest, out *stream) error {
		return notDone(out)(d.heart.DiscardDeletes(ctx, req.Paths, out.progress))
	}))
}

func (d *deletes) list(ctx context.Context, req pathsRequest, out *stream) error {
	return d.each(ctx, req.Paths, func(n cache.HeldName) { out.send(event{Held: &n}) })
}

// each visits the names of several paths, all of them with none.
func (d *deletes) each(ctx context.Context, paths []string, fn func(cache.HeldName)) error {
	if len(paths) == 0 {
		paths = []string{""}
	}
	for _, path := range paths {
		if err := d.heart.EachHeldName(ctx, path, func(n cache.HeldName) error { fn(n); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// approve says what would go, where nobody said --yes.
func (d *deletes) approve(ctx context.Context, req pathsRequest, out *stream) error {
	if !req.On {
		var n, size int64
		if err := d.each(ctx, req.Paths, func(h cache.HeldName) {
			if h.Kind == "held" {
				n, size = n+1, size+h.Size
			}
		}); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%s would be gone in every zone (%s): look at depotfs deletes list, then say depotfs deletes approve --yes",
				count(n, "name", "names"), bytesText(size))
		}
	}
	return notDone(out)(d.heart.ApproveDeletes(ctx, req.Paths, out.progress))
}
