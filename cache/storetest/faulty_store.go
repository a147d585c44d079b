package storetest

import (
	"context"
	"io"

	"depotfs/cache"
)

// List implements cache.Store. A fault strikes the listing, not its pages; an
// answer that is lost is lost after the last page.
func (f *Faulty) List(ctx context.Context, q cache.ListQuery, page func(cache.ListPage) error) error {
	x, err := f.begin(ctx, List, q.Prefix)
	if err != nil {
		return err
	}
	return x.end(List, q.Prefix, f.store.List(ctx, q, page))
}

// Head implements cache.Store.
func (f *Faulty) Head(ctx context.Context, key string) (cache.ObjectInfo, error) {
	x, err := f.begin(ctx, Head, key)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	info, err := f.store.Head(ctx, key)
	if err = x.end(Head, key, err); err != nil {
		return cache.ObjectInfo{}, err
	}
	return info, nil
}

// Get implements cache.Store.
func (f *Faulty) Get(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, cache.ObjectInfo, error) {
	x, err := f.begin(ctx, Get, key)
	if err != nil {
		return nil, cache.ObjectInfo{}, err
	}
	body, info, err := f.store.Get(ctx, key, offset, length, ifMatch)
	if err != nil {
		return nil, cache.ObjectInfo{}, err
	}
	if err := x.end(Get, key, nil); err != nil {
		body.Close()
		return nil, cache.ObjectInfo{}, err
	}
	return &faultyBody{ReadCloser: body, f: f, x: x, key: key}, info, nil
}

// Put implements cache.Store.
func (f *Faulty) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	x, err := f.begin(ctx, Put, key)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	if body, err = x.body(Put, key, body, size); err != nil {
		return cache.ObjectInfo{}, err
	}
	info, err := f.store.Put(ctx, key, body, size, o)
	if err = x.end(Put, key, err); err != nil {
		return cache.ObjectInfo{}, err
	}
	return info, nil
}

// CreateMultipart implements cache.Store.
func (f *Faulty) CreateMultipart(ctx context.Context, key string, o cache.PutOptions) (string, error) {
	x, err := f.begin(ctx, Create, key)
	if err != nil {
		return "", err
	}
	id, err := f.store.CreateMultipart(ctx, key, o)
	if err = x.end(Create, key, err); err != nil {
		return "", err
	}
	return id, nil
}

// PutPart implements cache.Store.
func (f *Faulty) PutPart(ctx context.Context, key, uploadID string, n int, body io.ReaderAt, size int64, crc64 uint64) (cache.Part, error) {
	x, err := f.begin(ctx, PutPart, key)
	if err != nil {
		return cache.Part{}, err
	}
	if body, err = x.body(PutPart, key, body, size); err != nil {
		return cache.Part{}, err
	}
	part, err := f.store.PutPart(ctx, key, uploadID, n, body, size, crc64)
	if err = x.end(PutPart, key, err); err != nil {
		return cache.Part{}, err
	}
	return part, nil
}

// CopyPart implements cache.Store.
func (f *Faulty) CopyPart(ctx context.Context, key, uploadID string, n int, src string, srcIfMatch string, offset, length int64) (cache.Part, error) {
	x, err := f.begin(ctx, CopyPart, key)
	if err != nil {
		return cache.Part{}, err
	}
	part, err := f.store.CopyPart(ctx, key, uploadID, n, src, srcIfMatch, offset, length)
	if err = x.end(CopyPart, key, err); err != nil {
		return cache.Part{}, err
	}
	return part, nil
}

// CompleteMultipart implements cache.Store.
func (f *Faulty) CompleteMultipart(ctx context.Context, key, uploadID string, parts []cache.Part, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	x, err := f.begin(ctx, Complete, key)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	info, err := f.store.CompleteMultipart(ctx, key, uploadID, parts, size, o)
	if err = x.end(Complete, key, err); err != nil {
		return cache.ObjectInfo{}, err
	}
	return info, nil
}

// AbortMultipart implements cache.Store.
func (f *Faulty) AbortMultipart(ctx context.Context, key, uploadID string) error {
	x, err := f.begin(ctx, Abort, key)
	if err != nil {
		return err
	}
	return x.end(Abort, key, f.store.AbortMultipart(ctx, key, uploadID))
}

// ListParts implements cache.Store.
func (f *Faulty) ListParts(ctx context.Context, key, uploadID string) ([]cache.Part, error) {
	x, err := f.begin(ctx, ListParts, key)
	if err != nil {
		return nil, err
	}
	parts, err := f.store.ListParts(ctx, key, uploadID)
	if err = x.end(ListParts, key, err); err != nil {
		return nil, err
	}
	return parts, nil
}

// ListMultiparts implements cache.Store.
func (f *Faulty) ListMultiparts(ctx context.Context, prefix string) ([]cache.MultipartInfo, error) {
	x, err := f.begin(ctx, ListUploads, prefix)
	if err != nil {
		return nil, err
	}
	infos, err := f.store.ListMultiparts(ctx, prefix)
	if err = x.end(ListUploads, prefix, err); err != nil {
		return nil, err
	}
	return infos, nil
}

// Copy implements cache.Store. Faults are limited by the key of the copy, dst.
func (f *Faulty) Copy(ctx context.Context, src, srcIfMatch, dst string, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	x, err := f.begin(ctx, Copy, dst)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	info, err := f.store.Copy(ctx, src, srcIfMatch, dst, size, o)
	if err = x.end(Copy, dst, err); err != nil {
		return cache.ObjectInfo{}, err
	}
	return info, nil
}

// Delete implements cache.Store.
func (f *Faulty) Delete(ctx context.Context, key, ifMatch string) error {
	x, err := f.begin(ctx, Delete, key)
	if err != nil {
		return err
	}
	return x.end(Delete, key, f.store.Delete(ctx, key, ifMatch))
}

// Probe implements cache.Store.
func (f *Faulty) Probe(ctx context.Context, scratch string) (cache.Capabilities, error) {
	x, err := f.begin(ctx, Bucket, scratch)
	if err != nil {
		return cache.Capabilities{}, err
	}
	caps, err := f.store.Probe(ctx, scratch)
	if err = x.end(Bucket, scratch, err); err != nil {
		return cache.Capabilities{}, err
	}
	return caps, nil
}

// Usage implements cache.Store; it never fails.
func (f *Faulty) Usage() cache.StoreUsage { return f.store.Usage() }
