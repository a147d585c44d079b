package s3test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Bucket is a bucket as another S3 client sees it. Its methods fail the test when
// the server does; objects that are not there are for the caller to judge.
type Bucket struct {
	Name   string
	client *s3.Client
}

// Object is what a listing or a HEAD says of an object.
type Object struct {
	Key      string
	Size     int64
	ETag     string
	Modified time.Time
	Metadata map[string]string // of Head only
}

// OpenBucket is a client of the bucket with that name.
func (s *Server) OpenBucket(name string) *Bucket { return &Bucket{Name: name, client: s.client} }

// Put stores an object.
func (b *Bucket) Put(t testing.TB, key string, body []byte, metadata map[string]string) {
	t.Helper()
	if _, err := b.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &b.Name, Key: &key, Body: bytes.NewReader(body), Metadata: metadata}); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

// open is nil where there is no such object.
func (b *Bucket) open(t testing.TB, key string) io.ReadCloser {
	t.Helper()
	out, err := b.client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &b.Name, Key: &key})
	var missing *types.NoSuchKey
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return out.Body
}

// Get reads an object; found is false where there is none.
func (b *Bucket) Get(t testing.TB, key string) (body []byte, found bool) {
	t.Helper()
	r := b.open(t, key)
	if r == nil {
		return nil, false
	}
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return body, true
}

// SHA256 is the sum of an object's bytes in hexadecimal, "" where there is none.
func (b *Bucket) SHA256(t testing.TB, key string) string {
	t.Helper()
	r := b.open(t, key)
	if r == nil {
		return ""
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Head describes an object; found is false where there is none.
func (b *Bucket) Head(t testing.TB, key string) (o Object, found bool) {
	t.Helper()
	out, err := b.client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &b.Name, Key: &key})
	var missing *types.NotFound
	if errors.As(err, &missing) {
		return Object{}, false
	}
	if err != nil {
		t.Fatalf("head %q: %v", key, err)
	}
	return Object{Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified), Metadata: out.Metadata}, true
}

// Delete removes an object.
func (b *Bucket) Delete(t testing.TB, key string) {
	t.Helper()
	if _, err := b.client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &b.Name, Key: &key}); err != nil {
		t.Fatalf("delete %q: %v", key, err)
	}
}

// List lists the objects whose keys start with prefix, in key order.
func (b *Bucket) List(t testing.TB, prefix string) []Object {
	t.Helper()
	var all []Object
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.Name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatalf("list %q: %v", prefix, err)
		}
		for _, o := range page.Contents {
			all = append(all, Object{Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size), ETag: aws.ToString(o.ETag), Modified: aws.ToTime(o.LastModified)})
		}
	}
	return all
}

// Uploads describes the unfinished multipart uploads: key, begin and parts.
func (b *Bucket) Uploads(t testing.TB) []string {
	t.Helper()
	out, err := b.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &b.Name})
	if err != nil {
		t.Fatalf("list uploads: %v", err)
	}
	var found []string
	for _, u := range out.Uploads {
		parts := "no such upload"
		if list, err := b.client.ListParts(t.Context(), &s3.ListPartsInput{Bucket: &b.Name, Key: u.Key, UploadId: u.UploadId}); err == nil {
			parts = fmt.Sprint(len(list.Parts), " parts")
		}
		found = append(found, fmt.Sprintf("%s of %s, %s", aws.ToString(u.Key), aws.ToTime(u.Initiated).Format("15:04:05.000"), parts))
	}
	return found
}
