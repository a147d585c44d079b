package storetest

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
)

// Mem is a cache.Store in memory, safe for concurrent use. The fields may be
// set before its first use.
type Mem struct {
	// PageSize is how many entries a page of a listing holds (default 1,000, as S3).
	PageSize int
	// MinPart is the size that all parts but the last must have (default 5 MiB, as S3).
	MinPart int64
	// NoCopiedSums keeps the checksums of copied parts to itself, as versitygw and MinIO do.
	NoCopiedSums bool
	// MaxKey is the longest key in bytes (default 1,024, as S3).
	MaxKey int

	mu      sync.Mutex
	now     func() time.Time      // guarded by mu
	objects map[string]*memObject // guarded by mu; an object is never changed, only replaced
	uploads map[string]*memUpload // guarded by mu
	nextID  int                   // guarded by mu
	usage   cache.StoreUsage      // guarded by mu
}

// maxMetadata is how many bytes of user metadata, names and values, S3 takes.
const maxMetadata = 2048

type memObject struct {
	info        cache.ObjectInfo
	contentType string
	data        []byte
}

var _ cache.Store = (*Mem)(nil)

// NewMem returns an empty store.
func NewMem() *Mem {
	return &Mem{
		PageSize: 1000,
		MinPart:  5 << 20,
		MaxKey:   1024,
		now:      time.Now,
		objects:  make(map[string]*memObject),
		uploads:  make(map[string]*memUpload),
		usage:    cache.StoreUsage{Requests: make(map[string]int64)},
	}
}

// SetClock makes now the store's own clock, for Modified, Initiated and Date.
func (m *Mem) SetClock(now func() time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = now
}

// Keys returns the keys that start with prefix, sorted, without counting a request.
func (m *Mem) Keys(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keysLocked(prefix)
}

// Bytes returns the content of an object, or nil, without counting a request.
// The caller must not change it.
func (m *Mem) Bytes(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.objects[key]; o != nil {
		return o.data
	}
	return nil
}

// beginLocked is the start of every request: it counts and checks.
func (m *Mem) beginLocked(ctx context.Context, kind, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %q: %w", kind, key, err)
	}
	if !BetweenZones(key) {
		m.usage.Requests[kind]++
	}
	return nil
}

// BetweenZones says whether a key (or the prefix of a listing) is of what zones tell each
// other. Requests for it come by themselves: Mem.Usage and Faulty.Calls leave them out, and
// Faulty.ZoneCalls counts them.
func BetweenZones(key string) bool {
	for _, part := range []string{"/.depotfs/journal/", "/.depotfs/checkpoint/", "/.depotfs/zones/", "/.depotfs/settings.json"} {
		if strings.Contains("/"+key, part) {
			return true
		}
	}
	return false
}

func refuse(kind, key, what string, sentinel error) error {
	return fmt.Errorf("%s %q: %s: %w", kind, key, what, sentinel)
}

func (m *Mem) checkKey(kind, key string) error {
	switch {
	case key == "":
		return refuse(kind, key, "empty key", cache.ErrRejected)
	case len(key) > m.MaxKey:
		return refuse(kind, key, "key too long", cache.ErrRejected)
	case !utf8.ValidString(key) || strings.ContainsRune(key, 0):
		return refuse(kind, key, "key is not valid text", cache.ErrRejected)
	}
	return nil
}

// checkMetadata refuses what does not fit into headers.
func checkMetadata(kind, key string, meta map[string]string) error {
	total := 0
	for k, v := range meta {
		total += len(k) + len(v)
		if strings.ContainsFunc(k+v, func(r rune) bool { return r < ' ' || r > '~' }) {
			return refuse(kind, key, fmt.Sprintf("metadata %q is not printable ASCII", k), cache.ErrRejected)
		}
	}
	if total > maxMetadata {
		return refuse(kind, key, fmt.Sprintf("%d bytes of metadata", total), cache.ErrRejected)
	}
	return nil
}

