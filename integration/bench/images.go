package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
)

// Names of images: the source beside the columns, and two in each.
const (
	sourceImage = "source.qcow2"
	inImage     = "in.qcow2"
	insideImage = "inside.qcow2"
)

func (b *bench) source() string { return filepath.Join(b.sub("images"), sourceImage) }

// localData makes the image that is converted.
func (b *bench) localData(ctx context.Context) error {
	if !installed("qemu-img") {
		return nil
	}
	return b.makeImage(ctx, b.source(), int64(b.opts.imageSize))
}

// makeImage makes a qcow2 image with random data and as much room again.
func (b *bench) makeImage(ctx context.Context, path string, data int64) error {
	raw := path + ".raw"
	defer removeFile(raw)
	if err := writeFile(ctx, raw, data, 3); err != nil {
		return err
	}
	if err := run(ctx, "qemu-img", "resize", "-q", "-f", "raw", raw, "+"+strconv.FormatInt(data, 10)); err != nil {
		return err
	}
	return convert(ctx, raw, path)
}

func convert(ctx context.Context, from, to string) error {
	return run(ctx, "qemu-img", "convert", "-O", "qcow2", from, to)
}

func (b *bench) imageRows() []*row {
	if !installed("qemu-img") {
		return nil
	}
	converted := func(name string, from, to func(c *column) string) *row {
		return &row{name: name, unit: throughput,
			prepare: func(ctx context.Context, c *column) error {
				if err := removeFile(to(c)); err != nil || from(c) == b.source() {
					return err
				}
				return ensureCopy(ctx, b.source(), from(c))
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				return rate(int64(b.opts.imageSize), func() error { return convert(ctx, from(c), to(c)) })
			}}
	}
	source := func(*column) string { return b.source() }
	out := func(*column) string { return filepath.Join(filepath.Dir(b.source()), "out.qcow2") }
	in := func(c *column) string { return c.path(inImage) }
	inside := func(c *column) string { return c.path(insideImage) }
	return []*row{
		converted("qemu-img convert in", source, in),
		converted("qemu-img convert out", in, out),
		converted("qemu-img convert inside", in, inside),
	}
}

// localRows are all workloads on files that are here.
func (b *bench) localRows() []*row {
	rows := b.sequentialRows()
	rows = append(rows, b.randomRows()...)
	rows = append(rows, b.smallRows()...)
	return append(rows, b.imageRows()...)
}

// ensureCopy copies a file where it is missing or of another size.
func ensureCopy(ctx context.Context, from, to string) error {
	want, err := os.Stat(from)
	if err != nil {
		return err
	}
	if have, err := os.Stat(to); err == nil && have.Size() == want.Size() {
		return nil
	}
	return run(ctx, "cp", from, to)
}
