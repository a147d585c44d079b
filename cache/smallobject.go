package cache

import (
	"context"
	"fmt"
	"io"
)

// readSmall reads an object of depotfs's own, with a tag unless etag is "". Of one that is
// larger than it may be it returns one byte more than that: who decodes it says so.
func readSmall(ctx context.Context, s Store, key, etag string, most int64) ([]byte, ObjectInfo, error) {
	body, info, err := s.Get(ctx, key, 0, -1, etag)
	if err != nil {
		return nil, info, fmt.Errorf("read %s: %w", key, err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, most+1))
	if err != nil {
		return nil, info, fmt.Errorf("read %s: %w", key, err)
	}
	return b, info, nil
}
