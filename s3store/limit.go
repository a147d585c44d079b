package s3store

import (
	"context"

	"golang.org/x/time/rate"
)

// limit is a bandwidth limit that may be changed while transfers run.
type limit struct{ bucket *rate.Limiter }

// maxChunk is the most that is read from a limited stream at once: small
// enough that a slow limit still moves bytes often.
const maxChunk = 64 << 10

// minChunk keeps the slowest limits from moving single bytes.
const minChunk = 1 << 10

func newLimit(bytesPerSecond int64) *limit {
	l := &limit{rate.NewLimiter(rate.Inf, maxChunk)}
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
