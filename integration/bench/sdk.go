package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/minio/crc64nvme"
	"golang.org/x/sync/errgroup"

	"depotfs/cache"
	"depotfs/s3store"
)

// The parallelism of the plain program is that of depotfs: as many requests of the
// same sizes at once as its defaults allow.
const (
	sdkRange    = 4 << 20 // of one GET of a stream
	sdkStreams  = 8       // GETs at once for one sequential reader
	sdkPart     = 16 << 20
	sdkParts    = 8 // parts at once
	sdkFiles    = 4 // small files at once
	sdkMaxRetry = 3
)

// sdk is the practical limit: a plain program that does with the SDK what has to be
// done, with no file system between. It goes through a proxy of its own.
type sdk struct {
	store *s3store.Store
	dir   string // on the cache's disk
}

func newSDK(at keys, endpoint, bucket, dir string) (*sdk, error) {
	cfg := s3store.DefaultConfig()
	cfg.Bucket, cfg.Endpoint = bucket, endpoint
	cfg.AccessKey, cfg.SecretKey = s3store.Secret(at.access), s3store.Secret(at.secret)
	cfg.MaxErrorRetry = sdkMaxRetry
	store, err := s3store.New(cfg)
	if err != nil {
		return nil, err
	}
	return &sdk{store: store, dir: dir}, nil
}

func (s *sdk) traffic() traffic {
	u := s.store.Usage()
	t := traffic{Sent: u.BytesSent, Received: u.BytesReceived}
	for _, n := range u.Requests {
		t.Requests += n
	}
	return t
}

// read asks for one range and throws it away.
func (s *sdk) read(ctx context.Context, key string, off, length int64) error {
	body, _, err := s.store.Get(ctx, key, off, length, "")
	if err != nil {
		return err
	}
	defer body.Close()
	n, err := io.Copy(io.Discard, body)
	if err == nil && n != length {
		err = fmt.Errorf("%q: %d bytes of %d: %w", key, n, length, io.ErrUnexpectedEOF)
	}
	return err
}

// fetch reads a whole object in ranges into a file, computing its checksum.
func (s *sdk) fetch(ctx context.Context, key string, size int64) error {
	f, err := os.CreateTemp(s.dir, "fetch-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkStreams)
	var sum atomic.Uint64 // kept so that the checksum is really computed
	for off := int64(0); off < size; off += sdkRange {
		length := min(sdkRange, size-off)
		g.Go(func() error {
			body, _, err := s.store.Get(ctx, key, off, length, "")
			if err != nil {
				return err
			}
			defer body.Close()
			h := crc64nvme.New()
			n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(h, io.NewOffsetWriter(f, off))}, body, make([]byte, 128<<10))
			if err == nil && n != length {
				err = io.ErrUnexpectedEOF
			}
			sum.Add(h.Sum64())
			return err
		})
	}
	return g.Wait()
}

// onlyWriter hides everything but Write, so that copies use the given buffer.
type onlyWriter struct{ io.Writer }

// upload sends a file in parts, as depotfs does: each part is read once for its
// checksum and once for the line.
func (s *sdk) upload(ctx context.Context, key, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() < sdkPart {
		sum, err := sumOf(io.NewSectionReader(f, 0, st.Size()))
		if err != nil {
			return err
		}
		_, err = s.store.Put(ctx, key, f, st.Size(), cache.PutOptions{CRC64: sum, HasCRC64: true})
		return err
	}
	id, err := s.store.CreateMultipart(ctx, key, cache.PutOptions{})
	if err != nil {
		return err
	}
	parts := make([]cache.Part, (st.Size()+sdkPart-1)/sdkPart)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkParts)
	for i := range parts {
		off := int64(i) * sdkPart
		body := io.NewSectionReader(f, off, min(sdkPart, st.Size()-off))
		g.Go(func() error {
			sum, err := sumOf(body)
			if err != nil {
				return err
			}
			parts[i], err = s.store.PutPart(gctx, key, id, i+1, body, body.Size(), sum)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return errors.Join(err, s.store.AbortMultipart(context.WithoutCancel(ctx), key, id))
	}
	_, err = s.store.CompleteMultipart(ctx, key, id, parts, st.Size(), cache.PutOptions{})
	return err
}

func sumOf(r io.ReadSeeker) (uint64, error) {
	h := crc64nvme.New()
	if _, err := io.CopyBuffer(onlyWriter{h}, r, make([]byte, 1<<20)); err != nil {
		return 0, err
	}
	_, err := r.Seek(0, io.SeekStart)
	return h.Sum64(), err
}

// uploadAll sends several files at once, in keys below prefix.
func (s *sdk) uploadAll(ctx context.Context, prefix string, paths []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkFiles)
	for i, path := range paths {
		g.Go(func() error { return s.upload(ctx, fmt.Sprintf("%s%d", prefix, i), path) })
	}
	return g.Wait()
}
