package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"depotfs/cache"
)

// probeTimeout is how long `mount` waits for the store's first answer. Long for
// a store that is there, short for a person who waits.
const probeTimeout = 5 * time.Second

var errEnough = errors.New("one page is enough")

// checkStore asks the store one cheap question before mounting. A store that
// answers and says no is an error. One that does not answer is an error where
// this state directory has never been mounted on it, most likely a slip of the
// pen with nothing cached to serve; otherwise it is a warning.
func checkStore(ctx context.Context, store cache.Store, cfg Config, last mountRecord) (warning string, err error) {
	err = askStore(ctx, store, cfg.Prefix)
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, cache.ErrNotFound):
		return "", fmt.Errorf("%w: make the bucket, or correct --bucket or --endpoint", err)
	case errors.Is(err, cache.ErrDenied):
		return "", fmt.Errorf("%w; keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or s3.access-key and s3.secret-key in the config file, or from config set; with --no-store-check it is mounted all the same, and config set can set others", err)
	case errors.Is(err, cache.ErrUnavailable):
		if last.Bucket == cfg.Bucket && last.Endpoint == cfg.Endpoint {
			return fmt.Sprintf("%v; mounted with what is cached, uploads wait", err), nil
		}
		return "", fmt.Errorf("%w: check --endpoint and the network, or mount all the same with --no-store-check", err)
	default:
		return "", fmt.Errorf("%w: check --endpoint, --region and --path-style", err)
	}
}

// askStore asks one cheap question. Silence is cache.ErrUnavailable.
func askStore(ctx context.Context, store cache.Store, prefix string) error {
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := store.List(limited, cache.ListQuery{Prefix: prefix, Delimiter: "/"}, func(cache.ListPage) error { return errEnough })
	switch {
	case err == nil || errors.Is(err, errEnough):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the store did not answer within %v: %w", probeTimeout, cache.ErrUnavailable)
	}
	return err
}
