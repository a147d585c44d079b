package storetest

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
)

// maxParts is S3's limit of parts in one upload.
const maxParts = 10_000

type memUpload struct {
	info        cache.MultipartInfo
	contentType string
	metadata    map[string]string
	parts       map[int]*memPart
}

type memPart struct {
	part cache.Part
	data []byte
}

// CreateMultipart implements cache.Store.
func (m *Mem) CreateMultipart(ctx context.Context, key string, o cache.PutOptions) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "create", key); err != nil {
		return "", err
	}
	if err := m.checkKey("create", key); err != nil {
		return "", err
	}
	if err := checkMetadata("create", key, o.Metadata); err != nil {
		return "", err
	}
	m.nextID++
	id := fmt.Sprintf("upload-%d", m.nextID)
	m.uploads[id] = &memUpload{
		info:        cache.MultipartInfo{Key: key, UploadID: id, Initiated: m.now().Truncate(time.Second)},
		contentType: o.ContentType,
		metadata:    maps.Clone(o.Metadata),
		parts:       make(map[int]*memPart),
	}
	return id, nil
}

func (m *Mem) uploadLocked(kind, key, uploadID string) (*memUpload, error) {
	u := m.uploads[uploadID]
	if u == nil || u.info.Key != key {
		return nil, refuse(kind, key, "no such upload", cache.ErrNotFound)
	}
	return u, nil
}

// PutPart implements cache.Store.
func (m *Mem) PutPart(ctx context.Context, key, uploadID string, n int, body io.ReaderAt, size int64, crc64 uint64) (cache.Part, error) {
	data, etag, sum, err := m.receive(ctx, "part", key, body, size, crc64, true)
	if err != nil {
		return cache.Part{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addPartLocked(ctx, "part", key, uploadID, n, data, etag, sum)
}

func (m *Mem) addPartLocked(ctx context.Context, kind, key, uploadID string, n int, data []byte, etag string, sum uint64) (cache.Part, error) {
	if err := ctx.Err(); err != nil {
		return cache.Part{}, fmt.Errorf("%s %q: %w", kind, key, err)
	}
	u, err := m.uploadLocked(kind, key, uploadID)
	if err != nil {
		return cache.Part{}, err
	}
	if n < 1 || n > maxParts {
		return cache.Part{}, refuse(kind, key, fmt.Sprintf("no part can have number %d", n), cache.ErrRejected)
	}
	p := &memPart{part: cache.Part{Number: n, Size: int64(len(data)), ETag: etag, CRC64: sum, HasCRC64: true}, data: data}
	u.parts[n] = p
	return p.part, nil
}

// CopyPart implements cache.Store.
func (m *Mem) CopyPart(ctx context.Context, key, uploadID string, n int, src string, srcIfMatch string, offset, length int64) (cache.Part, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "part-copy", key); err != nil {
		return cache.Part{}, err
	}
	o := m.objects[src]
	switch {
	case o == nil:
		return cache.Part{}, refuse("part-copy", src, "no such key", cache.ErrNotFound)
	case srcIfMatch != "" && srcIfMatch != o.info.ETag:
		return cache.Part{}, refuse("part-copy", src, "is another version", cache.ErrChanged)
	case offset < 0 || length <= 0 || offset+length > o.info.Size:
		return cache.Part{}, refuse("part-copy", src, "no such range", cache.ErrRejected)
	}
	data := o.data[offset : offset+length]
	digest := md5.Sum(data)
	p, err := m.addPartLocked(ctx, "part-copy", key, uploadID, n, data, hex.EncodeToString(digest[:]), crc64nvme.Checksum(data))
	if err == nil && m.NoCopiedSums {
		p.CRC64, p.HasCRC64 = 0, false
		m.uploads[uploadID].parts[n].part = p
	}
	return p, err
}

// CompleteMultipart implements cache.Store. A completion that is refused leaves
// the upload as it was.
func (m *Mem) CompleteMultipart(ctx context.Context, key, uploadID string, parts []cache.Part, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "complete", key); err != nil {
		return cache.ObjectInfo{}, err
	}
	u, err := m.uploadLocked("complete", key, uploadID)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	if len(parts) == 0 {
		return cache.ObjectInfo{}, refuse("complete", key, "no parts", cache.ErrRejected)
	}
	data := make([]byte, 0, max(size, 0))
	digests := md5.New()
	for i, p := range parts {
		have := u.parts[p.Number]
		switch {
		case i > 0 && p.Number <= parts[i-1].Number:
			return cache.ObjectInfo{}, refuse("complete", key, "parts are not in order", cache.ErrRejected)
		case have == nil || have.part.ETag != p.ETag:
			return cache.ObjectInfo{}, refuse("complete", key, fmt.Sprintf("part %d is missing or another", p.Number), cache.ErrRejected)
		case i < len(parts)-1 && have.part.Size < m.MinPart:
			return cache.ObjectInfo{}, refuse("complete", key, fmt.Sprintf("part %d is too small", p.Number), cache.ErrRejected)
		}
		data = append(data, have.data...)
		digest := md5.Sum(have.data)
		digests.Write(digest[:])
	}
	sum := crc64nvme.Checksum(data)
	if int64(len(data)) != size {
		return cache.ObjectInfo{}, refuse("complete", key, fmt.Sprintf("parts have %d bytes, announced were %d", len(data), size), cache.ErrChecksum)
	}
	if o.HasCRC64 && o.CRC64 != sum {
		return cache.ObjectInfo{}, refuse("complete", key, fmt.Sprintf("CRC64NVME is %016x, announced was %016x", sum, o.CRC64), cache.ErrChecksum)
	}
	if err := m.checkGuardLocked("complete", key, o); err != nil {
		return cache.ObjectInfo{}, err
	}
	delete(m.uploads, uploadID)
	etag := fmt.Sprintf("%s-%d", hex.EncodeToString(digests.Sum(nil)), len(parts))
	return m.storeLocked(key, data, etag, sum, u.contentType, u.metadata), nil
}

// AbortMultipart implements cache.Store.
func (m *Mem) AbortMultipart(ctx context.Context, key, uploadID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "abort", key); err != nil {
		return err
	}
	if u := m.uploads[uploadID]; u != nil && u.info.Key == key {
		delete(m.uploads, uploadID)
	}
	return nil
}

// ListParts implements cache.Store.
func (m *Mem) ListParts(ctx context.Context, key, uploadID string) ([]cache.Part, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "list-parts", key); err != nil {
		return nil, err
	}
	u, err := m.uploadLocked("list-parts", key, uploadID)
	if err != nil {
		return nil, err
	}
	parts := make([]cache.Part, 0, len(u.parts))
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		parts = append(parts, u.parts[n].part)
	}
	return parts, nil
}

// ListMultiparts implements cache.Store.
func (m *Mem) ListMultiparts(ctx context.Context, prefix string) ([]cache.MultipartInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "list-uploads", prefix); err != nil {
		return nil, err
	}
	var infos []cache.MultipartInfo
	for _, u := range m.uploads {
		if strings.HasPrefix(u.info.Key, prefix) {
			infos = append(infos, u.info)
		}
	}
	slices.SortFunc(infos, func(a, b cache.MultipartInfo) int {
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return strings.Compare(a.UploadID, b.UploadID)
	})
	return infos, nil
}
