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
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err = store.List(limited, cache.ListQuery{Prefix: cfg.Prefix, Delimiter: "/"}, func(cache.ListPage) error { return errEnough })
	at := cfg.Endpoint
	if at == "" {
		at = "Amazon S3 in " + cfg.Region
	}
	switch {
	case err == nil || errors.Is(err, errEnough):
		return "", nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, cache.ErrNotFound):
		return "", fmt.Errorf("there is no bucket %q at %s: make it, or correct --bucket or --endpoint", cfg.Bucket, at)
	case errors.Is(err, cache.ErrDenied):
		return "", fmt.Errorf("%s refuses access to bucket %q: check the keys (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or s3.access-key and s3.secret-key in the config file), --region and the bucket's policy: %w", at, cfg.Bucket, err)
	case errors.Is(err, cache.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		if last.Bucket == cfg.Bucket && last.Endpoint == cfg.Endpoint {
			return fmt.Sprintf("%s does not answer: mounted with what is cached, uploads wait", at), nil
		}
		return "", fmt.Errorf("%s does not answer: check --endpoint and the network, or mount all the same with --no-store-check: %w", at, err)
	default:
		return "", fmt.Errorf("%s cannot serve bucket %q: check --endpoint, --region and --path-style: %w", at, cfg.Bucket, err)
	}
}
