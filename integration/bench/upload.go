package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

const (
	uploadDir      = "volumes"
	smallUpload    = 1 << 20
	bigUploadName  = "upload.raw"
	manyUploadName = "many"
)

// uploadRows send files that were written before; the clock runs from the flush, or
// the start of the plain program, to the last object. Their first figure is bytes
// per second on the line.
func (b *bench) uploadRows() []*row {
	total := int64(b.opts.uploadFiles) * smallUpload
	return []*row{
		{name: "upload of one file", unit: throughput, counted: true,
			prepare: func(ctx context.Context, c *column) error {
				return b.readyUpload(ctx, c, bigUploadName, func(path string) error { return writeFile(ctx, path, int64(b.opts.uploadSize), 6) })
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				return rate(int64(b.opts.uploadSize), func() error {
					return c.upload(ctx, []string{c.uploadPath(bigUploadName)})
				})
			}},
		{name: "daemon RSS after the upload", unit: memory, run: memoryOf(func(now, _ int64) int64 { return now })},
		{name: "daemon RSS at its peak", unit: memory, run: memoryOf(func(_, peak int64) int64 { return peak })},
		{name: "upload of many files of 1 MiB", unit: throughput, counted: true,
			prepare: func(ctx context.Context, c *column) error {
				return b.readyUpload(ctx, c, manyUploadName, func(dir string) error {
					for i := range b.opts.uploadFiles {
						if i%b.opts.perDir == 0 {
							if err := os.MkdirAll(filepath.Dir(b.manyPath(dir, i)), 0o755); err != nil {
								return err
							}
						}
						if err := os.WriteFile(b.manyPath(dir, i), randomBytes(smallUpload, uint64(i)), 0o644); err != nil {
							return err
						}
					}
					return nil
				})
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				paths := make([]string, b.opts.uploadFiles)
				for i := range paths {
					paths[i] = b.manyPath(c.uploadPath(manyUploadName), i)
				}
				return rate(total, func() error { return c.upload(ctx, paths) })
			}},
	}
}

func (b *bench) manyPath(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprint(i/b.opts.perDir), fmt.Sprint(i))
}

// uploadPath is where a column has what it uploads: no two the same object.
func (c *column) uploadPath(name string) string {
	if c.zone != nil {
		return filepath.Join(c.dir, uploadDir, filepath.Base(filepath.Dir(c.dir)), name)
	}
	return filepath.Join(c.dir, name)
}

// readyUpload removes what was uploaded before, here and in the depot, and makes it
// anew.
func (b *bench) readyUpload(ctx context.Context, c *column, name string, make func(path string) error) error {
	if c.peer != nil {
		return errNot // rclone uploads when it thinks fit, s3fs at close
	}
	path := c.uploadPath(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if c.zone != nil {
		if err := c.zone.flush(ctx); err != nil {
			return err
		}
	}
	return make(path)
}

func (c *column) upload(ctx context.Context, paths []string) error {
	switch {
	case c.zone != nil:
		return c.zone.flush(ctx)
	case c.sdk != nil:
		return c.sdk.uploadAll(ctx, "plain/", paths)
	}
	return errNot
}

// memoryOf reads the daemon's memory. It belongs after an upload.
func memoryOf(which func(now, peak int64) int64) func(context.Context, *column) (float64, error) {
	return func(_ context.Context, c *column) (float64, error) {
		if c.zone == nil {
			return 0, errNot
		}
		now, peak, err := c.zone.memory()
		return float64(which(now, peak)), err
	}
}