// checkGuardLocked applies the conditions of a write to what is stored now.
func (m *Mem) checkGuardLocked(kind, key string, o cache.PutOptions) error {
	old := m.objects[key]
	switch {
	case o.IfNoneMatch && old != nil:
		return refuse(kind, key, "exists already", cache.ErrChanged)
	case o.IfMatch != "" && old == nil:
		return refuse(kind, key, "exists no more", cache.ErrChanged)
	case o.IfMatch != "" && old.info.ETag != o.IfMatch:
		return refuse(kind, key, "is another version", cache.ErrChanged)
	}
	return nil
}

func (m *Mem) storeLocked(key string, data []byte, etag string, sum uint64, contentType string, meta map[string]string) cache.ObjectInfo {
	info := cache.ObjectInfo{
		Key: key, Size: int64(len(data)), ETag: etag, Modified: m.now().Truncate(time.Second),
		Metadata: lowerKeys(meta), CRC64: sum, HasCRC64: true,
	}
	m.objects[key] = &memObject{info: info, contentType: contentType, data: data}
	return m.answerLocked(info)
}

// answerLocked makes the copy of info that a caller may keep.
func (m *Mem) answerLocked(info cache.ObjectInfo) cache.ObjectInfo {
	info.Metadata = maps.Clone(info.Metadata)
	info.Date = m.now().Truncate(time.Second)
	return info
}

// Head implements cache.Store.
func (m *Mem) Head(ctx context.Context, key string) (cache.ObjectInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "head", key); err != nil {
		return cache.ObjectInfo{}, err
	}
	o := m.objects[key]
	if o == nil {
		return cache.ObjectInfo{}, refuse("head", key, "no such key", cache.ErrNotFound)
	}
	return m.answerLocked(o.info), nil
}

// Get implements cache.Store. As in S3, the answer to a ranged request has no
// checksum of the whole object.
func (m *Mem) Get(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, cache.ObjectInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "get", key); err != nil {
		return nil, cache.ObjectInfo{}, err
	}
	o := m.objects[key]
	switch {
	case o == nil:
		return nil, cache.ObjectInfo{}, refuse("get", key, "no such key", cache.ErrNotFound)
	case ifMatch != "" && ifMatch != o.info.ETag:
		return nil, cache.ObjectInfo{}, refuse("get", key, "is another version", cache.ErrChanged)
	case offset < 0 || offset > 0 && offset >= o.info.Size:
		return nil, cache.ObjectInfo{}, refuse("get", key, fmt.Sprintf("no byte %d in %d", offset, o.info.Size), cache.ErrRejected)
	}
	end := o.info.Size
	if length >= 0 && length < end-offset {
		end = offset + length
	}
	info := m.answerLocked(o.info)
	if offset > 0 || end < o.info.Size {
		info.CRC64, info.HasCRC64 = 0, false
	}
	return &memBody{ctx: ctx, m: m, key: key, rest: o.data[offset:end]}, info, nil
}

// memBody is the answer's body; it ends with ctx, as a network connection would.
type memBody struct {
	ctx  context.Context
	m    *Mem
	key  string
	rest []byte
}

func (b *memBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	if !BetweenZones(b.key) {
		b.m.mu.Lock()
		b.m.usage.BytesReceived += int64(n)
		b.m.mu.Unlock()
	}
	return n, nil
}

func (b *memBody) Close() error {
	b.rest = nil
	return nil
}

