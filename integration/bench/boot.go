package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"

	"golang.org/x/sync/errgroup"
)

const (
	bootSpan   = 1 << 30 // what a starting guest reads lies in the first part of its disk
	bootStream = 64 << 20
	bootPiece  = 256 << 10 // of a stream; guests read ahead in pieces like this
)

// bootRead is one request of a guest.
type bootRead struct{ off, length int64 }

// bootReads are what a guest does when it starts, as far as a disk sees it: many
// small reads here and there, each after the one before, then a few files whole, at
// the same time. They are the same in all columns and rounds.
func (b *bench) bootReads() (scattered []bootRead, streams []bootRead) {
	random := rand.New(rand.NewPCG(4, 7))
	for range b.opts.bootReads {
		length := int64(4<<10) << random.IntN(5) // 4 to 64 KiB
		scattered = append(scattered, bootRead{random.Int64N((bootSpan-length)/randomBlock) * randomBlock, length})
	}
	for i := range int64(2) {
		streams = append(streams, bootRead{(i*bootSpan/2 + random.Int64N(bootSpan/4)) / transfer * transfer, bootStream})
	}
	return scattered, streams
}

// bootRows compare a guest that starts from an image which nothing fills with one
// from an image that is filled in the background meanwhile.
func (b *bench) bootRows() []*row {
	without := &row{name: "boot from a cold image, not filling", unit: seconds, counted: true, prepare: b.cool,
		run: func(ctx context.Context, c *column) (float64, error) { return b.boot(ctx, c, coldObject) }}
	with := &row{name: "boot from a cold image, filling", unit: seconds, prepare: b.cool,
		run: func(ctx context.Context, c *column) (float64, error) {
			if c.zone == nil {
				return 0, errNot // others know no difference
			}
			return b.boot(ctx, c, fillObject)
		}}
	with.bars = []bar{{limit: 1.1, what: "of the time without filling", value: func(c *column, one *cell) (float64, bool) {
		// Within a round, as all ratios.
		var ratios []float64
		for i, before := range without.cell(c).samples {
			if i < len(one.samples) {
				ratios = append(ratios, one.samples[i]/before)
			}
		}
		return median(ratios), len(ratios) > 0
	}}}
	return []*row{without, with}
}

// boot does the reads of a guest and returns the seconds they took.
func (b *bench) boot(ctx context.Context, c *column, object string) (float64, error) {
	scattered, streams := b.bootReads()
	if c.sdk != nil {
		return timed(func() error {
			for _, r := range scattered {
				if err := c.sdk.read(ctx, object, r.off, r.length); err != nil {
					return err
				}
			}
			g, ctx := errgroup.WithContext(ctx)
			for _, r := range streams {
				g.Go(func() error { return c.sdk.fetchRange(ctx, object, r.off, r.length) })
			}
			return g.Wait()
		})
	}
	return timed(func() error {
		f, err := os.Open(c.path(object))
		if err != nil {
			return err
		}
		defer f.Close()
		buf := make([]byte, 64<<10)
		for _, r := range scattered {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, err := f.ReadAt(buf[:r.length], r.off); err != nil {
				return fmt.Errorf("read %d bytes at %d: %w", r.length, r.off, err)
			}
		}
		g, ctx := errgroup.WithContext(ctx)
		for _, r := range streams {
			g.Go(func() error {
				buf := make([]byte, bootPiece)
				for off := r.off; off < r.off+r.length && ctx.Err() == nil; off += bootPiece {
					if _, err := f.ReadAt(buf, off); err != nil {
						return fmt.Errorf("read at %d: %w", off, err)
					}
				}
				return ctx.Err()
			})
		}
		return g.Wait()
	})
}
