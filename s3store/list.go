package s3store

import (
	"context"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"depotfs/cache"
)

// List implements cache.Store. Keys come URL-encoded, because XML cannot carry
// every key that others may have put there.
func (s *Store) List(ctx context.Context, q cache.ListQuery, page func(cache.ListPage) error) error {
	ctx, c := newCall(ctx, kindList, q.Prefix)
	in := &s3.ListObjectsV2Input{
		Bucket: s.bucket(), Prefix: orNil(q.Prefix), StartAfter: orNil(q.StartAfter), Delimiter: orNil(q.Delimiter),
		EncodingType: types.EncodingTypeUrl,
	}
	for {
		c.next()
		out, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return s.fail(ctx, c, err)
		}
		p := cache.ListPage{}
		for _, o := range out.Contents {
			key, err := decodeKey(o.Key, out.EncodingType)
			if err != nil {
				return s.errorf(c, cache.ErrRejected, "the store lists a key that cannot be read: %v", err)
			}
			p.Objects = append(p.Objects, cache.ObjectInfo{
				Key: key, Size: aws.ToInt64(o.Size), ETag: unquoted(o.ETag), Modified: aws.ToTime(o.LastModified), Date: c.when(),
			})
		}
		for _, common := range out.CommonPrefixes {
			prefix, err := decodeKey(common.Prefix, out.EncodingType)
			if err != nil {
				return s.errorf(c, cache.ErrRejected, "the store lists a prefix that cannot be read: %v", err)
			}
			p.Prefixes = append(p.Prefixes, prefix)
		}
		if err := page(p); err != nil {
			return err
		}
		if !aws.ToBool(out.IsTruncated) {
			return nil
		}
		if aws.ToString(out.NextContinuationToken) == "" {
			return s.errorf(c, cache.ErrUnavailable, "the listing is cut off and does not say how to go on")
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

func decodeKey(key *string, encoding types.EncodingType) (string, error) {
	if encoding != types.EncodingTypeUrl {
		return aws.ToString(key), nil
	}
	return url.QueryUnescape(aws.ToString(key))
}

func lowerKeys(meta map[string]string) map[string]string {
	lower := make(map[string]string, len(meta))
	for k, v := range meta {
		lower[strings.ToLower(k)] = v
	}
	return lower
}

// ListMultiparts implements cache.Store. Where the store does not honour the
// prefix, all uploads of the bucket are listed and sorted out here.
func (s *Store) ListMultiparts(ctx context.Context, prefix string) ([]cache.MultipartInfo, error) {
	ask := ""
	if s.can.Load().uploadsByPrefix {
		ask = prefix
	}
	return s.listUploads(ctx, ask, prefix)
}

func (s *Store) listUploads(ctx context.Context, ask, prefix string) ([]cache.MultipartInfo, error) {
	ctx, c := newCall(ctx, kindListUploads, prefix)
	in := &s3.ListMultipartUploadsInput{Bucket: s.bucket(), Prefix: orNil(ask), EncodingType: types.EncodingTypeUrl}
	var infos []cache.MultipartInfo
	for {
		c.next()
		out, err := s.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return nil, s.fail(ctx, c, err)
		}
		for _, u := range out.Uploads {
			key, err := decodeKey(u.Key, out.EncodingType)
			if err != nil {
				return nil, s.errorf(c, cache.ErrRejected, "the store lists a key that cannot be read: %v", err)
			}
			if strings.HasPrefix(key, prefix) {
				infos = append(infos, cache.MultipartInfo{Key: key, UploadID: aws.ToString(u.UploadId), Initiated: aws.ToTime(u.Initiated)})
			}
		}
		keyMarker, err := decodeKey(out.NextKeyMarker, out.EncodingType)
		if err != nil || !aws.ToBool(out.IsTruncated) || keyMarker == "" {
			return infos, nil
		}
		in.KeyMarker, in.UploadIdMarker = &keyMarker, out.NextUploadIdMarker
	}
}
