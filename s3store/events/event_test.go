package events

import (
	"slices"
	"testing"
)

const (
	minioBody = `{"EventName":"s3:ObjectCreated:Put","Key":"depot/cs/.depotfs/journal/fra1/00000000000000000017","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","awsRegion":"","eventTime":"2026-01-02T12:00:00.5Z","eventName":"s3:ObjectCreated:Put","userIdentity":{"principalId":"k"},"requestParameters":{"sourceIPAddress":"10.0.0.1"},"responseElements":{"x-amz-request-id":"1"},"s3":{"s3SchemaVersion":"1.0","configurationId":"Config","bucket":{"name":"depot","ownerIdentity":{"principalId":"k"},"arn":"arn:aws:s3:::depot"},"object":{"key":"cs%2F.depotfs%2Fjournal%2Ffra1%2F00000000000000000017","size":200,"eTag":"e","sequencer":"1"}},"source":{"host":"10.0.0.1","port":"","userAgent":"u"}}]}`
	cephBody  = `{"Records":[{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":"de","eventTime":"2026-01-02T12:00:00.500000Z","eventName":"ObjectCreated:Put","userIdentity":{"principalId":"u"},"requestParameters":{"sourceIPAddress":""},"responseElements":{"x-amz-request-id":"1","x-amz-id-2":"2"},"s3":{"s3SchemaVersion":"1.0","configurationId":"n","bucket":{"name":"depot","ownerIdentity":{"principalId":"u"},"arn":"arn:aws:s3:de::depot","id":"i"},"object":{"key":"cs/.depotfs/journal/fra1/00000000000000000017","size":200,"eTag":"e","versionId":"","sequencer":"1","metadata":[],"tags":[]}},"eventId":"1.2","opaqueData":""}]}`
)

func TestMade(t *testing.T) {
	const key = "cs/.depotfs/journal/fra1/00000000000000000017"
	record := func(event, key string) string {
		return `{"Records":[{"eventName":"` + event + `","s3":{"object":{"key":"` + key + `"}}}]}`
	}
	for _, tt := range []struct {
		name, body string
		want       []string
	}{
		{"MinIO", minioBody, []string{"cs%2F.depotfs%2Fjournal%2Ffra1%2F00000000000000000017", key}},
		{"Ceph", cephBody, []string{key}},
		{"a space as plus", record("ObjectCreated:Put", "my+depot/x"), []string{"my+depot/x", "my depot/x"}},
		{"a key that is no escaped one", record("ObjectCreated:Put", "100%/x"), []string{"100%/x"}},
		{"a completed upload", record("s3:ObjectCreated:CompleteMultipartUpload", "x"), []string{"x"}},
		{"from another site", record("ObjectSynced:Create", "x"), []string{"x"}},
		{"a delete", record("s3:ObjectRemoved:Delete", "x"), nil},
		{"a read", record("s3:ObjectAccessed:Get", "x"), nil},
		{"no event", record("", "x"), nil},
		{"no key", record("ObjectCreated:Put", ""), nil},
		{"a test of Amazon's", `{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}`, nil},
		{"two", `{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"key":"a"}}},{},{"eventName":"ObjectCreated:Put","s3":{"object":{"key":"b"}}}]}`, []string{"a", "b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Made([]byte(tt.body))
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestWhatIsNoNotification(t *testing.T) {
	for _, body := range []string{"", "x", "[]", `"Records"`, `{"Records":{}}`, `{"Records":[1]}`, `{"Records":[{"s3":[]}]}`, minioBody + "x", minioBody[:len(minioBody)-1]} {
		if got, err := Made([]byte(body)); err == nil {
			t.Errorf("%q is read as %q", body, got)
		}
	}
}

func FuzzMade(f *testing.F) {
	for _, body := range []string{minioBody, cephBody, `{"Records":[null]}`, `{"records":[{"EVENTNAME":"ObjectCreated:","s3":{"object":{"key":"%"}}}]}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := Made(body)
		if err != nil && len(keys) > 0 {
			t.Fatalf("%q with %v", keys, err)
		}
		for _, key := range keys {
			if key == "" || len(key) > 3*len(body) {
				t.Fatalf("a key of %d bytes from %d", len(key), len(body))
			}
		}
	})
}
