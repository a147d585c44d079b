package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
)

// options are the flags.
type options struct {
	size, coldSize, imageSize, uploadSize size
	editSize, sparseSize, sparseData      size
	files, uploadFiles, bootReads         int
	rounds, largeRounds                   int
	fioTime, roundTrip                    time.Duration
	rows, columns                         *regexp.Regexp
	json, profile, dir, bin               string
	short                                 bool
}

// size is a number of bytes that is written like 1GiB.
type size int64

func (s *size) String() string { return humanize.IBytes(uint64(*s)) }
func (s *size) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	*s = size(n)
	return err
}

// sized is a size as text.
func sized(n int64) string {
	s := size(n)
	return s.String()
}

func (o *options) program(name string) string { return filepath.Join(o.bin, name) }

// space is about what a run puts on the disk at a time: with local files per column
// a large file, two images and the small ones; then in the store and in caches the
// cold objects and uploads. The rows with the largest images look for themselves.
func (o *options) space() int64 {
	return max(8*(int64(o.size)+2*int64(o.imageSize)), 6*int64(o.coldSize)+5*int64(o.uploadSize))
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	o = options{size: 1 << 30, coldSize: 2 << 30, imageSize: 512 << 20, uploadSize: 4 << 30,
		editSize: 10 << 30, sparseSize: 16 << 30, sparseData: 1 << 30}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Var(&o.size, "size", "of the large file that is here")
	f.Var(&o.coldSize, "cold-size", "of the object that is not here; more than 1GiB")
	f.Var(&o.imageSize, "image-size", "data in the image that is converted")
	f.Var(&o.uploadSize, "upload-size", "of the file that is uploaded")
	f.Var(&o.editSize, "edit-size", "of the image of which 1 MiB is changed; takes four times the room")
	f.Var(&o.sparseSize, "sparse-size", "of the image that is mostly holes; takes twice the room, because the store keeps zeros")
	f.Var(&o.sparseData, "sparse-data", "data in it")
	f.IntVar(&o.files, "files", 5000, "small files that are made, listed and removed")
	f.IntVar(&o.uploadFiles, "upload-files", 1000, "files of 1 MiB that are uploaded")
	f.IntVar(&o.bootReads, "boot-reads", 100, "scattered reads of a guest that starts")
	f.IntVar(&o.rounds, "rounds", 5, "measurements of each cell; the table has their medians")
	f.IntVar(&o.largeRounds, "large-rounds", 1, "the same for rows with the images of -edit-size and -sparse-size, whose counts do not vary")
	f.DurationVar(&o.fioTime, "fio-time", 3*time.Second, "length of each random access, in whole seconds")
	f.DurationVar(&o.roundTrip, "round-trip", 20*time.Millisecond, "of the line to the store in the cold rows")
	rows := f.String("rows", "", "only rows whose names match this `regexp`")
	columns := f.String("columns", "", "only columns whose names match this `regexp`, and the first")
	f.StringVar(&o.json, "json", "", "write all samples to `FILE` too")
	f.StringVar(&o.profile, "profile", "", "after the rounds, save CPU profiles of depotfs in each row to `DIR`")
	f.StringVar(&o.dir, "dir", "/var/tmp", "work below this directory, which must be on a disk")
	f.StringVar(&o.bin, "bin", "bin", "where make build has put the programs")
	f.BoolVar(&o.short, "short", false, "small sizes and one round: to see that it works")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.short {
		o.shorten(f)
	}
	if o.rows, err = regexp.Compile(*rows); err == nil {
		o.columns, err = regexp.Compile(*columns)
	}
	if err == nil && (o.rounds < 1 || o.largeRounds < 1 || o.bootReads < 1 || o.editSize < 2*editPiece || o.roundTrip <= 0 || o.files < 1 || o.uploadFiles < 1 || o.fioTime < time.Second || o.size < 1<<20 || o.imageSize < 1<<20 || o.uploadSize < 1) {
		err = errors.New("sizes, counts and times must be positive")
	}
	if err == nil && o.sparseData/sparseExtents < transfer || o.sparseSize < 2*sparseExtents*sparseAlign || o.sparseSize < 2*o.sparseData {
		err = fmt.Errorf("-sparse-data must be %v or more, -sparse-size twice that and %v or more", sized(sparseExtents*transfer), sized(2*sparseExtents*sparseAlign))
	}
	if err == nil && o.coldSize < firstOffset+firstRead {
		err = fmt.Errorf("-cold-size must be more than %d", int64(firstOffset))
	}
	return o, err
}

