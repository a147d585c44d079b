package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// profileTime is how long one profile lasts: at 100 samples a second enough to see
// what takes a hundredth.
const profileTime = 5 * time.Second

// profileAll takes a CPU profile of depotfs in each row, while the row is repeated.
// It comes after the rounds, because profiling costs time. What a row does to
// prepare itself is in the profile too.
func (b *bench) profileAll(ctx context.Context, s *section) error {
	if b.opts.profile == "" {
		return nil
	}
	if err := os.MkdirAll(b.opts.profile, 0o755); err != nil {
		return err
	}
	for _, r := range s.rows {
		for _, c := range s.columns {
			if c.zone == nil || r.cell(c).err != nil || r.unit == memory {
				continue
			}
			file := filepath.Join(b.opts.profile, notName.ReplaceAllString(r.name+" "+c.name, "-")+".pprof")
			fmt.Fprintf(b.say, "\r\033[Kprofile %s", file)
			if err := profileRow(ctx, r, c, file); err != nil {
				return fmt.Errorf("profile %s: %w", r.name, err)
			}
		}
	}
	fmt.Fprint(b.say, "\r\033[K")
	return nil
}

var notName = regexp.MustCompile(`[^A-Za-z0-9]+`)

func profileRow(ctx context.Context, r *row, c *column, file string) error {
	done := make(chan error, 1)
	go func() { done <- c.zone.profile(ctx, file, profileTime) }()
	for {
		_, _, err := r.measure(ctx, c)
		select {
		case perr := <-done:
			return errors.Join(err, perr)
		default:
		}
		if err != nil {
			return errors.Join(err, <-done)
		}
	}
}
