package cache

import (
	"context"
	"io"
	"time"
)

// Store is the object store as the heart needs it: plain objects with
// user metadata, guarded by entity tags. Package s3store implements it for S3;
// package storetest holds the contract as an executable suite.
//
// Keys are full object keys (the depot's prefix included). All methods may be
// called concurrently, honour ctx, and make at most the retries that their
// configuration names; long-term retrying is the caller's business. Errors wrap
// exactly one of ErrNotFound, ErrChanged, ErrDenied, ErrChecksum, ErrRejected or
// ErrUnavailable (see errors.go), or are ctx's own error. An error of a body's own
// reader comes back wrapped without any of them; a body that ends early is
// ErrChecksum. A condition on an object that does not exist is ErrChanged.
// Metadata is printable ASCII, 2 KiB at most, else ErrRejected.
type Store interface {
	// List calls page once for every page of the listing, in key order, until
	// the listing ends or page returns an error, which List returns unchanged.
	List(ctx context.Context, q ListQuery, page func(ListPage) error) error

	// Head describes one object, with metadata and, where the store keeps one,
	// the full-object checksum.
	Head(ctx context.Context, key string) (ObjectInfo, error)

	// Get opens length bytes at offset (length < 0: to the end). With a
	// non-empty ifMatch the answer is of exactly that version or ErrChanged.
	// The reader returns io.ErrUnexpectedEOF where the body ends early; the
	// caller closes it. A range that begins at or beyond the end is ErrRejected. ObjectInfo.Size is the size of the whole object.
	Get(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, ObjectInfo, error)

	// Put stores size bytes of body under key, at once or not at all.
	// body is read from offset 0, possibly more than once; it must not change
	// meanwhile (a change is detected through o.CRC64 and answers ErrChecksum).
	Put(ctx context.Context, key string, body io.ReaderAt, size int64, o PutOptions) (ObjectInfo, error)

	// CreateMultipart begins an upload in parts; o.If* are ignored (they guard
	// the completion), o.Metadata, o.ContentType and o.Copies apply to the object.
	CreateMultipart(ctx context.Context, key string, o PutOptions) (uploadID string, err error)
	// PutPart stores part number n (1..10,000). crc64 is the CRC-64/NVME of the part.
	PutPart(ctx context.Context, key, uploadID string, n int, body io.ReaderAt, size int64, crc64 uint64) (Part, error)
	// CopyPart makes part n from bytes [offset, offset+length) of another object.
	// The part has a checksum where the store computes one of what it copies. In an
	// upload that was begun without o.Copies the bytes may pass through here, or be
	// too many for that (ErrRejected).
	CopyPart(ctx context.Context, key, uploadID string, n int, src string, srcIfMatch string, offset, length int64) (Part, error)
	// CompleteMultipart makes the object visible; o carries the conditions and
	// the checksum of the whole object. After a refusal the upload may be gone.
	CompleteMultipart(ctx context.Context, key, uploadID string, parts []Part, size int64, o PutOptions) (ObjectInfo, error)
	// AbortMultipart forgets an upload; one that is gone is no error.
	AbortMultipart(ctx context.Context, key, uploadID string) error
	// ListParts lists what the store has of an upload; ErrNotFound when the
	// upload does not exist (any more).
	ListParts(ctx context.Context, key, uploadID string) ([]Part, error)
	// ListMultiparts lists unfinished uploads of keys that start with prefix. An id of
	// CreateMultipart ends with the one that is listed.
	ListMultiparts(ctx context.Context, prefix string) ([]MultipartInfo, error)

	// Copy makes dst from src inside the store (in parts where src is larger
	// than the store copies in one request). With o.Metadata nil the metadata is
	// copied too, else replaced.
	Copy(ctx context.Context, src, srcIfMatch, dst string, size int64, o PutOptions) (ObjectInfo, error)
	// Delete removes an object; one that is gone is no error. With a non-empty
	// ifMatch only that version is removed, else ErrChanged.
	Delete(ctx context.Context, key, ifMatch string) error

	// Probe finds out by trying, under scratch (a key prefix), what this store
	// does, and leaves nothing behind. Its errors say what a person should do.
	Probe(ctx context.Context, scratch string) (Capabilities, error)
	// Usage returns counters since the store was made.
	Usage() StoreUsage
}

// ListQuery selects a part of the key space.
type ListQuery struct {
	Prefix     string
	StartAfter string // exclusive; "" = from the start
	Delimiter  string // "" = everything below Prefix, "/" = one level
}

// ListPage is one page of a listing; Prefixes is empty without a delimiter.
type ListPage struct {
	Objects  []ObjectInfo // no Metadata, no CRC64
	Prefixes []string
}

// ObjectInfo describes one stored version of an object.
type ObjectInfo struct {
	Key       string
	Size      int64
	ETag      string // with its quotes removed
	VersionID string // "" where the bucket keeps no versions
	Modified  time.Time
	Metadata  map[string]string // user metadata, keys in lower case without x-amz-meta-
	CRC64     uint64            // CRC-64/NVME of the whole object
	HasCRC64  bool
	Date      time.Time // the store's own clock when it answered (Date header), zero if unknown
}

// PutOptions says how an object is to be stored.
type PutOptions struct {
	Metadata    map[string]string
	ContentType string
	IfMatch     string // store only over this version, else ErrChanged
	IfNoneMatch bool   // store only where nothing is, else ErrChanged
	CRC64       uint64 // CRC-64/NVME of all bytes
	HasCRC64    bool
	// Before is asked by Put when all but the end of the body was sent, and nothing can
	// be visible yet; perhaps more than once. Its error ends the request and comes
	// back wrapped; nothing was stored then. May be nil.
	Before func(ctx context.Context) error
	Copies bool // CreateMultipart: some parts will be copied, which some stores must know beforehand
}

// Part is one part of a multipart upload.
type Part struct {
	Number   int
	Size     int64
	ETag     string
	CRC64    uint64
	HasCRC64 bool
}

// MultipartInfo names an unfinished upload.
type MultipartInfo struct {
	Key       string
	UploadID  string
	Initiated time.Time
}

// Capabilities is what Probe found that a store really does.
type Capabilities struct {
	ConditionalPut      bool          `json:"conditional_put"`      // If-None-Match and If-Match on PUT
	ConditionalComplete bool          `json:"conditional_complete"` // the same on CompleteMultipartUpload
	ConditionalDelete   bool          `json:"conditional_delete"`   // If-Match on DELETE is honoured
	CopyPart            bool          `json:"copy_part"`            // UploadPartCopy with ranges
	CRC64               bool          `json:"crc64nvme"`            // full-object CRC-64/NVME, multipart too
	Versioning          bool          `json:"versioning"`           // the bucket keeps versions
	ClockSkew           time.Duration `json:"clock_skew_ns"`        // the store's clock minus ours
	Server              string        `json:"server"`               // Server header, for people
}

// StoreUsage counts traffic with the store.
type StoreUsage struct {
	BytesSent     int64            `json:"bytes_sent"`     // object bytes in requests
	BytesReceived int64            `json:"bytes_received"` // object bytes in answers
	Requests      map[string]int64 `json:"requests"`       // by kind: get, put, head, list, delete, copy, part, part-copy, create, complete, abort, list-parts, list-uploads, bucket
	Retries       int64            `json:"retries"`
	Errors        int64            `json:"errors"`
}
