package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// randomBlock is the size of random access: what guests' file systems do.
const randomBlock = 4 << 10

// access is one kind of random access.
type access struct {
	mode   string // fio's rw=
	depth  int
	direct bool // past the page cache, as hypervisors open images (cache=none)
}

func (b *bench) randomRows() []*row {
	var rows []*row
	for _, r := range []struct {
		name string
		a    access
	}{
		{"random 4 KiB read QD1, O_DIRECT", access{"randread", 1, true}},
		{"random 4 KiB read QD16, O_DIRECT", access{"randread", 16, true}},
		{"random 4 KiB write QD1, O_DIRECT", access{"randwrite", 1, true}},
		{"random 4 KiB read QD1, page cache", access{"randread", 1, false}},
		{"random 4 KiB write QD1, page cache", access{"randwrite", 1, false}},
	} {
		rows = append(rows, &row{name: r.name, unit: perSecond,
			prepare: func(ctx context.Context, c *column) error {
				if err := ensureFile(ctx, c.path(bigFile), int64(b.opts.size)); err != nil || r.a.direct {
					return err
				}
				return readAll(ctx, c.path(bigFile), int64(b.opts.size))
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				return b.random(ctx, c.path(bigFile), int64(b.opts.size), r.a)
			}})
	}
	return rows
}

// random does random access for a while and returns how many there were a second.
func (b *bench) random(ctx context.Context, path string, size int64, a access) (float64, error) {
	if installed("fio") {
		return fio(ctx, path, size, a, b.opts.fioTime)
	}
	return loopRandom(ctx, path, size, a, b.opts.fioTime)
}

func fio(ctx context.Context, path string, size int64, a access, d time.Duration) (float64, error) {
	direct := 0
	if a.direct {
		direct = 1
	}
	engine := "libaio"
	if a.depth == 1 {
		engine = "psync"
	}
	args := []string{"--name=bench", "--filename=" + path, "--rw=" + a.mode, "--bs=" + fmt.Sprint(randomBlock), "--size=" + fmt.Sprint(size),
		"--ioengine=" + engine, "--iodepth=" + fmt.Sprint(a.depth), "--direct=" + fmt.Sprint(direct), "--invalidate=0", "--time_based",
		"--runtime=" + fmt.Sprint(int(d.Seconds())), "--norandommap", "--randrepeat=0", "--allow_file_create=0", "--fallocate=none",
		"--thread", "--output-format=json"}
	if a.mode == "randread" {
		args = append(args, "--readonly")
	}
	text, err := output(ctx, nil, "fio", args...)
	if err != nil {
		return 0, err
	}
	var out struct {
		Jobs []struct {
			Read  struct{ IOPS float64 }
			Write struct{ IOPS float64 }
		}
	}
	if err := json.Unmarshal(text, &out); err != nil || len(out.Jobs) != 1 {
		return 0, fmt.Errorf("fio answers something else than one job: %v", err)
	}
	return out.Jobs[0].Read.IOPS + out.Jobs[0].Write.IOPS, nil
}

// loopRandom does without fio: a goroutine for each place in the queue.
func loopRandom(ctx context.Context, path string, size int64, a access, d time.Duration) (float64, error) {
	flags := unix.O_RDONLY
	if a.mode == "randwrite" {
		flags = unix.O_WRONLY
	}
	if a.direct {
		flags |= unix.O_DIRECT
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	fd := int(f.Fd())
	return loop(ctx, a.depth, d, func(context.Context) error {
		buf := make([]byte, 2*randomBlock) // aligned within, as O_DIRECT wants it
		skip := -int(uintptr(unsafe.Pointer(&buf[0]))) & (randomBlock - 1)
		buf = buf[skip : skip+randomBlock]
		off := rand.Int64N(size/randomBlock) * randomBlock
		var err error
		if flags&unix.O_ACCMODE == unix.O_RDONLY {
			_, err = unix.Pread(fd, buf, off)
		} else {
			_, err = unix.Pwrite(fd, buf, off)
		}
		return err
	})
}

// loop calls fn from depth goroutines for a while, and once at least; the answer is
// calls a second.
func loop(ctx context.Context, depth int, d time.Duration, fn func(ctx context.Context) error) (float64, error) {
	var done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for range depth {
		g.Go(func() error {
			for {
				if err := fn(ctx); err != nil {
					return err
				}
				done.Add(1)
				if time.Since(start) >= d {
					return nil
				}
			}
		})
	}
	err := g.Wait()
	return float64(done.Load()) / time.Since(start).Seconds(), err
}
