package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

const (
	editName  = "edit.raw"
	editPiece = 1 << 20
	// editTime: seconds, not the minutes that sending an image again takes. Most of
	// it is the store's own, which copies the image to make the new version.
	editTime = 60
	// editRoom is how often the image is on the disk while it is changed: here, as
	// the old object, as parts and as the new object.
	editRoom = 4
)

// editRows change 1 MiB of a large image whose object the depot has: the parts that
// it touches are sent, and nothing else.
func (b *bench) editRows() []*row {
	var rows []*row
	part := b.limits.partSize(int64(b.opts.editSize))
	for _, remote := range []bool{false, true} {
		where := "resident"
		bars := []bar{sent(2*part, "(2 parts)"), own(editTime, seconds)}
		if remote {
			where = "remote"
			bars = append(bars, pulled(2*part+2<<20))
		}
		rows = append(rows, &row{name: fmt.Sprintf("1 MiB changed in a %s image of %v, parts of %s", where, &b.opts.editSize, bytesText(part)), unit: seconds,
			counted: true, rounds: b.opts.largeRounds, bars: bars,
			prepare: func(ctx context.Context, c *column) error { return b.readyEdit(ctx, c, remote) },
			run: func(ctx context.Context, c *column) (float64, error) {
				size := int64(b.opts.editSize)
				piece, at := randomBytes(editPiece, rand.Uint64()), rand.Int64N((size-editPiece)/randomBlock)*randomBlock
				if c.sdk != nil {
					return timed(func() error { return c.sdk.edit(ctx, sdkPrefix+editName, size, piece, at, remote) })
				}
				return timed(func() error {
					if err := overwrite(c.uploadPath(editName), piece, at); err != nil {
						return err
					}
					return c.zone.flush(ctx)
				})
			},
			tidy: func(ctx context.Context, c *column) error {
				if c.sdk != nil {
					return c.sdk.store.Delete(ctx, sdkPrefix+editName, "")
				}
				return b.dropUpload(ctx, c, editName)
			}})
	}
	return rows
}

// readyEdit makes the image and its object.
func (b *bench) readyEdit(ctx context.Context, c *column, remote bool) error {
	size := int64(b.opts.editSize)
	if c.sdk == nil {
		if err := onlyDepotfs(c); err != nil {
			return err
		}
	}
	if err := b.room(editRoom*size, "-edit-size"); err != nil {
		return err
	}
	if c.sdk != nil {
		path := c.path(editName)
		defer os.Remove(path)
		if err := writeFile(ctx, path, size, 9); err != nil {
			return err
		}
		return c.sdk.upload(ctx, sdkPrefix+editName, path)
	}
	if err := b.readyUpload(ctx, c, editName, func(path string) error { return writeFile(ctx, path, size, 9) }); err != nil {
		return err
	}
	if err := c.zone.flush(ctx); err != nil || !remote {
		return err
	}
	return c.zone.evictFile(ctx, c.uploadKey(editName))
}

// room says whether the disk has so much.
func (b *bench) room(need int64, flag string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(b.dir, &fs); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < need {
		return fmt.Errorf("%s has %s free and this row needs %s: say a smaller %s, or -dir", b.dir, bytesText(free), bytesText(need), flag)
	}
	return nil
}

// overwrite changes a piece of a file and makes it durable.
func overwrite(path string, piece []byte, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(piece, at); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	got := make([]byte, len(piece))
	if _, err := f.ReadAt(got, at); err != nil {
		return err
	}
	if !bytes.Equal(got, piece) {
		return fmt.Errorf("%s does not hold what was written to it", path)
	}
	return f.Close()
}
