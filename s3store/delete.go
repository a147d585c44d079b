package s3store

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"depotfs/cache"
)

// Delete implements cache.Store. In a bucket with versions it hides the object
// behind a delete marker.
func (s *Store) Delete(ctx context.Context, key, ifMatch string) error {
	ctx, c, err := s.begin(ctx, kindDelete, key)
	if err != nil {
		return err
	}
	if ifMatch != "" && !s.can.Load().ConditionalDelete {
		info, err := s.Head(ctx, key)
		switch {
		case errors.Is(err, cache.ErrNotFound):
			return nil
		case err != nil:
			return err
		case info.ETag != ifMatch:
			return s.errorf(c, cache.ErrChanged, "is another version")
		}
	}
	return s.remove(ctx, c, ifMatch)
}

// remove is the DELETE alone. If-Match goes along also where it is not relied
// on: it does no harm there.
func (s *Store) remove(ctx context.Context, c *call, ifMatch string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s.bucket(), Key: &c.key, IfMatch: quoted(ifMatch)})
	return goneAnyway(s.fail(ctx, c, err))
}
