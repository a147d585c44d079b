package s3store

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
)

// outBody is the caller's body as the SDK reads it, once for every attempt and
// once more to sign it. It may not end early.
type outBody struct {
	call *call
	r    io.ReaderAt
	size int64
	pos  int64
}

// errShortBody: the body has fewer bytes than were announced.
var errShortBody = errors.New("body ends early")

// bodyError ends the request: trying again would read the same.
type bodyError struct{ cause error }

func (e *bodyError) Error() string        { return "read body: " + e.cause.Error() }
func (e *bodyError) Unwrap() error        { return e.cause }
func (e *bodyError) RetryableError() bool { return false }

func (b *outBody) Read(p []byte) (int, error) {
	if b.pos >= b.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.size-b.pos)]
	n, err := b.r.ReadAt(p, b.pos)
	b.pos += int64(n)
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		err = errShortBody
	}
	b.call.failedBody(err)
	return n, &bodyError{err}
}

func (b *outBody) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.pos
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return b.pos, errors.New("seek before the start of the body")
	}
	b.pos = offset
	return offset, nil
}

// digest reads the body once and returns its Content-MD5, for stores that do
// not verify CRC-64/NVME; it compares the CRC itself.
func digest(ctx context.Context, r io.ReaderAt, size int64, want uint64, verify bool) (string, error) {
	md, crc := md5.New(), crc64nvme.New()
	buf := make([]byte, 256<<10)
	for pos := int64(0); pos < size; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		p := buf[:min(int64(len(buf)), size-pos)]
		n, err := r.ReadAt(p, pos)
		if n < len(p) {
			if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
				return "", fmt.Errorf("body ends after %d of %d bytes: %w", pos+int64(n), size, cache.ErrChecksum)
			}
			return "", fmt.Errorf("read body: %w", err)
		}
		md.Write(p)
		crc.Write(p)
		pos += int64(n)
	}
	if sum := crc.Sum64(); verify && sum != want {
		return "", fmt.Errorf("CRC64NVME is %016x, announced was %016x: %w", sum, want, cache.ErrChecksum)
	}
	return base64.StdEncoding.EncodeToString(md.Sum(nil)), nil
}

// inBody is an answer's body as the caller reads it.
type inBody struct {
	s    *Store
	ctx  context.Context
	call *call
	body io.ReadCloser
	left int64
}

func (b *inBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left <= 0 || err == nil:
		return n, nil
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return n, io.ErrUnexpectedEOF
	default:
		return n, b.s.fail(b.ctx, b.call, err)
	}
}

func (b *inBody) Close() error { return b.body.Close() }
