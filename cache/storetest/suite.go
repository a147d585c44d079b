package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
)

// Test runs the contract of cache.Store as subtests. newStore is called once
// for every subtest; it returns a store on which Probe has been called where
// the store needs it, and a key prefix ("" or ending in "/") under which nothing
// is and all that the subtest stores will be.
func Test(t *testing.T, newStore func(t *testing.T) (cache.Store, string)) {
	for _, sub := range []struct {
		name string
		run  func(*fixture)
	}{
		{"RoundTrip", testRoundTrip},
		{"Metadata", testMetadata},
		{"Missing", testMissing},
		{"Range", testRange},
		{"GetIfMatch", testGetIfMatch},
		{"PutIfNoneMatch", testPutIfNoneMatch},
		{"PutIfMatch", testPutIfMatch},
		{"PutRace", testPutRace},
		{"PutChecksum", testPutChecksum},
		{"PutBody", testPutBody},
		{"Delete", testDelete},
		{"GuardedDelete", testGuardedDelete},
		{"Multipart", testMultipart},
		{"MultipartResume", testMultipartResume},
		{"MultipartChecksum", testMultipartChecksum},
		{"MultipartConditions", testMultipartConditions},
		{"MultipartUnknown", testMultipartUnknown},
		{"MultipartAbort", testMultipartAbort},
		{"ListMultiparts", testListMultiparts},
		{"CopyPart", testCopyPart},
		{"CopyPartDelta", testCopyPartDelta},
		{"Copy", testCopy},
		{"CopyGuards", testCopyGuards},
		{"CopyReplace", testCopyReplace},
		{"List", testList},
		{"ListPages", testListPages},
		{"ListNeighbours", testListNeighbours},
		{"ListStop", testListStop},
		{"OddKeys", testOddKeys},
		{"Markers", testMarkers},
		{"KeyBesideFolder", testKeyBesideFolder},
		{"BadKeys", testBadKeys},
		{"Cancelled", testCancelled},
		{"Probe", testProbe},
		{"Usage", testUsage},
	} {
		t.Run(sub.name, func(t *testing.T) {
			s, prefix := newStore(t)
			sub.run(&fixture{T: t, s: s, prefix: prefix, ctx: t.Context()})
		})
	}
}

// fixture is one subtest with its store.
type fixture struct {
	*testing.T
	s      cache.Store
	prefix string
	ctx    context.Context
}

func (f *fixture) key(name string) string { return f.prefix + name }

// want fails the test unless err is the sentinel, and only that one.
func (f *fixture) want(err, sentinel error) {
	f.Helper()
	if !errors.Is(err, sentinel) {
		f.Fatalf("error is %v, want %q", err, sentinel)
	}
	for _, other := range []error{
		cache.ErrNotFound, cache.ErrChanged, cache.ErrDenied, cache.ErrChecksum, cache.ErrRejected, cache.ErrUnavailable,
	} {
		if other != sentinel && errors.Is(err, other) {
			f.Fatalf("error %v is %q and also %q", err, sentinel, other)
		}
	}
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// put stores data with its checksum.
func (f *fixture) put(name string, data []byte) cache.ObjectInfo {
	f.Helper()
	info, err := f.s.Put(f.ctx, f.key(name), bytes.NewReader(data), int64(len(data)), sum(cache.PutOptions{}, data))
	f.must(err)
	return info
}

// get reads a range of an object.
func (f *fixture) get(name string, offset, length int64, ifMatch string) ([]byte, cache.ObjectInfo) {
	f.Helper()
	body, info, err := f.s.Get(f.ctx, f.key(name), offset, length, ifMatch)
	f.must(err)
	data, err := io.ReadAll(body)
	f.must(err)
	f.must(body.Close())
	return data, info
}

// holds fails unless the object has exactly these bytes.
func (f *fixture) holds(name string, want []byte) cache.ObjectInfo {
	f.Helper()
	got, info := f.get(name, 0, -1, "")
	if !bytes.Equal(got, want) {
		f.Fatalf("%q holds %d other bytes (%.20q…), want %d (%.20q…)", name, len(got), got, len(want), want)
	}
	return info
}

// absent fails if there is such an object.
func (f *fixture) absent(name string) {
	f.Helper()
	_, err := f.s.Head(f.ctx, f.key(name))
	f.want(err, cache.ErrNotFound)
}

// list collects a listing, keys without the test's prefix.
func (f *fixture) list(q cache.ListQuery) (keys, prefixes []string) {
	f.Helper()
	q.Prefix = f.prefix + q.Prefix
	if q.StartAfter != "" {
		q.StartAfter = f.prefix + q.StartAfter
	}
	f.must(f.s.List(f.ctx, q, func(p cache.ListPage) error {
		for _, o := range p.Objects {
			keys = append(keys, o.Key[len(f.prefix):])
		}
		for _, p := range p.Prefixes {
			prefixes = append(prefixes, p[len(f.prefix):])
		}
		return nil
	}))
	return keys, prefixes
}

// upload begins a multipart upload that is aborted at the end of the test.
func (f *fixture) upload(name string, o cache.PutOptions) string {
	f.Helper()
	id, err := f.s.CreateMultipart(f.ctx, f.key(name), o)
	f.must(err)
	f.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := f.s.AbortMultipart(ctx, f.key(name), id); err != nil {
			f.Errorf("abort of an upload that may be complete: %v", err)
		}
	})
	return id
}

// part sends one part.
func (f *fixture) part(name, id string, n int, data []byte) cache.Part {
	f.Helper()
	p, err := f.s.PutPart(f.ctx, f.key(name), id, n, bytes.NewReader(data), int64(len(data)), crc64nvme.Checksum(data))
	f.must(err)
	if p.Number != n || p.Size != int64(len(data)) || p.ETag == "" {
		f.Fatalf("part is %+v, want number %d with %d bytes", p, n, len(data))
	}
	return p
}

// sum adds the checksum of data to o.
func sum(o cache.PutOptions, data []byte) cache.PutOptions {
	o.CRC64, o.HasCRC64 = crc64nvme.Checksum(data), true
	return o
}

// random makes n bytes that do not repeat and are the same for the same seed.
func random(seed uint64, n int) []byte {
	data := make([]byte, n)
	var s [32]byte
	s[0] = byte(seed)
	rand.NewChaCha8(s).Read(data)
	return data
}
