package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	smallDir   = "small"
	smallSize  = 2 << 10 // a template.properties and its kind
	smallInDir = 100     // files in one directory
)

func (b *bench) smallRows() []*row {
	per := func(fn func() error) (float64, error) {
		seconds, err := timed(fn)
		return float64(b.opts.files) / seconds, err
	}
	// What is asked for has been listed before, as a hypervisor's storage pool has.
	listed := func(ctx context.Context, c *column) error {
		if err := b.ensureSmall(ctx, c); err != nil {
			return err
		}
		return run(ctx, "ls", "-lR", c.path(smallDir))
	}
	return []*row{
		{name: "create small files", unit: perSecond,
			prepare: func(_ context.Context, c *column) error {
				if err := os.RemoveAll(c.path(smallDir)); err != nil {
					return err
				}
				return forgetDeleted()
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				return per(func() error { return b.createSmall(ctx, c) })
			}},
		{name: "stat small files", unit: perSecond, prepare: listed,
			run: func(ctx context.Context, c *column) (float64, error) {
				return per(func() error {
					return b.eachSmall(ctx, c, func(path string) error {
						_, err := os.Lstat(path)
						return err
					})
				})
			}},
		{name: "ls -lR small files", unit: perSecond, prepare: listed,
			run: func(ctx context.Context, c *column) (float64, error) {
				return per(func() error { return run(ctx, "ls", "-lR", c.path(smallDir)) })
			}},
		{name: "find small files again", unit: perSecond,
			prepare: func(ctx context.Context, c *column) error {
				if err := listed(ctx, c); err != nil {
					return err
				}
				return run(ctx, "find", c.path(smallDir))
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				return per(func() error { return run(ctx, "find", c.path(smallDir)) })
			}},
		{name: "remove small files", unit: perSecond, prepare: b.ensureSmall,
			run: func(ctx context.Context, c *column) (float64, error) {
				return per(func() error { return b.eachSmall(ctx, c, os.Remove) })
			}},
	}
}

// forgetDeleted has ext4 forget which inodes it freed of late. It skips those for
// five minutes, one by one, at every create: a create after 5,000 removals would cost
// twenty times as much as one on a disk that was left alone. It looks only at
// what is in memory.
func forgetDeleted() error {
	if err := dropCaches("1"); !errors.Is(err, os.ErrPermission) {
		return err
	}
	return nil
}

// eachSmall calls fn for the path of each small file.
func (b *bench) eachSmall(ctx context.Context, c *column, fn func(path string) error) error {
	for i := range b.opts.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(filepath.Join(c.dir, smallDir, fmt.Sprint(i/smallInDir), fmt.Sprintf("file-%d.properties", i))); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) createSmall(ctx context.Context, c *column) error {
	body := randomBytes(smallSize, 2)
	for i := 0; i < b.opts.files; i += smallInDir {
		if err := os.MkdirAll(filepath.Join(c.dir, smallDir, fmt.Sprint(i/smallInDir)), 0o755); err != nil {
			return err
		}
	}
	return b.eachSmall(ctx, c, func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		if _, err := f.Write(body); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	})
}

// ensureSmall makes the files where the last row has removed them.
func (b *bench) ensureSmall(ctx context.Context, c *column) error {
	missing := false
	if err := b.eachSmall(ctx, c, func(path string) error {
		_, err := os.Lstat(path)
		missing = missing || err != nil
		return nil
	}); err != nil || !missing {
		return err
	}
	if err := os.RemoveAll(c.path(smallDir)); err != nil {
		return err
	}
	return b.createSmall(ctx, c)
}
