package s3store

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"depotfs/cache"
)

// plainMark starts the ids of uploads that were begun without a checksum of the whole object:
// the store cannot add up those of copied parts, or knows none. They are completed
// without one, whatever Probe has found out of the store since.
const plainMark = "plain:"

// uploadID is an upload's id as the caller knows it.
type uploadID string

// raw is the store's own id. Ids from ListMultiparts are raw already.
func (id uploadID) raw() *string { return aws.String(strings.TrimPrefix(string(id), plainMark)) }

func (id uploadID) plain() bool { return strings.HasPrefix(string(id), plainMark) }

// CreateMultipart implements cache.Store.
func (s *Store) CreateMultipart(ctx context.Context, key string, o cache.PutOptions) (string, error) {
	return s.create(ctx, key, o, o.Copies)
}

// create begins an upload, a plain one where the store needs that to take
// copied parts.
func (s *Store) create(ctx context.Context, key string, o cache.PutOptions, copies bool) (string, error) {
	ctx, c, err := s.begin(ctx, kindCreate, key)
	if err != nil {
		return "", err
	}
	if err := s.checkMetadata(c, o.Metadata); err != nil {
		return "", err
	}
	can := s.can.Load()
	plain := copies && !can.copiedSums
	in := &s3.CreateMultipartUploadInput{Bucket: s.bucket(), Key: &key, Metadata: o.Metadata, ContentType: orNil(o.ContentType)}
	sums := can.CRC64 && !plain
	if sums {
		in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc64nvme, types.ChecksumTypeFullObject
	}
	out, err := s.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return "", s.fail(ctx, c, err)
	}
	if !sums {
		return plainMark + aws.ToString(out.UploadId), nil
	}
	return aws.ToString(out.UploadId), nil
}

// PutPart implements cache.Store. Errors of body are as with Put.
func (s *Store) PutPart(ctx context.Context, key, id string, n int, body io.ReaderAt, size int64, crc64 uint64) (cache.Part, error) {
	ctx, c, err := s.begin(ctx, kindPart, key)
	if err != nil {
		return cache.Part{}, err
	}
	in := &s3.UploadPartInput{
		Bucket: s.bucket(), Key: &key, UploadId: uploadID(id).raw(), PartNumber: aws.Int32(int32(n)),
		Body: &outBody{call: c, r: body, size: size}, ContentLength: &size,
	}
	if s.can.Load().CRC64 && !uploadID(id).plain() {
		in.ChecksumCRC64NVME = encodeCRC(crc64)
	} else {
		sum, err := digest(ctx, body, size, crc64, true)
		if err != nil {
			return cache.Part{}, fmt.Errorf("%s %q: %w", c.kind, key, err)
		}
		in.ContentMD5 = &sum
	}
	out, err := s.client.UploadPart(ctx, in, unasked)
	if err != nil {
		return cache.Part{}, s.fail(ctx, c, err)
	}
	return cache.Part{Number: n, Size: size, ETag: unquoted(out.ETag), CRC64: crc64, HasCRC64: true}, nil
}

// unasked sends a body without asking first whether it may (Expect: 100-continue): a
// part has no conditions that could fail, and the question costs a round trip.
func unasked(o *s3.Options) { o.ContinueHeaderThresholdBytes = -1 }

// CompleteMultipart implements cache.Store. After ErrChecksum or ErrChanged the
// upload may be there still, or not: abort it.
func (s *Store) CompleteMultipart(ctx context.Context, key, id string, parts []cache.Part, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	ctx, c, err := s.begin(ctx, kindComplete, key)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	can := s.can.Load()
	if !can.ConditionalComplete {
		if err := s.guard(ctx, c, o); err != nil {
			return cache.ObjectInfo{}, err
		}
	}
	return s.complete(ctx, c, uploadID(id), parts, size, o, can)
}

// complete is the CompleteMultipartUpload alone, relying on can.
func (s *Store) complete(ctx context.Context, c *call, id uploadID, parts []cache.Part, size int64, o cache.PutOptions, can *abilities) (cache.ObjectInfo, error) {
	if len(parts) == 0 {
		return cache.ObjectInfo{}, s.errorf(c, cache.ErrRejected, "no parts")
	}
	sums := can.CRC64 && !id.plain()
	var total int64
	list := make([]types.CompletedPart, 0, len(parts))
	for _, p := range parts {
		done := types.CompletedPart{PartNumber: aws.Int32(int32(p.Number)), ETag: quoted(p.ETag)}
		if sums && p.HasCRC64 {
			done.ChecksumCRC64NVME = encodeCRC(p.CRC64)
		}
		list = append(list, done)
		total += p.Size
	}
	if total != size {
		return cache.ObjectInfo{}, s.errorf(c, cache.ErrChecksum, "the parts have %d bytes, announced were %d", total, size)
	}
	in := &s3.CompleteMultipartUploadInput{
		Bucket: s.bucket(), Key: &c.key, UploadId: id.raw(), MultipartUpload: &types.CompletedMultipartUpload{Parts: list},
	}
	if can.ConditionalComplete {
		in.IfMatch, in.IfNoneMatch = conditions(o)
	}
	if sums {
		in.ChecksumType = types.ChecksumTypeFullObject
		if o.HasCRC64 {
			in.ChecksumCRC64NVME = encodeCRC(o.CRC64)
		}
	}
	out, err := s.client.CompleteMultipartUpload(ctx, in)
	if err != nil {
		err = s.failWrite(ctx, c, err, o)
		if info, ok := s.wonBefore(ctx, c, err, size, o); ok {
			return info, nil
		}
		return cache.ObjectInfo{}, err
	}
	info := s.stored(c, out.ETag, out.VersionId, size, o)
	if got, ok := decodeCRC(out.ChecksumCRC64NVME, out.ChecksumType); ok && o.HasCRC64 && got != o.CRC64 {
		// Only after a plain upload: else the store would have refused.
		return cache.ObjectInfo{}, s.errorf(c, cache.ErrChecksum, "the object is there with CRC64NVME %016x, announced was %016x", got, o.CRC64)
	}
	return info, nil
}

// AbortMultipart implements cache.Store.
func (s *Store) AbortMultipart(ctx context.Context, key, id string) error {
	ctx, c, err := s.begin(ctx, kindAbort, key)
	if err != nil {
		return err
	}
	_, err = s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: s.bucket(), Key: &key, UploadId: uploadID(id).raw()})
	return goneAnyway(s.fail(ctx, c, err))
}

// ListParts implements cache.Store.
func (s *Store) ListParts(ctx context.Context, key, id string) ([]cache.Part, error) {
	ctx, c, err := s.begin(ctx, kindListParts, key)
	if err != nil {
		return nil, err
	}
	var parts []cache.Part
	pages := s3.NewListPartsPaginator(s.client, &s3.ListPartsInput{Bucket: s.bucket(), Key: &key, UploadId: uploadID(id).raw()})
	for pages.HasMorePages() {
		c.next()
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.fail(ctx, c, err)
		}
		for _, p := range out.Parts {
			part := cache.Part{Number: int(aws.ToInt32(p.PartNumber)), Size: aws.ToInt64(p.Size), ETag: unquoted(p.ETag)}
			part.CRC64, part.HasCRC64 = decodeCRC(p.ChecksumCRC64NVME, "")
			parts = append(parts, part)
		}
	}
	slices.SortFunc(parts, func(a, b cache.Part) int { return a.Number - b.Number })
	return parts, nil
}
