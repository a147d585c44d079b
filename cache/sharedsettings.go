package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"depotfs/cache/settings"
	"depotfs/cache/share"
)

// sharedKey is the object by which one zone tells all zones settings.
func (c *Cache) sharedKey() string { return c.cfg.Prefix + share.Private + "/settings.json" }

// SharedSettings reads what was announced to all zones, by one request; the zero Shared
// where nothing was. ErrOff: no store is on. ErrUnavailable: the depot is not joined yet.
func (c *Cache) SharedSettings(ctx context.Context) (settings.Shared, error) {
	d := c.depot.Load()
	if d == nil {
		return settings.Shared{}, ErrOff
	}
	if !d.joined() {
		return settings.Shared{}, fmt.Errorf("the depot is not joined yet: %w", ErrUnavailable)
	}
	ctx, done := d.use(ctx)
	defer done()
	s, _, err := c.readShared(ctx, d.store)
	return s, err
}

// readShared reads the announcement; etag is "" where there is none.
func (c *Cache) readShared(ctx context.Context, s Store) (_ settings.Shared, etag string, err error) {
	b, info, err := readSmall(ctx, s, c.sharedKey(), "", settings.MaxSize)
	if errors.Is(err, ErrNotFound) {
		return settings.Shared{}, "", nil
	}
	if err != nil {
		return settings.Shared{}, "", err
	}
	shared, err := settings.Decode(b)
	if err != nil {
		return settings.Shared{}, "", fmt.Errorf("%s in the bucket: %w: %w", c.sharedKey(), err, ErrRejected)
	}
	return shared, info.ETag, nil
}

// announceTries is how often an announcement is put together anew because another zone's
// came first.
const announceTries = 5

// ShareSettings announces values to all zones by s, which is the store that is on or takes
// its place (see ReplaceStore). It returns what was announced before and what is now.
func (c *Cache) ShareSettings(ctx context.Context, s Store, values map[string]string) (before, now settings.Shared, err error) {
	d := c.depot.Load()
	if d == nil {
		return before, now, ErrOff
	}
	for range announceTries {
		var etag string
		if before, etag, err = c.readShared(ctx, s); err != nil {
			return before, now, err
		}
		now = before.With(c.zoneName(), c.now().Add(d.skew()), values)
		b, err := now.Encode()
		if err != nil {
			return before, now, fmt.Errorf("announce the settings: %w", err)
		}
		_, err = s.Put(ctx, c.sharedKey(), bytes.NewReader(b), int64(len(b)), PutOptions{
			ContentType: "application/json", IfMatch: etag, IfNoneMatch: etag == "", CRC64: crcOf(b), HasCRC64: true})
		switch {
		case err == nil:
			c.log.Info("settings announced to all zones", "seq", now.Seq)
			return before, now, nil
		case !errors.Is(err, ErrChanged):
			return before, now, fmt.Errorf("announce the settings: %w", err)
		}
	}
	return before, now, fmt.Errorf("announce the settings: other zones announce some at the same time: %w", ErrChanged)
}
