package storetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"depotfs/cache"
)

func testCancelled(f *fixture) {
	info := f.put("x", random(16, 1<<20))
	ctx, cancel := context.WithCancel(f.ctx)
	body, _, err := f.s.Get(ctx, f.key("x"), 0, -1, info.ETag)
	f.must(err)
	defer body.Close()
	_, err = io.ReadFull(body, make([]byte, 10))
	f.must(err)
	cancel()
	// What was received before may still be read, but no more than that.
	if _, err := io.Copy(io.Discard, body); err != nil && !errors.Is(err, context.Canceled) {
		f.Errorf("reading on after the cancellation: %v", err)
	}
	key := f.key("y")
	for name, call := range map[string]func() error{
		"Head": func() error { _, err := f.s.Head(ctx, key); return err },
		"Get":  func() error { _, _, err := f.s.Get(ctx, key, 0, -1, ""); return err },
		"Put": func() error {
			_, err := f.s.Put(ctx, key, strings.NewReader("x"), 1, cache.PutOptions{})
			return err
		},
		"Create": func() error { _, err := f.s.CreateMultipart(ctx, key, cache.PutOptions{}); return err },
		"Copy": func() error {
			_, err := f.s.Copy(ctx, f.key("x"), "", key, info.Size, cache.PutOptions{})
			return err
		},
		"Delete": func() error { return f.s.Delete(ctx, key, "") },
		"List": func() error {
			return f.s.List(ctx, cache.ListQuery{Prefix: f.prefix}, func(cache.ListPage) error { return nil })
		},
		"Probe": func() error { _, err := f.s.Probe(ctx, f.key("probe/")); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) || errors.Is(err, cache.ErrUnavailable) {
			f.Errorf("%s with a cancelled context answers %v", name, err)
		}
	}
	f.absent("y")
}

func testProbe(f *fixture) {
	caps, err := f.s.Probe(f.ctx, f.key("scratch/"))
	f.must(err)
	f.Logf("%+v", caps)
	if caps.ClockSkew < -10*time.Minute || caps.ClockSkew > 10*time.Minute {
		f.Errorf("the clock of a store on this machine is %v off", caps.ClockSkew)
	}
	if keys, _ := f.list(cache.ListQuery{}); len(keys) != 0 {
		f.Errorf("the probe left %q behind", keys)
	}
	uploads, err := f.s.ListMultiparts(f.ctx, f.prefix)
	f.must(err)
	if len(uploads) != 0 {
		f.Errorf("the probe left %+v behind", uploads)
	}
}

func testUsage(f *fixture) {
	before := f.s.Usage()
	f.put("x", random(17, 1000))
	f.get("x", 100, 50, "")
	_, err := f.s.Head(f.ctx, f.key("x"))
	f.must(err)
	after := f.s.Usage()
	if n := after.BytesSent - before.BytesSent; n != 1000 {
		f.Errorf("%d bytes counted as sent, want 1000", n)
	}
	if n := after.BytesReceived - before.BytesReceived; n != 50 {
		f.Errorf("%d bytes counted as received, want 50", n)
	}
	for _, kind := range []string{"put", "get", "head"} {
		if n := after.Requests[kind] - before.Requests[kind]; n != 1 {
			f.Errorf("%d %s requests counted, want 1", n, kind)
		}
	}
	if after.Errors != before.Errors || after.Retries != before.Retries {
		f.Errorf("errors and retries counted: %+v", after)
	}
}
