package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"depotfs/cache"
)

// Head implements cache.Store.
func (s *Store) Head(ctx context.Context, key string) (cache.ObjectInfo, error) {
	info, _, err := s.head(ctx, key)
	return info, err
}

func (s *Store) head(ctx context.Context, key string) (info cache.ObjectInfo, contentType string, err error) {
	ctx, c, err := s.begin(ctx, kindHead, key)
	if err != nil {
		return cache.ObjectInfo{}, "", err
	}
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: s.bucket(), Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return cache.ObjectInfo{}, "", s.why(ctx, key, s.fail(ctx, c, err))
	}
	info = cache.ObjectInfo{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: unquoted(out.ETag), VersionID: version(out.VersionId),
		Modified: aws.ToTime(out.LastModified), Metadata: lowerKeys(out.Metadata), Date: c.when(),
	}
	info.CRC64, info.HasCRC64 = decodeCRC(out.ChecksumCRC64NVME, out.ChecksumType)
	return info, aws.ToString(out.ContentType), nil
}

// why finds the reason of a HEAD's refusal, whose answer cannot have one in its
// body, by a GET. It matters most for 404: that may also be said of the bucket,
// and versitygw says it to an access key that it does not know.
func (s *Store) why(ctx context.Context, key string, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, cache.ErrUnavailable) {
		return err
	}
	ctx, c := newCall(ctx, kindGet, key)
	out, getErr := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: s.bucket(), Key: &key, Range: aws.String("bytes=0-0")})
	if getErr == nil {
		out.Body.Close()
		return err // it is there only now
	}
	getErr = s.fail(ctx, c, getErr)
	if errors.Is(getErr, cache.ErrRejected) && !errors.Is(err, cache.ErrRejected) {
		return err // such as 416: an empty object
	}
	return getErr
}

// Get implements cache.Store. An offset at or beyond the end of an object that
// is not empty answers ErrRejected. ObjectInfo has no checksum.
func (s *Store) Get(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, cache.ObjectInfo, error) {
	ctx, c, err := s.begin(ctx, kindGet, key)
	if err != nil {
		return nil, cache.ObjectInfo{}, err
	}
	if offset < 0 {
		return nil, cache.ObjectInfo{}, s.errorf(c, cache.ErrRejected, "offset %d is negative", offset)
	}
	if length == 0 {
		return s.getNothing(ctx, key, ifMatch)
	}
	in := &s3.GetObjectInput{Bucket: s.bucket(), Key: &key, IfMatch: quoted(ifMatch)}
	switch {
	case length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		err = s.fail(ctx, c, err)
		// No range fits into an empty object.
		if offset == 0 && in.Range != nil && errors.Is(err, cache.ErrRejected) {
			if body, info, err := s.getNothing(ctx, key, ifMatch); err == nil && info.Size == 0 {
				return body, info, nil
			}
		}
		return nil, cache.ObjectInfo{}, err
	}
	info := cache.ObjectInfo{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: unquoted(out.ETag), VersionID: version(out.VersionId),
		Modified: aws.ToTime(out.LastModified), Metadata: lowerKeys(out.Metadata), Date: c.when(),
	}
	left := info.Size
	if in.Range != nil {
		var first, last int64
		if _, err := fmt.Sscanf(aws.ToString(out.ContentRange), "bytes %d-%d/%d", &first, &last, &info.Size); err != nil || first != offset {
			out.Body.Close()
			return nil, cache.ObjectInfo{}, s.errorf(c, cache.ErrRejected, "asked for %s, the store answers range %q",
				*in.Range, aws.ToString(out.ContentRange))
		}
		left = last - first + 1
	}
	if ifMatch != "" && info.ETag != ifMatch {
		out.Body.Close()
		return nil, cache.ObjectInfo{}, s.errorf(c, cache.ErrChanged, "the store ignores If-Match and sends another version")
	}
	return &inBody{s: s, ctx: ctx, call: c, body: out.Body, left: left}, info, nil
}

