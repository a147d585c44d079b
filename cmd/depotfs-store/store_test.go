package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// code is the S3 error code of err.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestObjectsArePlainFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made/on/demand")
	c := start(t, dir).client(testAccess, testSecret)
	put(t, c, "bucket-a", "template/tmpl/2/201/x y+ü.qcow2", "bytes")
	wantObject(t, c, "bucket-a", "template/tmpl/2/201/x y+ü.qcow2", "bytes")

	b, err := os.ReadFile(filepath.Join(dir, "bucket-a/template/tmpl/2/201/x y+ü.qcow2"))
	if err != nil || string(b) != "bytes" {
		t.Errorf("the object's file: %q, %v", b, err)
	}
	// A file that somebody copied into the bucket is an object too.
	if err := os.WriteFile(filepath.Join(dir, "bucket-a/by-hand"), []byte("copied"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantObject(t, c, "bucket-a", "by-hand", "copied")
}

func TestMetadataAndConditions(t *testing.T) {
	c := start(t, t.TempDir()).client(testAccess, testSecret)
	bucket, key := aws.String("bucket"), aws.String("k")
	first, err := c.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: bucket, Key: key, Body: strings.NewReader("one"), IfNoneMatch: aws.String("*"),
		Metadata: map[string]string{"file-permissions": "0100644"}, ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
	})
	if err != nil {
		t.Fatal(err)
	}
	head, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: bucket, Key: key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatal(err)
	}
	if head.Metadata["file-permissions"] != "0100644" || aws.ToString(head.ChecksumCRC64NVME) == "" {
		t.Errorf("head: metadata %v, crc64nvme %q", head.Metadata, aws.ToString(head.ChecksumCRC64NVME))
	}
	_, err = c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("two"), IfNoneMatch: aws.String("*")})
	if code(err) != "PreconditionFailed" {
		t.Errorf("put over an object with If-None-Match: %v", err)
	}
	_, err = c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("two"), IfMatch: first.ETag})
	if err != nil {
		t.Errorf("put with the right If-Match: %v", err)
	}
	_, err = c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key, IfMatch: first.ETag})
	if code(err) != "PreconditionFailed" {
		t.Errorf("get with an old If-Match: %v", err)
	}
	wantObject(t, c, "bucket", "k", "two")
}

func TestOneConditionalWriterWins(t *testing.T) {
	c := start(t, t.TempDir()).client(testAccess, testSecret)
	const writers = 8
	var wins [writers]bool
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String("new-bucket"), Key: aws.String("depot.json"),
				Body: strings.NewReader(fmt.Sprint(i)), IfNoneMatch: aws.String("*"),
			})
			wins[i] = err == nil
			if err != nil && code(err) != "PreconditionFailed" && code(err) != "ConditionalRequestConflict" {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, won := range wins {
		if won {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d of %d writers of a new object in a new bucket won, want 1", n, writers)
	}
}

func TestMultipartShowsNothingBeforeItsEnd(t *testing.T) {
	p := start(t, t.TempDir())
	c := p.client(testAccess, testSecret)
	bucket, key := aws.String("bucket"), aws.String("big")
	created, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket: bucket, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
	})
	if err != nil {
		t.Fatal(err)
	}
	bodies := []string{strings.Repeat("a", 5<<20), strings.Repeat("b", 5<<20), "tail"}
	var parts []types.CompletedPart
	for i, body := range bodies {
		n := aws.Int32(int32(i + 1))
		part, err := c.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: bucket, Key: key, UploadId: created.UploadId, PartNumber: n, Body: strings.NewReader(body),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
		})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{PartNumber: n, ETag: part.ETag, ChecksumCRC64NVME: part.ChecksumCRC64NVME})
	}
	if got := keys(t, c, "bucket"); len(got) != 0 {
		t.Errorf("listing during the upload: %q, want nothing", got)
	}
	_, err = c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: key, UploadId: created.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantObject(t, c, "bucket", "big", strings.Join(bodies, ""))
	if got := keys(t, c, "bucket"); !slices.Equal(got, []string{"big"}) {
		t.Errorf("listing after the upload: %q, want only big", got)
	}
}