// Put implements cache.Store.
func (m *Mem) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	if err := m.checkKey("put", key); err != nil {
		return cache.ObjectInfo{}, err
	}
	if err := checkMetadata("put", key, o.Metadata); err != nil {
		return cache.ObjectInfo{}, err
	}
	data, etag, sum, err := m.receive(ctx, "put", key, body, size, o.CRC64, o.HasCRC64)
	if err != nil {
		return cache.ObjectInfo{}, err
	}
	if o.Before != nil {
		if err := o.Before(ctx); err != nil {
			return cache.ObjectInfo{}, fmt.Errorf("put %q: %w", key, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return cache.ObjectInfo{}, fmt.Errorf("put %q: %w", key, err)
	}
	if err := m.checkGuardLocked("put", key, o); err != nil {
		return cache.ObjectInfo{}, err
	}
	return m.storeLocked(key, data, etag, sum, o.ContentType, o.Metadata), nil
}

// receive reads a request's body and verifies it; it counts the request.
func (m *Mem) receive(ctx context.Context, kind, key string, body io.ReaderAt, size int64, want uint64, verify bool) (data []byte, etag string, sum uint64, err error) {
	m.mu.Lock()
	err = m.beginLocked(ctx, kind, key)
	m.mu.Unlock()
	if err != nil {
		return nil, "", 0, err
	}
	data = make([]byte, size)
	if size > 0 {
		n, err := body.ReadAt(data, 0)
		if int64(n) < size {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return nil, "", 0, refuse(kind, key, fmt.Sprintf("body ends after %d of %d bytes", n, size), cache.ErrChecksum)
			}
			return nil, "", 0, fmt.Errorf("%s %q: read body: %w", kind, key, err)
		}
	}
	if !BetweenZones(key) {
		m.mu.Lock()
		m.usage.BytesSent += size
		m.mu.Unlock()
	}
	sum = crc64nvme.Checksum(data)
	if verify && sum != want {
		return nil, "", 0, refuse(kind, key, fmt.Sprintf("CRC64NVME is %016x, announced was %016x", sum, want), cache.ErrChecksum)
	}
	digest := md5.Sum(data)
	return data, hex.EncodeToString(digest[:]), sum, nil
}

// Copy implements cache.Store. o.CRC64 is verified where it is given.
func (m *Mem) Copy(ctx context.Context, src, srcIfMatch, dst string, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "copy", dst); err != nil {
		return cache.ObjectInfo{}, err
	}
	if err := m.checkKey("copy", dst); err != nil {
		return cache.ObjectInfo{}, err
	}
	if err := checkMetadata("copy", dst, o.Metadata); err != nil {
		return cache.ObjectInfo{}, err
	}
	from := m.objects[src]
	switch {
	case from == nil:
		return cache.ObjectInfo{}, refuse("copy", src, "no such key", cache.ErrNotFound)
	case srcIfMatch != "" && srcIfMatch != from.info.ETag:
		return cache.ObjectInfo{}, refuse("copy", src, "is another version", cache.ErrChanged)
	case src == dst && o.Metadata == nil:
		return cache.ObjectInfo{}, refuse("copy", src, "copy onto itself changes nothing", cache.ErrRejected)
	case o.HasCRC64 && o.CRC64 != from.info.CRC64:
		return cache.ObjectInfo{}, refuse("copy", src, "other bytes", cache.ErrChecksum)
	}
	if err := m.checkGuardLocked("copy", dst, o); err != nil {
		return cache.ObjectInfo{}, err
	}
	meta, contentType := o.Metadata, o.ContentType
	if meta == nil {
		meta, contentType = from.info.Metadata, from.contentType
	}
	return m.storeLocked(dst, from.data, from.info.ETag, from.info.CRC64, contentType, meta), nil
}

// Delete implements cache.Store.
func (m *Mem) Delete(ctx context.Context, key, ifMatch string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "delete", key); err != nil {
		return err
	}
	if o := m.objects[key]; o != nil && ifMatch != "" && o.info.ETag != ifMatch {
		return refuse("delete", key, "is another version", cache.ErrChanged)
	}
	delete(m.objects, key)
	return nil
}

// Probe implements cache.Store: Mem does everything except versions.
func (m *Mem) Probe(ctx context.Context, scratch string) (cache.Capabilities, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(ctx, "bucket", ""); err != nil {
		return cache.Capabilities{}, err
	}
	return cache.Capabilities{
		ConditionalPut: true, ConditionalComplete: true, ConditionalDelete: true,
		CopyPart: true, CRC64: true, ClockSkew: time.Until(m.now()).Round(time.Second), Server: "memory",
	}, nil
}

// Usage implements cache.Store.
func (m *Mem) Usage() cache.StoreUsage {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.usage
	u.Requests = maps.Clone(u.Requests)
	return u
}

func lowerKeys(meta map[string]string) map[string]string {
	lower := make(map[string]string, len(meta))
	for k, v := range meta {
		lower[strings.ToLower(k)] = v
	}
	return lower
}
