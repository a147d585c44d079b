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

// slowRounds is how often uploads of peers are measured: some take minutes.
const slowRounds = 1

// rssLimit is what the daemon's memory may grow to, however large the files are.
const rssLimit = 256

// uploadRows send files that were written before; the clock runs from the flush, or
// the start of the plain program, to the last object. Peers upload when a file is
// closed: theirs runs from the close, and for many files from the first open, until
// the store has the last object. The figure is bytes of files per second.
func (b *bench) uploadRows() []*row {
	size, total := int64(b.opts.uploadSize), int64(b.opts.uploadFiles)*smallUpload
	return []*row{
		{name: "upload of one file", unit: throughput, counted: true, bars: []bar{ofSDK(0.9)}, peerRounds: slowRounds,
			tidy: func(ctx context.Context, c *column) error { return b.dropUpload(ctx, c, bigUploadName) },
			prepare: func(ctx context.Context, c *column) error {
				return b.readyUpload(ctx, c, bigUploadName, func(path string) error {
					if c.peer != nil {
						return c.hold(ctx, path, size, 6)
					}
					return writeFile(ctx, path, size, 6)
				})
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				if c.peer != nil {
					return rate(size, func() error { return b.peerCloses(ctx, c, size) })
				}
				return rate(size, func() error { return c.upload(ctx, []string{c.uploadPath(bigUploadName)}) })
			}},
		{name: "daemon RSS after the upload", unit: memory, run: memoryOf(func(now, _ int64) int64 { return now })},
		{name: "daemon RSS at its peak", unit: memory, bars: []bar{own(rssLimit, memory)}, run: memoryOf(func(_, peak int64) int64 { return peak })},
		{name: "upload of many files of 1 MiB", unit: throughput, counted: true, bars: []bar{ofSDK(0.9)}, peerRounds: slowRounds,
			prepare: func(ctx context.Context, c *column) error {
				return b.readyUpload(ctx, c, manyUploadName, func(dir string) error {
					if c.peer != nil {
						return nil // its upload begins with the first close
					}
					return writeMany(dir, b.opts.uploadFiles)
				})
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				dir := c.uploadPath(manyUploadName)
				if c.peer != nil {
					return rate(total, func() error { return b.peerWritesMany(ctx, c, dir) })
				}
				paths := make([]string, b.opts.uploadFiles)
				for i := range paths {
					paths[i] = manyPath(dir, i)
				}
				return rate(total, func() error { return c.upload(ctx, paths) })
			},
			tidy: func(ctx context.Context, c *column) error { return b.dropUpload(ctx, c, manyUploadName) }},
	}
}

// writeMany writes the files of the row with many.
func writeMany(dir string, count int) error {
	for i := range count {
		if err := writeOne(dir, i); err != nil {
			return err
		}
	}
	return nil
}

func writeOne(dir string, i int) error {
	if err := os.MkdirAll(filepath.Dir(manyPath(dir, i)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(manyPath(dir, i), randomBytes(smallUpload, uint64(i)), 0o644)
}

// uploadInDir is how many files share a directory: depotfs brings those of one
// directory to the depot in the order in which they were finished.
const uploadInDir = 10

func manyPath(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprint(i/uploadInDir), fmt.Sprint(i))
}

// uploadPath is where a column has what it uploads: no two the same object.
func (c *column) uploadPath(name string) string {
	if c.sdk != nil {
		return filepath.Join(c.dir, name)
	}
	return filepath.Join(c.dir, c.uploadKey(name))
}

// uploadKey is the object of a mount's upload.
func (c *column) uploadKey(name string) string {
	return filepath.Join(uploadDir, filepath.Base(filepath.Dir(c.dir)), name)
}

// readyUpload removes what was uploaded before, here and in the depot, and makes it
// anew.
func (b *bench) readyUpload(ctx context.Context, c *column, name string, make func(path string) error) error {
	if err := b.dropUpload(ctx, c, name); err != nil {
		return err
	}
	path := c.uploadPath(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return make(path)
}

// dropUpload removes what was uploaded: the disk may be small.
func (b *bench) dropUpload(ctx context.Context, c *column, name string) error {
	if c.held != nil {
		_ = c.held.Close() // an upload that failed
		c.held = nil
	}
	if err := os.RemoveAll(c.uploadPath(name)); err != nil {
		return err
	}
	switch {
	case c.zone != nil:
		return c.zone.flush(ctx)
	case c.sdk != nil:
		return c.sdk.store.Delete(ctx, sdkPrefix+"0", "")
	}
	return nil
}

func (c *column) upload(ctx context.Context, paths []string) error {
	switch {
	case c.zone != nil:
		return c.zone.flush(ctx)
	case c.sdk != nil:
		return c.sdk.uploadAll(ctx, sdkPrefix, paths)
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
