package s3store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/crc64nvme"
	"golang.org/x/sync/errgroup"

	"depotfs/cache"
)

// maxParts is S3's limit of parts in one upload.
const maxParts = 10_000

// Copy implements cache.Store. size is the source's; it decides whether the
// copy is made in parts. A copy whose target is guarded, on a store that does
// not guard copies, goes through here when it is small and else in parts, so
// that a guarded PUT or completion makes it visible.
func (s *Store) Copy(ctx context.Context, src, srcIfMatch, dst string, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	ctx, c, err := s.begin(ctx, kindCopy, dst)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	if src == "" {
		return cache.ObjectInfo{}, s.errorf(c, cache.ErrRejected, "the source's key is empty")
	}
	if src == dst && o.Metadata == nil {
		return cache.ObjectInfo{}, s.errorf(c, cache.ErrRejected, "a copy onto itself changes nothing")
	}
	if err := s.checkMetadata(c, o.Metadata); err != nil {
		return cache.ObjectInfo{}, err
	}
	can := s.can.Load()
	unguarded := (o.IfNoneMatch || o.IfMatch != "") && !can.conditionalCopy
	switch {
	case unguarded && size <= smallCopy:
		return s.copyThrough(ctx, src, srcIfMatch, dst, o)
	case size > s.cfg.CopyPartThreshold, unguarded && can.CopyPart:
		return s.copyParts(ctx, src, srcIfMatch, dst, size, o)
	case unguarded:
		if err := s.guard(ctx, c, o); err != nil {
			return cache.ObjectInfo{}, err
		}
	}
	return s.copyWhole(ctx, c, src, srcIfMatch, size, o, can)
}

// smallCopy is what is rather fetched and stored again than copied in parts:
// about what a line moves in the time of the extra requests.
const smallCopy = 4 << 20

// copyThrough copies by GET and PUT.
func (s *Store) copyThrough(ctx context.Context, src, srcIfMatch, dst string, o cache.PutOptions) (cache.ObjectInfo, error) {
	from, contentType, err := s.head(ctx, src)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	if srcIfMatch == "" {
		srcIfMatch = from.ETag
	}
	data, err := s.fetch(ctx, src, 0, from.Size, srcIfMatch)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	sum := crc64nvme.Checksum(data)
	want, known := from.CRC64, from.HasCRC64
	if o.HasCRC64 {
		want, known = o.CRC64, true
	}
	if known && sum != want {
		_, c := newCall(ctx, kindGet, src)
		return cache.ObjectInfo{}, s.errorf(c, cache.ErrChecksum, "received CRC64NVME %016x, want %016x", sum, want)
	}
	o.CRC64, o.HasCRC64 = sum, true
	if o.Metadata == nil {
		o.Metadata, o.ContentType = from.Metadata, contentType
	}
	return s.Put(ctx, dst, bytes.NewReader(data), int64(len(data)), o)
}

// fetch reads a range, all of it, into memory.
func (s *Store) fetch(ctx context.Context, key string, offset, length int64, ifMatch string) ([]byte, error) {
	body, _, err := s.Get(ctx, key, offset, length, ifMatch)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data := make([]byte, length)
	if n, err := io.ReadFull(body, data); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			_, c := newCall(ctx, kindGet, key)
			return nil, s.errorf(c, cache.ErrUnavailable, "the body ended after %d of %d bytes", n, length)
		}
		return nil, err
	}
	return data, nil
}

// CopyPart implements cache.Store. Where the store cannot add up the checksums
// of copied parts, and the upload was begun with checksums, the bytes go through
// here.
func (s *Store) CopyPart(ctx context.Context, key, id string, n int, src string, srcIfMatch string, offset, length int64) (cache.Part, error) {
	ctx, c, err := s.begin(ctx, kindPartCopy, key)
	if err != nil {
		return cache.Part{}, err
	}
	if offset < 0 || length <= 0 {
		return cache.Part{}, s.errorf(c, cache.ErrRejected, "%d bytes at %d are no range", length, offset)
	}
	can := s.can.Load()
	if can.CopyPart && (can.copiedSums || uploadID(id).plain()) {
		return s.copyPart(ctx, c, uploadID(id), n, src, srcIfMatch, offset, length)
	}
	if length > largestThrough {
		return cache.Part{}, s.errorf(c, cache.ErrRejected, "%s cannot copy into an upload with checksums, and %d bytes are too many to pass on", s.cfg.where(), length)
	}
	data, err := s.fetch(ctx, src, offset, length, srcIfMatch)
	if err != nil {
		return cache.Part{}, err
	}
	return s.PutPart(ctx, key, id, n, bytes.NewReader(data), length, crc64nvme.Checksum(data))
}

// largestThrough bounds the memory of a part that goes through here.
const largestThrough = 64 << 20

