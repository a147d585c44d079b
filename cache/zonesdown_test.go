package cache_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
)

// Who asks for what other zones did while the store is down is told so.
func TestRefreshWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.close()
		e.write("a", pattern(1, 100))
		e.flush()
		e.store.SetDown(true)
		e.write("a", pattern(2, 100)) // its upload finds that the store is down
		time.Sleep(time.Minute)
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
		defer stop()
		if err := e.c.Refresh(ctx); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("refresh answers %v, want %v", err, cache.ErrUnavailable)
		}
	})
}
