package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"time"
)

const (
	// zonesRounds is how many files a row of two zones has; its figure is their median.
	zonesRounds = 20
	// zonesFile is the size of each.
	zonesFile = 1 << 20
	// zonesBar is the default poll interval and half a second.
	zonesBar = 2500
	// zonesLook is how often the other zone is asked.
	zonesLook = 10 * time.Millisecond
)

// zonesRows measure how long it takes after the end of a flush in one zone until the other
// one shows what was done: a file with its last byte, or that it is gone.
func (b *bench) zonesRows() []*row {
	var made int // files have new names in every round
	figure := func(fn func(ctx context.Context, c *column, name string) (float64, error)) func(context.Context, *column) (float64, error) {
		return func(ctx context.Context, c *column) (float64, error) {
			var took []float64
			for range zonesRounds {
				made++
				one, err := fn(ctx, c, filepath.Join(uploadDir, "zones", filepath.Base(filepath.Dir(c.dir)), fmt.Sprint(made)))
				if err != nil {
					return 0, err
				}
				took = append(took, one)
			}
			return median(took), nil
		}
	}
	return []*row{
		{name: "zones-put: a file of 1 MiB, from its flush to its last byte elsewhere", unit: latency, bars: []bar{own(zonesBar, latency)}, prepare: b.otherZone,
			run: figure(func(ctx context.Context, c *column, name string) (float64, error) { return b.zonePut(ctx, c, name) })},
		{name: "zones-delete: the same file, deleted", unit: latency, bars: []bar{own(zonesBar, latency)}, prepare: b.otherZone,
			run: figure(func(ctx context.Context, c *column, name string) (float64, error) {
				if _, err := b.zonePut(ctx, c, name); err != nil {
					return 0, err
				}
				if err := os.Remove(c.path(name)); err != nil {
					return 0, err
				}
				if err := c.zone.flush(ctx); err != nil {
					return 0, err
				}
				return b.untilElsewhere(ctx, name, func(path string) error {
					if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
						return fmt.Errorf("%s is still there (%w)", path, errNotYet)
					}
					return nil
				})
			})},
	}
}

// errNotYet says that the other zone does not show it yet.
var errNotYet = errors.New("not yet")

// otherZone mounts the zone that looks on, once.
func (b *bench) otherZone(ctx context.Context, c *column) error {
	if err := onlyDepotfs(c); err != nil || b.other != nil {
		return err
	}
	line, err := b.line()
	if err != nil {
		return err
	}
	dir := b.sub("other")
	z, err := newZone(b.opts.program("depotfs"), dir, b.server.env(), "--bucket", coldBucket, "--endpoint", line.endpoint(), "--settle", "24h")
	if err != nil {
		return err
	}
	b.other = z
	b.atEnd(func() error { b.other = nil; return errors.Join(z.stop(), os.RemoveAll(dir)) })
	return z.mount(ctx)
}

// zonePut writes and flushes a file, and waits until the other zone reads it to its end.
func (b *bench) zonePut(ctx context.Context, c *column, name string) (float64, error) {
	seed := fnv.New64a()
	seed.Write([]byte(name))
	body := randomBytes(zonesFile, seed.Sum64())
	if err := os.MkdirAll(filepath.Dir(c.path(name)), 0o755); err != nil {
		return 0, err
	}
	if err := os.WriteFile(c.path(name), body, 0o644); err != nil {
		return 0, err
	}
	if err := c.zone.flush(ctx); err != nil {
		return 0, err
	}
	return b.untilElsewhere(ctx, name, func(path string) error {
		got, err := os.ReadFile(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return errNotYet
		case err == nil && string(got) != string(body):
			return fmt.Errorf("the other zone reads other bytes of %s", name)
		}
		return err
	})
}

// untilElsewhere is how long it takes until the other zone is as look wants.
func (b *bench) untilElsewhere(ctx context.Context, name string, look func(path string) error) (float64, error) {
	ctx, stop := context.WithTimeout(ctx, flushTime)
	defer stop()
	return timed(func() error {
		for {
			if err := look(b.other.path(name)); !errors.Is(err, errNotYet) {
				return err
			}
			if err := pause(ctx, zonesLook); err != nil {
				return err
			}
		}
	})
}
