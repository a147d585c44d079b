package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// hold writes a file through a peer's mount and leaves it open: most upload when it
// is closed, and that is to be timed.
func (c *column) hold(ctx context.Context, path string, size int64, seed uint64) (err error) {
	if c.held, err = os.Create(path); err != nil {
		return err
	}
	return fill(ctx, c.held, size, seed)
}

// peerCloses closes the file that is held and waits for its object.
func (b *bench) peerCloses(ctx context.Context, c *column, size int64) error {
	f := c.held
	c.held = nil
	if err := f.Close(); err != nil {
		return err
	}
	return b.arrives(ctx, c.uploadKey(filepath.Base(f.Name())), size)
}

// peerFiles is how many files are written to a peer at once.
const peerFiles = 4

// peerWritesMany writes many files and waits for their objects.
func (b *bench) peerWritesMany(ctx context.Context, c *column, dir string) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(peerFiles)
	for i := range b.opts.uploadFiles {
		g.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			return writeOne(dir, i)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range b.opts.uploadFiles {
		if err := b.arrives(ctx, manyPath(c.uploadKey(manyUploadName), i), smallUpload); err != nil {
			return err
		}
	}
	return nil
}

// arrives waits until the store has an object of a size. The store keeps objects as
// files, and shows them when they are complete.
func (b *bench) arrives(ctx context.Context, key string, size int64) error {
	ctx, stop := context.WithTimeout(ctx, flushTime)
	defer stop()
	for {
		if st, err := os.Stat(filepath.Join(b.server.dir, coldBucket, key)); err == nil && st.Size() == size {
			return nil
		}
		if err := pause(ctx, lookEvery); err != nil {
			return fmt.Errorf("wait for object %q: %w", key, err)
		}
	}
}
