package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

const killedName = "killed.raw"

// killedRow kills the daemon in the middle of a multipart upload and mounts again.
// Its figure is what the line carried in both runs, as a share of the file: parts
// that were on their way are sent again, parts that the store has are not.
func (b *bench) killedRow() *row {
	size := int64(b.opts.uploadSize)
	return &row{name: "upload, killed at 50 % and mounted again", unit: ofFile, bars: []bar{own(1.05, ofFile)},
		prepare: func(ctx context.Context, c *column) error {
			if err := onlyDepotfs(c); err != nil {
				return err
			}
			return b.readyUpload(ctx, c, killedName, func(path string) error { return writeFile(ctx, path, size, 8) })
		},
		run: func(ctx context.Context, c *column) (float64, error) {
			before := c.proxy.traffic()
			if err := b.killAt(ctx, c, before.Sent+size/2); err != nil {
				return 0, err
			}
			if err := c.zone.mount(ctx); err != nil {
				return 0, err
			}
			if err := c.zone.flush(ctx); err != nil {
				return 0, err
			}
			object := filepath.Join(b.server.dir, coldBucket, c.uploadKey(killedName))
			if st, err := os.Stat(object); err != nil || st.Size() != size {
				return 0, fmt.Errorf("the object is not there in the end: %v", err)
			}
			return float64(c.proxy.traffic().minus(before).Sent) / float64(size), nil
		},
		tidy: func(ctx context.Context, c *column) error { return b.dropUpload(ctx, c, killedName) }}
}

// killAt has the zone upload, and kills it when so many bytes have left it.
func (b *bench) killAt(ctx context.Context, c *column, sent int64) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- c.zone.flush(ctx) }()
	for c.proxy.traffic().Sent < sent {
		select {
		case err := <-ended:
			return fmt.Errorf("the upload ended before it could be killed (%v)", err)
		default:
		}
		if err := pause(ctx, lookEvery/10); err != nil {
			return err
		}
	}
	if err := c.zone.kill(); err != nil {
		return err
	}
	stop() // the command has lost its daemon
	<-ended
	return nil
}
