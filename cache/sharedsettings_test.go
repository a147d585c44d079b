package cache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/settings"
	"depotfs/cache/storetest"
)

// Announcements that are made at the same time add up; one request reads them, and an
// object that is none is refused.
func TestSharedSettings(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("d")
	e.flush()
	ctx := context.Background()
	if s, err := e.c.SharedSettings(ctx); err != nil || s.Seq != 0 {
		t.Fatalf("before any: %+v %v", s, err)
	}
	e.store.Inject(storetest.Before(storetest.Put, func(ctx context.Context, _ string) error { // another zone is faster
		b, err := settings.Shared{}.With("z2", time.Now(), map[string]string{"upload-limit": "1"}).Encode()
		if err != nil {
			return err
		}
		_, err = e.mem.Put(ctx, "p/.depotfs/settings.json", strings.NewReader(string(b)), int64(len(b)), cache.PutOptions{})
		return err
	}).On("settings.json"))
	before, now, err := e.c.ShareSettings(ctx, e.store, map[string]string{"download-limit": "2"})
	if err != nil || before.Zone != "z2" || now.Zone != "z1" || now.Seq <= before.Seq {
		t.Fatalf("%+v, %+v, %v", before, now, err)
	}
	asked := e.store.ZoneCalls(storetest.Get)
	s, err := e.c.SharedSettings(ctx)
	if err != nil || s.Since(0)["upload-limit"] != "1" || s.Since(before.Seq)["download-limit"] != "2" || len(s.Since(before.Seq)) != 1 {
		t.Errorf("read back as %+v, %v", s, err)
	}
	if n := e.store.ZoneCalls(storetest.Get) - asked; n != 1 {
		t.Errorf("a look takes %d requests", n)
	}
	if _, err := e.mem.Put(ctx, "p/.depotfs/settings.json", strings.NewReader("{"), 1, cache.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.c.SharedSettings(ctx); !errors.Is(err, cache.ErrRejected) || !strings.Contains(err.Error(), "settings.json in the bucket: damaged") {
		t.Errorf("a damaged one: %v", err)
	}
	if _, _, err := e.c.ShareSettings(ctx, e.store, nil); !errors.Is(err, cache.ErrRejected) {
		t.Errorf("announced over a damaged one: %v", err)
	}
	e.disable()
	if _, err := e.c.SharedSettings(ctx); !errors.Is(err, cache.ErrOff) {
		t.Errorf("while the store is off: %v", err)
	}
}
