package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	sparseName = "sparse.raw"
	// sparseExtents is in how many pieces the data lies; each begins at a multiple of
	// sparseAlign, as those of a disk's partitions do, and so of a part.
	sparseExtents = 4
	sparseAlign   = 64 << 20
	// sparseRoom is how often the store has the object on its disk, zeros and all,
	// when it is completed from its parts.
	sparseRoom = 2

	foundDisk   = "disk"
	foundPulled = "pulled"
)

// sparseRows send an image that is mostly holes and fetch it elsewhere: what is not
// data costs neither bytes on the line nor on a zone's disk.
func (b *bench) sparseRows() []*row {
	limit := int64(b.opts.sparseData) / 10 * 11
	name := fmt.Sprintf("raw image of %v with %v of data, ", &b.opts.sparseSize, &b.opts.sparseData)
	var far *zone // another zone, while the second row runs
	return []*row{
		{name: name + "sent", unit: seconds, counted: true, rounds: b.opts.largeRounds,
			bars: []bar{sent(limit, ""), findsBytes(foundDisk, limit, "on the disk")},
			prepare: func(ctx context.Context, c *column) error {
				if err := onlyDepotfs(c); err != nil {
					return err
				}
				if err := b.room(sparseRoom*int64(b.opts.sparseSize), "-sparse-size"); err != nil {
					return err
				}
				return b.readyUpload(ctx, c, sparseName, func(path string) error { return b.writeSparse(ctx, path) })
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				took, err := timed(func() error { return c.zone.flush(ctx) })
				if err != nil {
					return 0, err
				}
				return took, b.foundOnDisk(c, c.zone)
			}},
		{name: name + "fetched elsewhere", unit: seconds, rounds: b.opts.largeRounds,
			bars: []bar{findsBytes(foundPulled, limit, "pulled"), findsBytes(foundDisk, limit, "on the disk")},
			prepare: func(ctx context.Context, c *column) (err error) {
				if err := b.ensureSparse(ctx, c); err != nil {
					return err
				}
				far, err = newZone(b.opts.program("depotfs"), b.sub("elsewhere"), b.server.env(), "--bucket", coldBucket, "--endpoint", c.proxy.endpoint())
				if err != nil {
					return err
				}
				return far.mount(ctx)
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				before, err := far.traffic(ctx)
				if err != nil {
					return 0, err
				}
				took, err := timed(func() error { return far.warm(ctx, c.uploadKey(sparseName)) })
				if err != nil {
					return 0, err
				}
				after, err := far.traffic(ctx)
				if err != nil {
					return 0, err
				}
				c.found[foundPulled] = float64(after.minus(before).Received)
				if err := b.holdsSparse(ctx, far.path(c.uploadKey(sparseName))); err != nil {
					return 0, err
				}
				return took, b.foundOnDisk(c, far)
			},
			tidy: func(context.Context, *column) error {
				if far == nil {
					return nil
				}
				err := far.stop()
				far = nil
				return errors.Join(err, os.RemoveAll(b.sub("elsewhere")))
			}},
		{name: name + "evicted and fetched again", unit: seconds, counted: true, rounds: b.opts.largeRounds,
			bars: []bar{pulled(limit), findsBytes(foundDisk, limit, "on the disk")},
			prepare: func(ctx context.Context, c *column) error {
				if err := b.ensureSparse(ctx, c); err != nil {
					return err
				}
				return c.zone.evictFile(ctx, c.uploadKey(sparseName))
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				took, err := timed(func() error { return c.zone.warm(ctx, c.uploadKey(sparseName)) })
				if err != nil {
					return 0, err
				}
				return took, b.foundOnDisk(c, c.zone)
			},
			tidy: func(ctx context.Context, c *column) error { return b.dropUpload(ctx, c, sparseName) }},
	}
}

// onlyDepotfs is for rows about what passes the line, on which it makes no difference
// who serves reads. Peers do not do what is measured there: they send all again.
func onlyDepotfs(c *column) error {
	if c.name != depotfsName {
		return errNot
	}
	return nil
}

// sparseOffset is where a piece of data begins.
func (b *bench) sparseOffset(i int64) int64 {
	return i * (int64(b.opts.sparseSize) / sparseExtents) / sparseAlign * sparseAlign
}

func (b *bench) writeSparse(ctx context.Context, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(b.opts.sparseSize)); err != nil {
		return err
	}
	for i := range int64(sparseExtents) {
		if _, err := f.Seek(b.sparseOffset(i), 0); err != nil {
			return err
		}
		if err := fill(ctx, f, int64(b.opts.sparseData)/sparseExtents, uint64(20+i)); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// ensureSparse makes the image and its object where the row before was not asked for.
func (b *bench) ensureSparse(ctx context.Context, c *column) error {
	if err := onlyDepotfs(c); err != nil {
		return err
	}
	if st, err := os.Stat(c.uploadPath(sparseName)); err == nil && st.Size() == int64(b.opts.sparseSize) {
		return nil
	}
	if err := b.room(sparseRoom*int64(b.opts.sparseSize), "-sparse-size"); err != nil {
		return err
	}
	if err := b.readyUpload(ctx, c, sparseName, func(path string) error { return b.writeSparse(ctx, path) }); err != nil {
		return err
	}
	return c.zone.flush(ctx)
}

// holdsSparse looks at the ends of each piece of data and at what is beside it: cheap
// bytes must be the right ones.
func (b *bench) holdsSparse(ctx context.Context, path string) error {
	want := filepath.Join(b.sub("objects"), sparseName)
	defer os.Remove(want)
	if err := b.writeSparse(ctx, want); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := os.Open(want)
	if err != nil {
		return err
	}
	defer w.Close()
	got, expected := make([]byte, transfer), make([]byte, transfer)
	length := int64(b.opts.sparseData) / sparseExtents
	for i := range int64(sparseExtents) {
		for _, at := range []int64{b.sparseOffset(i), b.sparseOffset(i) + length - transfer, b.sparseOffset(i) + length} {
			if _, err := f.ReadAt(got, at); err != nil {
				return fmt.Errorf("read %s at %d: %w", path, at, err)
			}
			if _, err := w.ReadAt(expected, at); err != nil {
				return err
			}
			if !bytes.Equal(got, expected) {
				return fmt.Errorf("%s has other bytes at %d", path, at)
			}
		}
	}
	return nil
}

func (b *bench) foundOnDisk(c *column, z *zone) error {
	n, err := z.onDisk(c.uploadKey(sparseName))
	c.found[foundDisk] = float64(n)
	return err
}