func TestBucketsAreMadeForSignedRequestsOnly(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	folder := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}

	resp, err := http.Get(p.url + "/anonymous/key")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode < 400 || folder("anonymous") {
		t.Errorf("unsigned request: status %d, bucket made: %v", resp.StatusCode, folder("anonymous"))
	}

	for name, c := range map[string]*s3.Client{"wrong-secret": p.client(testAccess, "wrong"), "wrong-access": p.client("WRONG", testSecret)} {
		if _, err := get(t.Context(), c, name, "key"); err == nil || folder(name) {
			t.Errorf("%s: %v, bucket made: %v", name, err, folder(name))
		}
	}

	c := p.client(testAccess, testSecret)
	for _, name := range []string{"../escape", "UPPER", "a"} {
		if _, err := get(t.Context(), c, name, "key"); err == nil {
			t.Errorf("bucket name %q was accepted", name)
		}
	}
	if got := keys(t, c, "by-listing"); len(got) != 0 || !folder("by-listing") {
		t.Errorf("listing a new bucket: %q, bucket made: %v", got, folder("by-listing"))
	}
	if _, err := c.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: aws.String("by-head")}); err != nil {
		t.Errorf("head of a new bucket: %v", err)
	}
	if _, err := get(t.Context(), c, "by-get", "key"); code(err) != "NoSuchKey" {
		t.Errorf("get from a new bucket: %v, want NoSuchKey", err)
	}
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("by-create")}); err != nil {
		t.Errorf("create: %v", err)
	}
}

func TestDataSurviveTheirServer(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"restart": syscall.SIGTERM, "interrupt": syscall.SIGINT, "kill": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := start(t, dir)
			c := p.client(testAccess, testSecret)
			put(t, c, "bucket", "a/b", "kept")
			before, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: aws.String("a/b")})
			if err != nil {
				t.Fatal(err)
			}
			// The client's idle connection is still open: it must not delay the end.
			if err := p.end(t, sig); sig != syscall.SIGKILL && err != nil {
				t.Errorf("end by %v: %v, want exit 0\n%s", sig, err, p.stderr)
			}

			// Other keys, because a made pair lasts for one run only.
			c = start(t, dir, "AWS_ACCESS_KEY_ID=OTHER", "AWS_SECRET_ACCESS_KEY=other").client("OTHER", "other")
			wantObject(t, c, "bucket", "a/b", "kept")
			after, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: aws.String("a/b")})
			if err != nil || aws.ToString(after.ETag) != aws.ToString(before.ETag) {
				t.Errorf("entity tag: %q, %v; want %q", aws.ToString(after.ETag), err, aws.ToString(before.ETag))
			}
			put(t, c, "bucket", "a/c", "new")
			if got := keys(t, c, "bucket"); !slices.Equal(got, []string{"a/b", "a/c"}) {
				t.Errorf("listing: %q", got)
			}
		})
	}
}

// A directory without extended attributes has its metadata beside it; once
// made, that place is used for good (here it is there from the start).
func TestMetadataBesideTheDirectory(t *testing.T) {
	parent := t.TempDir()
	sidecar := filepath.Join(parent, ".store.metadata")
	if err := os.Mkdir(sidecar, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "store")
	for range 2 { // the second run finds what the first one left
		p := start(t, dir)
		c := p.client(testAccess, testSecret)
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String("bucket"), Key: aws.String("a/b"), Body: strings.NewReader("v"), Metadata: map[string]string{"k": "v"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := keys(t, c, "bucket"); !slices.Equal(got, []string{"a/b"}) {
			t.Errorf("listing: %q", got)
		}
		if !strings.Contains(p.stdout, sidecar) {
			t.Errorf("the output does not name %s: %q", sidecar, p.stdout)
		}
		if err := p.end(t, syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	c := start(t, dir).client(testAccess, testSecret)
	head, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: aws.String("a/b")})
	if err != nil || head.Metadata["k"] != "v" || aws.ToString(head.ETag) == "" {
		t.Errorf("head after restarts: %+v, %v", head, err)
	}
}
