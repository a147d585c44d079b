package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// coldDir holds the objects that are not here. Its class fetches nothing in the
// background, so what is pulled is what the workload asked for.
const coldDir = "snapshots"

const (
	coldObject = coldDir + "/cold.raw"
	coldImage  = coldDir + "/image.qcow2"
	poolObject = coldDir + "/pool.raw"

	coldImageData = 300 << 20
	poolSize      = 256 << 20
	firstOffset   = 1 << 30
	firstRead     = 4 << 10
)

// localImage is the same image as coldImage, here.
func (b *bench) localImage() string { return filepath.Join(b.sub("images"), "cold.qcow2") }

// coldData puts the objects into the bucket, without the long line.
func (b *bench) coldData(ctx context.Context) error {
	direct, err := newSDK(b.server.keys, "http://"+b.server.address, coldBucket, b.sub("sdk"))
	if err != nil {
		return err
	}
	dir := b.sub("objects")
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "object")
	put := func(key string, make func() error) error {
		if err := make(); err != nil {
			return err
		}
		defer os.Remove(file)
		return direct.upload(ctx, key, file)
	}
	err = errors.Join(
		put(coldObject, func() error { return writeFile(ctx, file, int64(b.opts.coldSize), 4) }),
		put(poolObject, func() error { return writeFile(ctx, file, poolSize, 5) }),
	)
	if err != nil || !installed("qemu-img") {
		return err
	}
	if err := b.makeImage(ctx, b.localImage(), coldImageData); err != nil {
		return err
	}
	return direct.upload(ctx, coldImage, b.localImage())
}

func (b *bench) coldRows() []*row {
	rows := []*row{
		{name: "first 4 KiB at 1 GiB", unit: latency, counted: true, prepare: b.cool, run: func(ctx context.Context, c *column) (float64, error) {
			return timed(func() error { return c.readAt(ctx, coldObject, firstOffset, firstRead) })
		}},
	}
	if installed("qemu-img") {
		rows = append(rows,
			&row{name: "qemu-img info", unit: latency, counted: true, prepare: b.cool, run: imageInfo},
			&row{name: "qemu-img info, waiting for the store", unit: roundTrips, prepare: b.cool, run: b.imageWait})
	}
	for _, depth := range []int{1, 16} {
		rows = append(rows, &row{name: fmt.Sprintf("cold random 4 KiB read QD%d", depth), unit: perSecond, counted: true, prepare: b.cool,
			run: func(ctx context.Context, c *column) (float64, error) {
				size := int64(b.opts.coldSize)
				if c.sdk != nil {
					return b.plainRandom(ctx, c.sdk, size, depth)
				}
				return b.random(ctx, c.path(coldObject), size, access{"randread", depth, true})
			}})
	}
	rows = append(rows, &row{name: "cold sequential read", unit: throughput, counted: true, prepare: b.cool,
		run: func(ctx context.Context, c *column) (float64, error) {
			size := int64(b.opts.coldSize)
			return rate(size, func() error {
				if c.sdk != nil {
					return c.sdk.fetch(ctx, coldObject, size)
				}
				return readAll(ctx, c.path(coldObject), size)
			})
		}})
	return append(rows, b.uploadRows()...)
}

// readAt opens an object and reads a piece of it.
func (c *column) readAt(ctx context.Context, name string, off, length int64) error {
	if c.sdk != nil {
		return c.sdk.read(ctx, name, off, length)
	}
	f, err := os.Open(c.path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(make([]byte, length), off)
	return err
}

// cool drops everything local, then reads from another object: connections to the
// store exist, as on a system that has been running.
func (b *bench) cool(ctx context.Context, c *column) error {
	if err := c.fresh(ctx); err != nil {
		return err
	}
	// The kernel's own copies, too, of mounts that have pages.
	if err := dropCaches("1"); err != nil && !errors.Is(err, os.ErrPermission) {
		return err
	}
	return c.readAt(ctx, poolObject, rand.Int64N(poolSize/transfer)*transfer, firstRead)
}

// imageInfo runs qemu-img info. The plain program makes the reads that it takes: the
// header, the first-level table that it names, and one of what that names.
func imageInfo(ctx context.Context, c *column) (float64, error) {
	return timed(func() error {
		if c.sdk == nil {
			return run(ctx, "qemu-img", "info", "-U", c.path(coldImage))
		}
		const cluster = 64 << 10
		for _, off := range []int64{0, 3 * cluster, cluster} {
			if err := c.sdk.read(ctx, coldImage, off, cluster); err != nil {
				return err
			}
		}
		return nil
	})
}

// imageWait is what qemu-img info takes longer than on the same image here, in
// round trips.
func (b *bench) imageWait(ctx context.Context, c *column) (float64, error) {
	cold, err := imageInfo(ctx, c)
	if err != nil || c.sdk != nil {
		return cold / b.opts.roundTrip.Seconds(), err
	}
	here, err := timed(func() error { return run(ctx, "qemu-img", "info", "-U", b.localImage()) })
	return (cold - here) / b.opts.roundTrip.Seconds(), err
}

// plainRandom is the limit: one request of 4 KiB for each place in the queue at a time.
func (b *bench) plainRandom(ctx context.Context, s *sdk, size int64, depth int) (float64, error) {
	return loop(ctx, depth, b.opts.fioTime, func(ctx context.Context) error {
		return s.read(ctx, coldObject, rand.Int64N(size/randomBlock)*randomBlock, randomBlock)
	})
}
