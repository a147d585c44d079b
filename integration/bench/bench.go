package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one run: everything it started and everything it found.
type bench struct {
	opts     options
	dir      string // all of it
	say      io.Writer
	server   *server
	limits   limits // depotfs's defaults
	loopback string // the program
	local    *section
	cold     *section
	other    *zone          // of the cold bucket too, for rows of two zones; nil before them
	ends     []func() error // in the order of their starts
	notes    []string       // what the reader of the table should know
}

// section is a part of the table whose rows have the same columns; the first column
// is what the others are compared with.
type section struct {
	title   string
	columns []*column
	rows    []*row
}

func (s *section) add(c *column) { s.columns = append(s.columns, c) }

// row is one workload.
type row struct {
	name string
	unit unit
	// prepare makes ready, untimed, before each measurement; may be nil.
	prepare func(ctx context.Context, c *column) error
	// run does the workload and returns its figure.
	run func(ctx context.Context, c *column) (float64, error)
	// counted rows say what went over the line meanwhile.
	counted bool
	// bars are the figures that depotfs has to reach.
	bars []bar
	// rounds limits how often a row that takes long is measured, and peerRounds how
	// often in the columns of peers; 0: in all rounds.
	rounds, peerRounds int
	// tidy makes room after each measurement; may be nil.
	tidy  func(ctx context.Context, c *column) error
	cells map[*column]*cell
}

// cell is what was measured of one row in one column.
type cell struct {
	samples []float64
	ratios  []float64 // to the first column in the same round; above 1 is better
	lines   []traffic
	found   map[string][]float64 // what else a run found out, by name
	err     error                // the first failure; nothing is measured after it
}

// newBench makes the directory and starts what all columns need.
func newBench(ctx context.Context, opts options, say io.Writer) (b *bench, err error) {
	b = &bench{opts: opts, say: say, local: &section{title: "files that are here"}, cold: &section{title: fmt.Sprintf("files behind a line of %v", opts.roundTrip)}}
	if b.dir, err = os.MkdirTemp(opts.dir, "depotfs-bench-"); err != nil {
		return b, err
	}
	b.atEnd(func() error { return os.RemoveAll(b.dir) })
	// The mount must not lie on a disk in memory: direct I/O and cold reads need one.
	var fs unix.Statfs_t
	if err := unix.Statfs(b.dir, &fs); err != nil {
		return b, err
	}
	if fs.Type == unix.TMPFS_MAGIC {
		return b, fmt.Errorf("%s is in memory: name a directory on a disk with -dir", b.dir)
	}
	if need, free := b.opts.space(), int64(fs.Bavail)*fs.Bsize; free < need {
		return b, fmt.Errorf("%s has %d MiB free and the run needs %d: name another directory with -dir, or smaller sizes", b.dir, free>>20, need>>20)
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return b, err
	}
	b.loopback = filepath.Join(b.sub("bin"), "loopback")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.loopback, "./fs/loopback")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return b, fmt.Errorf("build the loopback: %w\n%s", err, out)
	}
	if b.limits, err = defaultLimits(ctx, opts.program("depotfs")); err != nil {
		return b, err
	}
	if b.server, err = startServer(ctx, opts.program("depotfs-store"), b.sub("store")); err != nil {
		return b, err
	}
	b.atEnd(b.server.stop)
	return b, nil
}

// sub is a directory of the run.
func (b *bench) sub(name string) string {
	dir := filepath.Join(b.dir, name)
	_ = os.MkdirAll(dir, 0o755) // where it fails, its first use says so
	return dir
}

func (b *bench) atEnd(fn func() error) { b.ends = append(b.ends, fn) }

// close takes everything down, the last first.
func (b *bench) close() error { return b.closeTo(0) }

// closeTo takes down what was started after there were n ends.
func (b *bench) closeTo(n int) error {
	var errs []error
	for _, fn := range slices.Backward(b.ends[n:]) {
		errs = append(errs, fn())
	}
	b.ends = b.ends[:n]
	return errors.Join(errs...)
}

// wanted says whether a column was asked for.
func (b *bench) wanted(name string) bool { return b.opts.columns.MatchString(name) }

// measure does all rounds of a section. Within a round each row runs in all columns
// one after the other, so that a machine that gets slower or faster does so for all;
// every round starts at another column.
func (b *bench) measure(ctx context.Context, s *section) error {
	for round := range b.opts.rounds {
		for _, r := range s.rows {
			fmt.Fprintf(b.say, "\r\033[Kround %d of %d: %s", round+1, b.opts.rounds, r.name)
			if err := b.measureRow(ctx, s, r, round); err != nil {
				return err
			}
		}
	}
	fmt.Fprint(b.say, "\r\033[K")
	return nil
}

// in says whether a row is measured in a column in this round.
func (r *row) in(round int, c *column) bool {
	return (r.rounds == 0 || round < r.rounds) && (c.peer == nil || r.peerRounds == 0 || round < r.peerRounds)
}

func (b *bench) measureRow(ctx context.Context, s *section, r *row, round int) error {
	values := make([]float64, len(s.columns))
	for i := range s.columns {
		at := (i + round) % len(s.columns)
		c := s.columns[at]
		one := r.cell(c)
		if one.err != nil || !r.in(round, c) {
			continue
		}
		value, moved, err := r.measure(ctx, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if r.tidy != nil && !errors.Is(err, errNot) {
			err = errors.Join(err, r.tidy(ctx, c))
		}
		if err != nil {
			one.err = err
			continue
		}
		values[at] = value
		one.samples = append(one.samples, value)
		if r.counted {
			one.lines = append(one.lines, moved)
		}
		one.keep(c.found)
	}
	for i, c := range s.columns {
		if values[i] > 0 && values[0] > 0 {
			r.cell(c).ratios = append(r.cell(c).ratios, r.unit.ratio(values[i], values[0]))
		}
	}
	return nil
}

func (r *row) cell(c *column) *cell {
	if r.cells == nil {
		r.cells = map[*column]*cell{}
	}
	if r.cells[c] == nil {
		r.cells[c] = &cell{}
	}
	return r.cells[c]
}

// keep adds what a run found out.
func (c *cell) keep(found map[string]float64) {
	if c.found == nil {
		c.found = map[string][]float64{}
	}
	for name, value := range found {
		c.found[name] = append(c.found[name], value)
	}
}

// measure runs a row once in a column.
func (r *row) measure(ctx context.Context, c *column) (value float64, moved traffic, err error) {
	if r.prepare != nil {
		if err := r.prepare(ctx, c); err != nil {
			return 0, moved, err
		}
	}
	unix.Sync() // what others left to be written is not ours to wait for
	c.found = map[string]float64{}
	var before traffic
	if r.counted {
		if before, err = c.quiet(ctx); err != nil {
			return 0, moved, err
		}
	}
	if value, err = r.run(ctx, c); err != nil || !r.counted {
		return value, moved, err
	}
	// What was asked for too much may still be on its way.
	after, err := c.quiet(ctx)
	return value, after.minus(before), err
}

// timed is how long fn takes, in seconds.
func timed(fn func() error) (float64, error) {
	start := time.Now()
	err := fn()
	return time.Since(start).Seconds(), err
}
