package cache_test

import (
	"context"
	"errors"
	"testing"

	"depotfs/cache"
)

// Who asks while a mount is starting is told to try again, also where it has just begun; that
// it is stopping is said of one that is.
func TestAskedWhileItStarts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	if err := cache.NotRunning(e.c); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("just begun: %v", err)
	}
	c := e.c
	e.close()
	if err := cache.NotRunning(c); !errors.Is(err, context.Canceled) {
		t.Errorf("closed: %v", err)
	}
	e.open()
}
