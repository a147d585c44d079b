package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Warm fetches the given paths and everything below them, and waits.
func (c *Cache) Warm(ctx context.Context, paths []string, progress func(Progress)) ([]NotDone, error) {
	return c.eachFile(ctx, paths, progress, func(ctx context.Context, ino Ino) error {
		rec, err := c.record(ino)
		if err != nil || resident(rec.State) {
			return err
		}
		h, err := c.Open(ctx, ino, syscall.O_RDONLY)
		if err != nil {
			return err
		}
		defer h.Release()
		c.hydrate(h.n, 0, 0) // for the files that it names: all of this one comes anyway
		return c.complete(ctx, h.n)
	})
}

// Evict drops the local bytes of clean files now.
func (c *Cache) Evict(ctx context.Context, paths []string, progress func(Progress)) ([]NotDone, error) {
	return c.eachFile(ctx, paths, progress, func(ctx context.Context, ino Ino) error {
		here := c.bytesHere(ino) // before the record, which has them when the node has gone
		rec, err := c.record(ino)
		if err != nil || rec.State == Remote && !here {
			return err
		}
		if c.cfg.Deploy == Beside {
			return errors.New("hypervisors may read it directly (--deploy beside)")
		}
		return c.evictNow(ctx, ino)
	})
}

// bytesHere says whether a file that is open or being worked on has bytes here, which
// the catalog may not know of yet.
func (c *Cache) bytesHere(ino Ino) bool {
	n := c.peek(ino)
	if n == nil {
		return false
	}
	defer c.drop(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil {
		return false
	}
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	return !n.p.here.Empty()
}

// evictNow is evictFile for a person: work in the background on the file is
// stopped first, what somebody has open is not touched.
func (c *Cache) evictNow(ctx context.Context, ino Ino) error {
	deadline := c.now().Add(evictPatience)
	for {
		if n := c.peek(ino); n != nil {
			n.mu.Lock()
			if n.p != nil && n.handles == 0 {
				n.p.mu.Lock()
				if n.p.stopFill != nil {
					n.p.stopFill()
				}
				n.p.mu.Unlock()
				n.stopHydration()
			}
			n.mu.Unlock()
			c.drop(n)
		}
		err := c.evictFile(ctx, ino)
		if !errors.Is(err, errInUse) || c.now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// evictPatience is how long evict waits for work on a file to end: what is in
// flight when it is asked to stop is a few requests.
const evictPatience = 20 * time.Second

// eachFile does one thing to every regular file of the paths.
func (c *Cache) eachFile(ctx context.Context, paths []string, progress func(Progress), do func(ctx context.Context, ino Ino) error) ([]NotDone, error) {
	if len(paths) == 0 {
		paths = []string{""}
	}
	sc, bad, err := c.scopeOf(ctx, paths)
	if err != nil {
		return bad, err
	}
	type file struct {
		ino  Ino
		path string
		size int64
	}
	var files []file
	var p Progress
	for ino, path := range sc.inos {
		rec, err := c.record(ino)
		if err != nil || !isRegular(rec) {
			continue
		}
		files = append(files, file{ino, path, rec.Size})
		p.FilesTotal++
		p.BytesTotal += rec.Size
	}
	for _, f := range files {
		if err := do(ctx, f.ino); err != nil && !errors.Is(err, ErrStale) {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			bad = append(bad, NotDone{Path: f.path, Reason: strings.TrimSuffix(err.Error(), ": "+ErrBusy.Error())})
		}
		if ctx.Err() != nil {
			return bad, fmt.Errorf("stopped: %w", ctx.Err())
		}
		p.FilesDone++
		p.BytesDone += f.size
		if progress != nil {
			progress(p)
		}
	}
	return bad, nil
}

// Pin keeps the given paths and everything below them from being evicted, or no more.
func (c *Cache) Pin(ctx context.Context, paths []string, on bool) ([]NotDone, error) {
	sc, bad, err := c.scopeOf(ctx, paths)
	if err != nil {
		return bad, err
	}
	for _, ino := range slices.Sorted(maps.Keys(sc.inos)) {
		if err := c.pin(ino, on); err != nil && !errors.Is(err, ErrStale) {
			return bad, err
		}
	}
	return bad, nil
}
