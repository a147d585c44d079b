package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// transfer is how much is read or written at a time: what cp, dd bs=1M and
// qemu-img do.
const transfer = 1 << 20

// bigFile is the large file of each column.
const bigFile = "big"

func (b *bench) sequentialRows() []*row {
	size := int64(b.opts.size)
	ensure := func(ctx context.Context, c *column) error { return ensureFile(ctx, c.path(bigFile), size) }
	read := func(ctx context.Context, c *column) (float64, error) {
		return rate(size, func() error { return readAll(ctx, c.path(bigFile), size) })
	}
	return []*row{
		{name: "sequential write + fsync", unit: throughput,
			prepare: func(_ context.Context, c *column) error { return removeFile(c.path(bigFile)) },
			run: func(ctx context.Context, c *column) (float64, error) {
				return rate(size, func() error { return writeFile(ctx, c.path(bigFile), size, 1) })
			}},
		{name: "sequential read, page cache warm", unit: throughput,
			prepare: func(ctx context.Context, c *column) error {
				return errors.Join(ensure(ctx, c), readAll(ctx, c.path(bigFile), size))
			}, run: read},
		{name: "sequential read, page cache cold", unit: throughput,
			prepare: func(ctx context.Context, c *column) error { return errors.Join(ensure(ctx, c), dropCaches("1")) }, run: read},
	}
}

// rate is bytes per second.
func rate(size int64, fn func() error) (float64, error) {
	seconds, err := timed(fn)
	return float64(size) / seconds, err
}

// dropCaches: "1" is the page cache, "3" names and attributes too.
func dropCaches(what string) error {
	unix.Sync() // dirty pages stay
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte(what), 0)
}

func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// ensureFile writes the file where it is missing.
func ensureFile(ctx context.Context, path string, size int64) error {
	if st, err := os.Stat(path); err == nil && st.Size() == size {
		return nil
	}
	return writeFile(ctx, path, size, 1)
}

// writeFile writes random bytes and makes them durable.
func writeFile(ctx context.Context, path string, size int64, seed uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fill(ctx, f, size, seed); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// fill writes random bytes. One random megabyte is enough for bytes that no layer
// should look at; each is marked so that no two are the same.
func fill(ctx context.Context, f io.Writer, size int64, seed uint64) error {
	buf := randomBytes(transfer, seed)
	for off := int64(0); off < size; off += transfer {
		for i := range 8 {
			buf[i] = byte(off >> (8 * i))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := f.Write(buf[:min(transfer, size-off)]); err != nil {
			return err
		}
	}
	return nil
}

func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b) // never fails
	return b
}

// readAll reads a file from its start and checks its length.
func readAll(ctx context.Context, path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return drain(ctx, f, size)
}

// drain reads to the end, which must come after so many bytes.
func drain(ctx context.Context, r io.Reader, size int64) error {
	buf := make([]byte, transfer)
	var sum int64
	for {
		n, err := r.Read(buf)
		sum += int64(n)
		switch {
		case errors.Is(err, io.EOF) && sum == size:
			return nil
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}