// shorten changes what the caller did not set.
func (o *options) shorten(f *flag.FlagSet) {
	set := map[string]bool{}
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	for name, value := range map[string]string{"size": "128MiB", "cold-size": "1100MiB", "image-size": "64MiB", "upload-size": "256MiB",
		"edit-size": "256MiB", "sparse-size": "1GiB", "sparse-data": "128MiB", "boot-reads": "20", "files": "500", "upload-files": "50", "rounds": "1", "fio-time": "1s"} {
		if !set[name] {
			_ = f.Set(name, value) // the values are constants
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	opts, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = work(ctx, opts)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// work is a whole run; it leaves nothing behind but what was asked for.
func work(ctx context.Context, opts options) (err error) {
	say := io.Writer(io.Discard)
	if st, serr := os.Stderr.Stat(); serr == nil && st.Mode()&os.ModeCharDevice != 0 {
		say = os.Stderr // progress is for a person
	}
	for _, name := range []string{"depotfs", "depotfs-store"} {
		if _, err := os.Stat(opts.program(name)); err != nil {
			return fmt.Errorf("%w: run make build, or say -bin", err)
		}
	}
	if opts.bin, err = filepath.Abs(opts.bin); err != nil {
		return err
	}
	b, err := newBench(ctx, opts, say)
	defer func() { err = errors.Join(err, b.close()) }()
	if err != nil {
		return err
	}
	if err := b.do(ctx); err != nil {
		return err
	}
	fmt.Println(b.machine())
	b.table(os.Stdout)
	if opts.json != "" {
		if err := b.writeJSON(opts.json); err != nil {
			return err
		}
	}
	return b.failures()
}

// do sets up and measures the sections that have rows.
func (b *bench) do(ctx context.Context) error {
	for _, part := range []struct {
		s       *section
		rows    []*row
		columns func(context.Context) error
		data    func(context.Context) error
	}{
		{b.local, b.localRows(), b.localColumns, b.localData},
		{b.cold, b.coldRows(), b.coldColumns, b.coldData},
	} {
		for _, r := range part.rows {
			if b.opts.rows.MatchString(r.name) {
				part.s.rows = append(part.s.rows, r)
			}
		}
		if len(part.s.rows) == 0 {
			continue
		}
		before := len(b.ends)
		fmt.Fprintf(b.say, "preparing %s", part.s.title)
		if err := part.data(ctx); err != nil {
			return err
		}
		if err := part.columns(ctx); err != nil {
			return err
		}
		if err := b.measure(ctx, part.s); err != nil {
			return err
		}
		if err := b.profileAll(ctx, part.s); err != nil {
			return err
		}
		if err := b.closeTo(before); err != nil { // the next section wants the machine for itself
			return err
		}
	}
	return nil
}

// failures are those of depotfs; a peer that fails is its peer's affair.
func (b *bench) failures() error {
	var errs []error
	for _, s := range []*section{b.local, b.cold} {
		for _, r := range s.rows {
			for c, one := range r.cells {
				if one.err != nil && !errors.Is(one.err, errNot) && c.peer == nil {
					errs = append(errs, fmt.Errorf("%s, %s: %w", r.name, c.name, one.err))
				}
			}
		}
	}
	return errors.Join(errs...)
}
