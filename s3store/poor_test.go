package s3store_test

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/crc64nvme"

	"depotfs/cache"
	"depotfs/s3store"
)

// poor makes a Store of a server that knows no CRC-64/NVME, no conditional
// completions and deletes and no copying of parts, as old stores do.
func poor(t *testing.T) *s3store.Store {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("depot"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	s := open(t, s3store.Config{Bucket: "depot", Endpoint: server.URL, AccessKey: "any", SecretKey: "any"})
	caps, err := s.Probe(t.Context(), "probe/")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", caps)
	if caps.CRC64 || caps.ConditionalComplete || caps.ConditionalDelete || caps.CopyPart {
		t.Errorf("the probe finds too much: %+v", caps)
	}
	return s
}

// What a poor store cannot do is done by check and write.
func TestPoorStore(t *testing.T) {
	s, ctx := poor(t), t.Context()
	data := bytes.Repeat([]byte("0123456789"), 600_000)
	sum := crc64nvme.Checksum(data)
	right := cache.PutOptions{CRC64: sum, HasCRC64: true}
	put := func(o cache.PutOptions) (cache.ObjectInfo, error) {
		return s.Put(ctx, "x", bytes.NewReader(data), int64(len(data)), o)
	}
	_, err := put(cache.PutOptions{CRC64: sum + 1, HasCRC64: true})
	only(t, "wrong checksum", err, cache.ErrChecksum)
	_, err = s.Head(ctx, "x")
	only(t, "after a wrong checksum", err, cache.ErrNotFound)

	guarded := right
	guarded.IfNoneMatch = true
	info, err := put(guarded)
	if err != nil {
		t.Fatal(err)
	}
	_, err = put(guarded)
	only(t, "If-None-Match", err, cache.ErrChanged)
	_, err = put(cache.PutOptions{IfMatch: "other", CRC64: sum, HasCRC64: true})
	only(t, "If-Match", err, cache.ErrChanged)
	if _, err = put(cache.PutOptions{IfMatch: info.ETag, CRC64: sum, HasCRC64: true}); err != nil {
		t.Error(err)
	}

	id, err := s.CreateMultipart(ctx, "m", cache.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.PutPart(ctx, "m", id, 1, bytes.NewReader(data), int64(len(data)), sum+1)
	only(t, "wrong checksum of a part", err, cache.ErrChecksum)
	one, err := s.PutPart(ctx, "m", id, 1, bytes.NewReader(data), int64(len(data)), sum)
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.CopyPart(ctx, "m", id, 2, "x", info.ETag, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	whole := append(bytes.Clone(data), data[3:7]...)
	o := cache.PutOptions{CRC64: crc64nvme.Checksum(whole), HasCRC64: true, IfMatch: "other"}
	_, err = s.CompleteMultipart(ctx, "m", id, []cache.Part{one, two}, int64(len(whole)), o)
	only(t, "guarded completion", err, cache.ErrChanged)
	o.IfMatch, o.IfNoneMatch = "", true
	if _, err = s.CompleteMultipart(ctx, "m", id, []cache.Part{one, two}, int64(len(whole)), o); err != nil {
		t.Fatal(err)
	}
	head, err := s.Head(ctx, "m")
	if err != nil || head.Size != int64(len(whole)) {
		t.Errorf("assembled %+v, %v", head, err)
	}
	only(t, "guarded delete", s.Delete(ctx, "m", "other"), cache.ErrChanged)
	if err := s.Delete(ctx, "m", head.ETag); err != nil {
		t.Error(err)
	}

	_, err = s.Copy(ctx, "x", "", "x2", int64(len(data)), cache.PutOptions{IfMatch: "other"})
	only(t, "guarded copy", err, cache.ErrChanged)
	if _, err := s.Copy(ctx, "x", info.ETag, "x2", int64(len(data)), cache.PutOptions{IfNoneMatch: true}); err != nil {
		t.Error(err)
	}
	_, _, err = s.Get(ctx, "x", 0, -1, "other")
	only(t, "Get of another version", err, cache.ErrChanged)
	if _, err := s.Put(ctx, "short", strings.NewReader("abc"), 4, cache.PutOptions{}); err == nil {
		t.Error("a short body was stored")
	}
}
