package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"depotfs/cache"
)

// coldDir holds the objects that are not here. Its class fetches nothing in the
// background, so what is pulled is what the workload asked for.
const coldDir = "snapshots"

// fillDir holds a copy whose class has the rest follow in the background.
const fillDir = "images"

const (
	coldObject = coldDir + "/cold.raw"
	fillObject = fillDir + "/cold.raw"
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
	direct, err := newSDK(b.server.keys, "http://"+b.server.address, coldBucket, b.sub("sdk"), b.limits)
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
	if err == nil {
		_, err = direct.store.Copy(ctx, coldObject, "", fillObject, int64(b.opts.coldSize), cache.PutOptions{})
	}
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
		{name: "first 4 KiB at 1 GiB", unit: latency, counted: true, prepare: b.cool, bars: []bar{b.inTrips(1.3), pulled(1 << 20)},
			run: func(ctx context.Context, c *column) (float64, error) {
				return timed(func() error { return c.readAt(ctx, coldObject, firstOffset, firstRead) })
			}},
	}
	if installed("qemu-img") {
		rows = append(rows,
			&row{name: "qemu-img info", unit: latency, counted: true, prepare: b.coolImage, run: imageInfo, bars: []bar{pulled(2 << 20)}},
			&row{name: "qemu-img info, waiting for the store", unit: roundTrips, prepare: b.coolImage, run: b.imageWait, bars: []bar{own(2, roundTrips)}})
	}
	for _, depth := range []int{1, 16} {
		rows = append(rows, b.coldRandomRow(depth))
	}
	rows = append(rows, b.coldSequentialRow())
	rows = append(rows, b.bootRows()...)
	rows = append(rows, b.uploadRows()...)
	rows = append(rows, b.killedRow())
	rows = append(rows, b.editRows()...)
	rows = append(rows, b.zonesRows()...)
	return append(rows, b.sparseRows()...)
}

// coldRandomRow reads 4 KiB here and there: at best one for each place in the queue
// in a round trip.
func (b *bench) coldRandomRow(depth int) *row {
	trip := b.opts.roundTrip.Seconds()
	return &row{name: fmt.Sprintf("cold random 4 KiB read QD%d", depth), unit: perSecond, counted: true, prepare: b.cool,
		bars: []bar{
			{limit: 0.9, least: true, what: "a round trip and place in the queue", value: func(_ *column, one *cell) (float64, bool) {
				return median(one.samples) * trip / float64(depth), true
			}},
			{limit: 16, what: "bytes pulled for a byte read", value: func(_ *column, one *cell) (float64, bool) {
				read := median(one.samples) * b.opts.fioTime.Seconds() * randomBlock
				return float64(medianTraffic(one.lines).Received) / read, read > 0 && len(one.lines) > 0
			}},
		},
		run: func(ctx context.Context, c *column) (float64, error) {
			size := int64(b.opts.coldSize)
			if c.sdk != nil {
				return b.plainRandom(ctx, c.sdk, size, depth)
			}
			return b.random(ctx, c.path(coldObject), size, access{"randread", depth, true})
		}}
}

// foundFirst is the name of the seconds after which a reader had its first bytes.
const foundFirst = "first"

// coldSequentialRow reads an object from its start; its first bytes must not wait
// for those after them.
func (b *bench) coldSequentialRow() *row {
	return &row{name: "cold sequential read", unit: throughput, counted: true, prepare: b.cool,
		bars: []bar{ofSDK(0.9), finds(foundFirst, 2, b.opts.roundTrip.Seconds(), "round trips to the first 128 KiB")},
		run: func(ctx context.Context, c *column) (float64, error) {
			size := int64(b.opts.coldSize)
			return rate(size, func() error {
				if c.sdk != nil {
					return c.sdk.fetch(ctx, coldObject, size)
				}
				first, err := readFirst(ctx, c.path(coldObject), size)
				c.found[foundFirst] = first.Seconds()
				return err
			})
		}}
}

// readFirst reads a file from its start, and says how long the open and the first
// 128 KiB took.
func readFirst(ctx context.Context, path string, size int64) (first time.Duration, err error) {
	start := time.Now()
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := io.ReadFull(f, make([]byte, min(128<<10, size)))
	if err != nil {
		return 0, err
	}
	first = time.Since(start)
	return first, drain(ctx, f, size-int64(n))
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

// coolImage is cool, and has qemu-img itself and its libraries in the page cache: what
// it takes to load them from the disk is not the store's.
func (b *bench) coolImage(ctx context.Context, c *column) error {
	if err := b.cool(ctx, c); err != nil {
		return err
	}
	return run(ctx, "qemu-img", "info", "-U", b.localImage())
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
