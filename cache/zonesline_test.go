package cache_test

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"depotfs/cache"
)

// farStore is a store at the end of a line on which every request and every answer takes
// its own time, so that those of several zones overtake each other. Time is the test's own.
type farStore struct {
	cache.Store
	longest time.Duration

	mu     sync.Mutex
	random *rand.Rand // guarded by mu
}

func (s *farStore) travel() {
	s.mu.Lock()
	d := time.Duration(s.random.Int64N(int64(s.longest)))
	s.mu.Unlock()
	time.Sleep(d)
}

func (s *farStore) List(ctx context.Context, q cache.ListQuery, page func(cache.ListPage) error) error {
	s.travel()
	return s.Store.List(ctx, q, page)
}

func (s *farStore) Head(ctx context.Context, key string) (cache.ObjectInfo, error) {
	s.travel()
	defer s.travel()
	return s.Store.Head(ctx, key)
}

func (s *farStore) Get(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, cache.ObjectInfo, error) {
	s.travel()
	defer s.travel()
	return s.Store.Get(ctx, key, offset, length, ifMatch)
}

func (s *farStore) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	if before := o.Before; before != nil {
		if err := before(ctx); err != nil {
			return cache.ObjectInfo{}, err
		}
		o.Before = nil
	}
	s.travel()
	defer s.travel()
	return s.Store.Put(ctx, key, body, size, o)
}

func (s *farStore) CompleteMultipart(ctx context.Context, key, uploadID string, parts []cache.Part, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	s.travel()
	defer s.travel()
	return s.Store.CompleteMultipart(ctx, key, uploadID, parts, size, o)
}

func (s *farStore) PutPart(ctx context.Context, key, uploadID string, n int, body io.ReaderAt, size int64, crc64 uint64) (cache.Part, error) {
	s.travel()
	defer s.travel()
	return s.Store.PutPart(ctx, key, uploadID, n, body, size, crc64)
}

func (s *farStore) Copy(ctx context.Context, src, srcIfMatch, dst string, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	s.travel()
	defer s.travel()
	return s.Store.Copy(ctx, src, srcIfMatch, dst, size, o)
}

func (s *farStore) Delete(ctx context.Context, key, ifMatch string) error {
	s.travel()
	defer s.travel()
	return s.Store.Delete(ctx, key, ifMatch)
}
