package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/minio/crc64nvme"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"depotfs/cache"
	"depotfs/s3store"
)

// What the plain program reads at once is what depotfs has in flight for one
// sequential reader; for uploads see limits.
const (
	sdkRange    = 4 << 20 // of one GET of a stream
	sdkStreams  = 8       // GETs at once for one sequential reader
	sdkMaxRetry = 3
	// sdkSync is after how many bytes it makes durable what it has fetched, beside
	// fetching on: depotfs has to, before its catalog may name them.
	sdkSync = 256 << 20
	// sdkPrefix begins the keys of what it uploads.
	sdkPrefix = "plain/"
)

// limits are depotfs's defaults for uploads: the plain program has the same.
type limits struct {
	part         int64 // size of a part
	parts, files int   // parts and small files at once
}

func defaultLimits(ctx context.Context, depotfs string) (l limits, err error) {
	text, err := output(ctx, nil, depotfs, "config", "show", "--json", "--config", os.DevNull)
	if err != nil {
		return l, err
	}
	var report struct {
		Settings []struct {
			Key   string
			Value json.RawMessage
		}
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return l, fmt.Errorf("config show --json: %w", err)
	}
	got := map[string]int64{}
	for _, o := range report.Settings {
		if n, err := strconv.ParseInt(string(o.Value), 10, 64); err == nil {
			got[o.Key] = n
		}
	}
	l = limits{part: got["part-size"], parts: int(got["upload-parts"]), files: int(got["upload-files"])}
	if l.part < 1 || l.parts < 1 || l.files < 1 {
		return l, fmt.Errorf("config show does not say part-size, upload-parts and upload-files: %v", got)
	}
	return l, nil
}

// partSize is that of a file: 10,000 must do.
func (l limits) partSize(size int64) int64 {
	const most, step = 10_000, 1 << 20
	return max(l.part, (size/most+step)/step*step)
}

// sdk is the practical limit: a plain program that does with the SDK what has to be
// done, with no file system between. It goes through a proxy of its own.
type sdk struct {
	limits
	store *s3store.Store
	dir   string // on the cache's disk
}

func newSDK(at keys, endpoint, bucket, dir string, l limits) (*sdk, error) {
	cfg := s3store.DefaultConfig()
	cfg.Bucket, cfg.Endpoint = bucket, endpoint
	cfg.AccessKey, cfg.SecretKey = s3store.Secret(at.access), s3store.Secret(at.secret)
	cfg.MaxErrorRetry = sdkMaxRetry
	store, err := s3store.New(cfg)
	if err != nil {
		return nil, err
	}
	return &sdk{limits: l, store: store, dir: dir}, nil
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
	return s.fetchRange(ctx, key, 0, size)
}

// fetchRange is fetch for a part of an object.
func (s *sdk) fetchRange(ctx context.Context, key string, from, size int64) error {
	f, err := os.CreateTemp(s.dir, "fetch-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sdkStreams)
	var sum atomic.Uint64 // kept so that the checksum is really computed
	var fresh atomic.Int64
	for off := int64(0); off < size; off += sdkRange {
		length := min(sdkRange, size-off)
		g.Go(func() error {
			body, _, err := s.store.Get(ctx, key, from+off, length, "")
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
			if now := fresh.Add(n); err == nil && now/sdkSync != (now-n)/sdkSync {
				err = unix.Fdatasync(int(f.Fd()))
			}
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
	if st.Size() < s.part {
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
	part := s.partSize(st.Size())
	parts := make([]cache.Part, (st.Size()+part-1)/part)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.parts)
	for i := range parts {
		off := int64(i) * part
		body := io.NewSectionReader(f, off, min(part, st.Size()-off))
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
	g.SetLimit(s.files)
	for i, path := range paths {
		g.Go(func() error { return s.upload(ctx, fmt.Sprintf("%s%d", prefix, i), path) })
	}
	return g.Wait()
}

// edit changes a piece of an object: the parts that it touches are sent, the others
// copied inside the store. A remote one fetches what is missing of these parts.
func (s *sdk) edit(ctx context.Context, key string, size int64, piece []byte, at int64, remote bool) error {
	id, err := s.store.CreateMultipart(ctx, key, cache.PutOptions{Copies: true})
	if err != nil {
		return err
	}
	part := s.partSize(size)
	parts := make([]cache.Part, (size+part-1)/part)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.parts)
	for i := range parts {
		off := int64(i) * part
		length := min(part, size-off)
		g.Go(func() (err error) {
			if at+int64(len(piece)) <= off || off+length <= at {
				parts[i], err = s.store.CopyPart(gctx, key, id, i+1, key, "", off, length)
				return err
			}
			body := make([]byte, length)
			if remote {
				if err := s.readInto(gctx, key, off, body); err != nil {
					return err
				}
			}
			copy(body[max(0, at-off):], piece[max(0, off-at):])
			sum, err := sumOf(bytes.NewReader(body))
			if err != nil {
				return err
			}
			parts[i], err = s.store.PutPart(gctx, key, id, i+1, bytes.NewReader(body), length, sum)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return errors.Join(err, s.store.AbortMultipart(context.WithoutCancel(ctx), key, id))
	}
	_, err = s.store.CompleteMultipart(ctx, key, id, parts, size, cache.PutOptions{})
	return err
}

func (s *sdk) readInto(ctx context.Context, key string, off int64, b []byte) error {
	body, _, err := s.store.Get(ctx, key, off, int64(len(b)), "")
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.ReadFull(body, b)
	return err
}
