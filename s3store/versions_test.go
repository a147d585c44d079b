package s3store_test

import (
	"io"
	"log"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"depotfs/s3store/s3test"
)

var quietLog = log.New(io.Discard, "", 0)

// In a bucket with versions the probe leaves no old versions and no delete
// markers either; objects tell their version.
func TestVersionedBucket(t *testing.T) {
	server := s3test.Start(t, s3test.MinIO)
	cfg := config(t, server)
	_, err := server.Client().PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &cfg.Bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, cfg)
	caps, err := s.Probe(t.Context(), "probe/")
	if err != nil || !caps.Versioning {
		t.Fatalf("%+v, %v", caps, err)
	}
	left, err := server.Client().ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &cfg.Bucket})
	if err != nil || len(left.Versions)+len(left.DeleteMarkers) != 0 {
		t.Errorf("left behind: %d versions, %d markers, %v", len(left.Versions), len(left.DeleteMarkers), err)
	}
	one, two := store(t, s, "x", []byte("one")), store(t, s, "x", []byte("two"))
	head, err := s.Head(t.Context(), "x")
	if err != nil || one.VersionID == "" || one.VersionID == two.VersionID || head.VersionID != two.VersionID {
		t.Errorf("versions %q, %q, now %q, %v", one.VersionID, two.VersionID, head.VersionID, err)
	}
}
