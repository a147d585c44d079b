package s3store

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"depotfs/cache"
)

// limit is a bandwidth limit that may be changed while transfers run. Who is in the
// background (cache.InBackground) goes behind all others, one at a time, and gets a
// tenth of the rate even where the others never pause.
type limit struct {
	bucket *rate.Limiter
	turn   chan struct{} // held by the one in the background that is next

	mu      sync.Mutex
	waiting int       // guarded by mu; those that are not in the background
	last    time.Time // guarded by mu; when one of them came or went
}

// maxChunk is the most that is read from a limited stream at once: small
// enough that a slow limit still moves bytes often.
const maxChunk = 64 << 10

// minChunk keeps the slowest limits from moving single bytes.
const minChunk = 1 << 10

// backgroundShare is which part of the rate the background gets at least.
const backgroundShare = 10

func newLimit(bytesPerSecond int64) *limit {
	l := &limit{bucket: rate.NewLimiter(rate.Inf, maxChunk), turn: make(chan struct{}, 1)}
	l.set(bytesPerSecond)
	return l
}

// set changes the limit; 0 is none. Who waits already waits on at the old one,
// for at most one chunk.
func (l *limit) set(bytesPerSecond int64) {
	if bytesPerSecond <= 0 {
		l.bucket.SetBurst(maxChunk)
		l.bucket.SetLimit(rate.Inf)
		return
	}
	// A tenth of a second's worth.
	l.bucket.SetBurst(int(min(max(bytesPerSecond/10, minChunk), maxChunk)))
	l.bucket.SetLimit(rate.Limit(bytesPerSecond))
}

// chunk returns how many of n bytes to move at once.
func (l *limit) chunk(n int) int {
	if l.bucket.Limit() == rate.Inf {
		return n
	}
	return min(n, l.bucket.Burst())
}

// wait blocks until n bytes more may have moved, or ctx ends.
func (l *limit) wait(ctx context.Context, n int) error {
	if err := ctx.Err(); err != nil || n <= 0 || l.bucket.Limit() == rate.Inf {
		return err
	}
	if !cache.IsBackground(ctx) {
		l.count(1)
		defer l.count(-1)
		return l.take(ctx, n)
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.turn }()
	if err := l.yield(ctx, n); err != nil {
		return err
	}
	return l.take(ctx, n)
}

// count changes the number of those who are not in the background.
func (l *limit) count(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting += by
	l.last = time.Now()
}

// pause is for how long nobody else must have wanted bytes before the background goes
// on: a reader comes back for the next ones at once.
const pause = 50 * time.Millisecond

// yield waits until nobody else wants bytes, or for as long as n bytes take at the
// background's share of the rate.
func (l *limit) yield(ctx context.Context, n int) error {
	most := time.Duration(float64(n) / float64(l.bucket.Limit()) * backgroundShare * float64(time.Second))
	for start := time.Now(); l.wanted() && time.Since(start) < most; {
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	return nil
}

// wanted says whether somebody who is not in the background wants bytes.
func (l *limit) wanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting > 0 || time.Since(l.last) < pause
}

// take waits for n bytes' worth of the rate.
func (l *limit) take(ctx context.Context, n int) error {
	for n > 0 && l.bucket.Limit() != rate.Inf {
		step := min(n, l.bucket.Burst())
		if err := l.bucket.WaitN(ctx, step); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			// The burst was made smaller meanwhile, or ctx's deadline comes
			// before these bytes' time: let them pass and let the deadline come.
			if step <= l.bucket.Burst() {
				return nil
			}
			continue
		}
		n -= step
	}
	return nil
}