// copyPart is the UploadPartCopy alone.
func (s *Store) copyPart(ctx context.Context, c *call, id uploadID, n int, src, srcIfMatch string, offset, length int64) (cache.Part, error) {
	out, err := s.client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
		Bucket: s.bucket(), Key: &c.key, UploadId: id.raw(), PartNumber: aws.Int32(int32(n)),
		CopySource: s.source(src), CopySourceIfMatch: quoted(srcIfMatch),
		CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)),
	})
	if err != nil {
		return cache.Part{}, s.fail(ctx, c, err)
	}
	if out.CopyPartResult == nil || out.CopyPartResult.ETag == nil {
		return cache.Part{}, s.errorf(c, cache.ErrUnavailable, "the store answered without an ETag of the part")
	}
	p := cache.Part{Number: n, Size: length, ETag: unquoted(out.CopyPartResult.ETag)}
	if !id.plain() {
		p.CRC64, p.HasCRC64 = decodeCRC(out.CopyPartResult.ChecksumCRC64NVME, "")
	}
	return p, nil
}

// copyWhole is one CopyObject, relying on can.
func (s *Store) copyWhole(ctx context.Context, c *call, src, srcIfMatch string, size int64, o cache.PutOptions, can *abilities) (cache.ObjectInfo, error) {
	in := &s3.CopyObjectInput{
		Bucket: s.bucket(), Key: &c.key, CopySource: s.source(src), CopySourceIfMatch: quoted(srcIfMatch),
		MetadataDirective: types.MetadataDirectiveCopy,
	}
	if can.CRC64 {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc64nvme
	}
	if o.Metadata != nil {
		in.MetadataDirective, in.Metadata, in.ContentType = types.MetadataDirectiveReplace, o.Metadata, orNil(o.ContentType)
	}
	if can.conditionalCopy {
		in.IfMatch, in.IfNoneMatch = conditions(o)
	}
	out, err := s.client.CopyObject(ctx, in)
	if err != nil {
		err = s.failWrite(ctx, c, err, o)
		if info, ok := s.wonBefore(ctx, c, err, size, o); ok {
			return info, nil
		}
		return cache.ObjectInfo{}, err
	}
	if out.CopyObjectResult == nil || out.CopyObjectResult.ETag == nil {
		return cache.ObjectInfo{}, s.errorf(c, cache.ErrUnavailable, "the store answered without an ETag of the copy")
	}
	info := s.stored(c, out.CopyObjectResult.ETag, out.VersionId, size, o)
	info.CRC64, info.HasCRC64 = decodeCRC(out.CopyObjectResult.ChecksumCRC64NVME, out.CopyObjectResult.ChecksumType)
	if info.HasCRC64 && o.HasCRC64 && info.CRC64 != o.CRC64 {
		return cache.ObjectInfo{}, s.errorf(c, cache.ErrChecksum, "the copy has CRC64NVME %016x, announced was %016x", info.CRC64, o.CRC64)
	}
	return info, nil
}

// copyStreams is how many parts of one copy are under way at once: the store does the
// work, and a rename of a large image is to reach it within minutes.
const copyStreams = 4

// copyParts copies in parts.
func (s *Store) copyParts(ctx context.Context, src, srcIfMatch, dst string, size int64, o cache.PutOptions) (info cache.ObjectInfo, err error) {
	if o.Metadata == nil || srcIfMatch == "" {
		from, contentType, err := s.head(ctx, src)
		if err != nil {
			return cache.ObjectInfo{}, err
		}
		if srcIfMatch == "" {
			srcIfMatch = from.ETag // all parts from one version
		}
		if o.Metadata == nil {
			o.Metadata, o.ContentType = from.Metadata, contentType
		}
		if from.ETag == srcIfMatch && !o.HasCRC64 {
			o.CRC64, o.HasCRC64 = from.CRC64, from.HasCRC64
		}
	}
	id, err := s.create(ctx, dst, o, true)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	defer func() {
		if err != nil {
			s.abandon(ctx, dst, id)
		}
	}()
	step := s.copyStep(size)
	parts := make([]cache.Part, (size+step-1)/step)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(copyStreams)
	for i := range parts {
		g.Go(func() (err error) {
			offset := int64(i) * step
			parts[i], err = s.CopyPart(gctx, dst, id, i+1, src, srcIfMatch, offset, min(step, size-offset))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return cache.ObjectInfo{}, err
	}
	return s.CompleteMultipart(ctx, dst, id, parts, size, o)
}

// copyPartSize is the usual part of a copy: a store that copies at 50 MiB/s
// answers within the usual patience of proxies in between.
const copyPartSize = 1 << 30

// copyStep is the size of the parts of a copy of size bytes.
func (s *Store) copyStep(size int64) int64 {
	step := min(s.cfg.CopyPartThreshold, copyPartSize)
	return max(step, (size+maxParts-1)/maxParts)
}

// cleanupTime bounds what is done after a failure or a cancellation.
const cleanupTime = 10 * time.Second

// abandon aborts an upload that failed, whatever became of ctx.
func (s *Store) abandon(ctx context.Context, key, uploadID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if err := s.AbortMultipart(ctx, key, uploadID); err != nil {
		s.cfg.Log.Warn("an upload stays behind", "key", key, "err", err)
	}
}

// source names the object to copy from as the header wants it: every byte that
// is not plain is escaped, "/" is not.
func (s *Store) source(key string) *string {
	escaped := strings.ReplaceAll(url.PathEscape(s.cfg.Bucket+"/"+key), "%2F", "/")
	return aws.String(strings.ReplaceAll(escaped, "+", "%2B"))
}