// getNothing answers a Get of no bytes, which no range header can ask for.
func (s *Store) getNothing(ctx context.Context, key, ifMatch string) (io.ReadCloser, cache.ObjectInfo, error) {
	info, err := s.Head(ctx, key)
	if err != nil {
		return nil, cache.ObjectInfo{}, err
	}
	if ifMatch != "" && info.ETag != ifMatch {
		_, c := newCall(ctx, kindGet, key)
		return nil, cache.ObjectInfo{}, s.errorf(c, cache.ErrChanged, "is another version")
	}
	return io.NopCloser(eof{}), info, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// Put implements cache.Store. o.Before is asked with the last byte of the body unsent:
// no store has an object of which a byte is missing. An error of body itself is returned wrapped, with
// none of the sentinels; a body that ends early is ErrChecksum.
func (s *Store) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	ctx, c, err := s.begin(ctx, kindPut, key)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	if err := s.checkMetadata(c, o.Metadata); err != nil {
		return cache.ObjectInfo{}, err
	}
	c.before = o.Before
	can := s.can.Load()
	if !can.ConditionalPut {
		if err := s.guard(ctx, c, o); err != nil {
			return cache.ObjectInfo{}, err
		}
	}
	return s.put(ctx, c, body, size, o, can)
}

// put is the PUT alone, relying on can.
func (s *Store) put(ctx context.Context, c *call, body io.ReaderAt, size int64, o cache.PutOptions, can *abilities) (cache.ObjectInfo, error) {
	in := &s3.PutObjectInput{
		Bucket: s.bucket(), Key: &c.key, Body: &outBody{call: c, r: body, size: size}, ContentLength: &size,
		Metadata: o.Metadata, ContentType: orNil(o.ContentType),
	}
	if can.ConditionalPut {
		in.IfMatch, in.IfNoneMatch = conditions(o)
	}
	switch {
	case can.CRC64 && o.HasCRC64:
		in.ChecksumCRC64NVME = encodeCRC(o.CRC64)
	case !can.CRC64:
		sum, err := digest(ctx, body, size, o.CRC64, o.HasCRC64)
		if err != nil {
			return cache.ObjectInfo{}, fmt.Errorf("%s %q: %w", c.kind, c.key, err)
		}
		in.ContentMD5 = &sum
	}
	out, err := s.client.PutObject(ctx, in)
	if err != nil {
		err = s.failWrite(ctx, c, err, o)
		if info, ok := s.wonBefore(ctx, c, err, size, o); ok {
			return info, nil
		}
		return cache.ObjectInfo{}, err
	}
	return s.stored(c, out.ETag, out.VersionId, size, o), nil
}

// stored describes what was written just now.
func (s *Store) stored(c *call, etag, versionID *string, size int64, o cache.PutOptions) cache.ObjectInfo {
	return cache.ObjectInfo{
		Key: c.key, Size: size, ETag: unquoted(etag), VersionID: version(versionID), Metadata: o.Metadata,
		CRC64: o.CRC64, HasCRC64: o.HasCRC64, Date: c.when(),
	}
}

// guard checks the conditions of a write by a HEAD, for stores that cannot.
func (s *Store) guard(ctx context.Context, c *call, o cache.PutOptions) error {
	if !o.IfNoneMatch && o.IfMatch == "" {
		return nil
	}
	info, err := s.Head(ctx, c.key)
	switch {
	case errors.Is(err, cache.ErrNotFound):
		if o.IfMatch != "" {
			return s.errorf(c, cache.ErrChanged, "exists no more")
		}
		return nil
	case err != nil:
		return err
	case o.IfNoneMatch:
		return s.errorf(c, cache.ErrChanged, "exists already")
	case info.ETag != o.IfMatch:
		return s.errorf(c, cache.ErrChanged, "is another version")
	}
	return nil
}

// wonBefore finds out whether a guarded write that failed on a retry had
// succeeded before, with its answer lost: the object has the same bytes.
func (s *Store) wonBefore(ctx context.Context, c *call, err error, size int64, o cache.PutOptions) (cache.ObjectInfo, bool) {
	if !c.retried() || !o.HasCRC64 || !errors.Is(err, cache.ErrChanged) && !errors.Is(err, cache.ErrNotFound) {
		return cache.ObjectInfo{}, false
	}
	info, err := s.Head(ctx, c.key)
	if err != nil || info.Size != size || !info.HasCRC64 || info.CRC64 != o.CRC64 || info.ETag == o.IfMatch {
		return cache.ObjectInfo{}, false
	}
	s.cfg.Log.Info("a write succeeded although its answer was lost", "key", c.key)
	return info, true
}

func conditions(o cache.PutOptions) (ifMatch, ifNoneMatch *string) {
	if o.IfNoneMatch {
		return nil, aws.String("*")
	}
	return quoted(o.IfMatch), nil
}

func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// version drops the "null" of objects that were stored before there were versions.
func version(id *string) string {
	if v := aws.ToString(id); v != "null" {
		return v
	}
	return ""
}
