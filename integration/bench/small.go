package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
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
		return run(ctx, "ls", "-lR", c.small())
	}
	return []*row{
		{name: "create small files", unit: perSecond,
			prepare: func(_ context.Context, c *column) error { return c.freshSmall() },
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
				return per(func() error { return run(ctx, "ls", "-lR", c.small()) })
			}},
		{name: "find small files again", unit: perSecond,
			prepare: func(ctx context.Context, c *column) error {
				if err := listed(ctx, c); err != nil {
					return err
				}
				return run(ctx, "find", c.small())
			},
			run: func(ctx context.Context, c *column) (float64, error) {
				return per(func() error { return run(ctx, "find", c.small()) })
			}},
		{name: "remove small files", unit: perSecond, prepare: b.ensureSmall,
			run: func(ctx context.Context, c *column) (float64, error) {
				return per(func() error { return b.eachSmall(ctx, c, os.Remove) })
			}},
	}
}

// small is where a column has its small files.
func (c *column) small() string { return c.path(fmt.Sprintf("%s-%d", smallDir, c.smalls)) }

// freshSmall removes the files and names another directory for the next ones. ext4
// passes over inodes that were freed in the last minutes, one by one, at every
// create: in a directory whose files were just removed that would be all that is
// measured (see spread).
func (c *column) freshSmall() error {
	err := os.RemoveAll(c.small())
	c.smalls++
	return err
}

// spread has ext4 give every directory below dir another part of the disk, with
// inodes of its own. Elsewhere it does nothing.
func spread(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	const topDir = 0x20000 // FS_TOPDIR_FL, as chattr +T
	if flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
}

// eachSmall calls fn for the path of each small file.
func (b *bench) eachSmall(ctx context.Context, c *column, fn func(path string) error) error {
	for i := range b.opts.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(filepath.Join(c.small(), fmt.Sprint(i/smallInDir), fmt.Sprintf("file-%d.properties", i))); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) createSmall(ctx context.Context, c *column) error {
	body := randomBytes(smallSize, 2)
	for i := 0; i < b.opts.files; i += smallInDir {
		if err := os.MkdirAll(filepath.Join(c.small(), fmt.Sprint(i/smallInDir)), 0o755); err != nil {
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
	if err := c.freshSmall(); err != nil {
		return err
	}
	return b.createSmall(ctx, c)
}
