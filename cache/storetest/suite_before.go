package storetest

import (
	"bytes"
	"context"
	"errors"
	"time"

	"depotfs/cache"
)

// Nothing is visible before Before has allowed it, and nothing comes of a Put that it
// refuses.
func testBefore(f *fixture) {
	for _, tt := range []struct {
		name string
		size int
	}{{"empty", 0}, {"byte", 1}, {"small", 4096}, {"large", 3 << 20}} {
		data := random(7, tt.size)
		put := func(before func(context.Context) error) error {
			o := sum(cache.PutOptions{Before: before}, data)
			_, err := f.s.Put(f.ctx, f.key(tt.name), bytes.NewReader(data), int64(len(data)), o)
			return err
		}
		no := errors.New("not now")
		err := put(func(context.Context) error { return no })
		if !errors.Is(err, no) {
			f.Errorf("%s: a refused put answers %v", tt.name, err)
		}
		for _, sentinel := range []error{cache.ErrUnavailable, cache.ErrChecksum, cache.ErrRejected} {
			if errors.Is(err, sentinel) {
				f.Errorf("%s: a refused put answers %v, which is the caller's own doing", tt.name, err)
			}
		}
		f.absent(tt.name)

		asked, allow, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			first := true
			done <- put(func(ctx context.Context) error {
				if first {
					first = false
					close(asked)
				}
				select {
				case <-allow:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}()
		select {
		case <-asked:
		case err := <-done:
			f.Fatalf("%s: put was over before it asked: %v", tt.name, err)
		case <-time.After(time.Minute):
			f.Fatalf("%s: put does not ask", tt.name)
		}
		for range 3 { // whatever was sent has had its round trips
			f.absent(tt.name)
		}
		close(allow)
		f.must(<-done)
		f.holds(tt.name, data)
	}
}
