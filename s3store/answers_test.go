package s3store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"depotfs/cache"
	"depotfs/s3store"
)

// fake makes a Store of a server that answers with handle. It is for answers
// that real servers give only on bad days.
func fake(t *testing.T, handle http.HandlerFunc, change ...func(*s3store.Config)) *s3store.Store {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	cfg := s3store.Config{Bucket: "depot", Endpoint: server.URL, AccessKey: "AKIDEXAMPLEKEY", SecretKey: "s3cr3t-s3cr3t", SessionToken: "t0k3n-t0k3n", MaxErrorRetry: -1}
	for _, f := range change {
		f(&cfg)
	}
	return open(t, cfg)
}

func answer(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   error
		text   string // must be in the message
	}{
		{404, "NoSuchKey", cache.ErrNotFound, ""},
		{404, "NoSuchBucket", cache.ErrNotFound, `bucket "depot" does not exist at http://127.0.0.1`},
		{404, "NoSuchUpload", cache.ErrNotFound, ""},
		{412, "PreconditionFailed", cache.ErrChanged, ""},
		{409, "ConditionalRequestConflict", cache.ErrChanged, ""},
		{409, "OperationAborted", cache.ErrUnavailable, ""},
		{409, "ObjectParentIsFile", cache.ErrRejected, "ObjectParentIsFile"},
		{403, "AccessDenied", cache.ErrDenied, "policy"},
		{403, "SignatureDoesNotMatch", cache.ErrDenied, "s3.secret-key"},
		{403, "InvalidAccessKeyId", cache.ErrDenied, "s3.access-key"},
		{400, "ExpiredToken", cache.ErrDenied, "renew"},
		{403, "RequestTimeTooSkewed", cache.ErrDenied, "clock"},
		{400, "AuthorizationHeaderMalformed", cache.ErrDenied, "s3.region"},
		{301, "PermanentRedirect", cache.ErrRejected, "s3.region"},
		{307, "TemporaryRedirect", cache.ErrUnavailable, ""},
		{400, "BadDigest", cache.ErrChecksum, ""},
		{400, "XAmzContentSHA256Mismatch", cache.ErrChecksum, ""},
		{400, "InvalidArgument", cache.ErrRejected, ""},
		{400, "KeyTooLongError", cache.ErrRejected, ""},
		{400, "EntityTooLarge", cache.ErrRejected, ""},
		{400, "RequestTimeout", cache.ErrUnavailable, ""},
		{501, "NotImplemented", cache.ErrRejected, ""},
		{500, "InternalError", cache.ErrUnavailable, ""},
		{503, "SlowDown", cache.ErrUnavailable, "SlowDown"},
		{429, "TooManyRequests", cache.ErrUnavailable, ""},
		{507, "XMinioStorageFull", cache.ErrUnavailable, "full"},
		{418, "Teapot", cache.ErrRejected, "Teapot"},
	} {
		t.Run(c.code, func(t *testing.T) {
			s := fake(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				// Some servers repeat what they got.
				answer(w, c.status, c.code, "you sent "+r.Header.Get("Authorization")+r.Header.Get("X-Amz-Security-Token"))
			})
			for name, call := range calls(s) {
				err := call(t.Context())
				if name == "Delete" || name == "Abort" {
					if c.want == cache.ErrNotFound && c.code != "NoSuchBucket" {
						if err != nil {
							t.Errorf("%s: what is gone is no error, got %v", name, err)
						}
						continue
					}
				}
				only(t, name, err, c.want)
				if !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s: %q does not say %q", name, err, c.text)
				}
				for _, secret := range []string{"AKIDEXAMPLEKEY", "s3cr3t", "t0k3n"} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("%s: %q shows a key", name, err)
					}
				}
			}
		})
	}
}

// calls are the methods that make exactly one request, which may have an error
// in the answer's body.
func calls(s *s3store.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Get": func(ctx context.Context) error { _, _, err := s.Get(ctx, "x", 5, 7, ""); return err },
		"Put": func(ctx context.Context) error {
			_, err := s.Put(ctx, "x", strings.NewReader("abc"), 3, cache.PutOptions{})
			return err
		},
		"Create": func(ctx context.Context) error { _, err := s.CreateMultipart(ctx, "x", cache.PutOptions{}); return err },
		"PutPart": func(ctx context.Context) error {
			_, err := s.PutPart(ctx, "x", "id", 1, strings.NewReader("abc"), 3, 0)
			return err
		},
		"Complete": func(ctx context.Context) error {
			_, err := s.CompleteMultipart(ctx, "x", "id", []cache.Part{{Number: 1, Size: 3, ETag: "e"}}, 3, cache.PutOptions{})
			return err
		},
		"Abort":     func(ctx context.Context) error { return s.AbortMultipart(ctx, "x", "id") },
		"ListParts": func(ctx context.Context) error { _, err := s.ListParts(ctx, "x", "id"); return err },
		"Uploads":   func(ctx context.Context) error { _, err := s.ListMultiparts(ctx, ""); return err },
		"Copy": func(ctx context.Context) error {
			_, err := s.Copy(ctx, "x", "", "y", 3, cache.PutOptions{Metadata: map[string]string{}})
			return err
		},
		"Delete": func(ctx context.Context) error { return s.Delete(ctx, "x", "") },
		"List": func(ctx context.Context) error {
			return s.List(ctx, cache.ListQuery{}, func(cache.ListPage) error { return nil })
		},
		"Probe": func(ctx context.Context) error { _, err := s.Probe(ctx, "probe/"); return err },
	}
}

// only fails unless err is that sentinel and no other.
func only(t *testing.T, name string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got %v, want %q", name, err, want)
	}
	for _, other := range []error{
		cache.ErrNotFound, cache.ErrChanged, cache.ErrDenied, cache.ErrChecksum, cache.ErrRejected, cache.ErrUnavailable,
		context.Canceled, context.DeadlineExceeded,
	} {
		if other != want && errors.Is(err, other) {
			t.Errorf("%s: %v is %q and also %q", name, err, want, other)
		}
	}
}

// A server that is no S3 server, or a proxy's error page.
func TestForeignAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		want   error
	}{{200, cache.ErrUnavailable}, {404, cache.ErrNotFound}, {403, cache.ErrDenied}, {502, cache.ErrUnavailable}, {400, cache.ErrRejected}} {
		s := fake(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(c.status)
			io.WriteString(w, "<html><body>Welcome!</body></html>")
		})
		err := s.List(t.Context(), cache.ListQuery{}, func(cache.ListPage) error { return nil })
		if c.status == 200 && err == nil {
			continue // an empty page is all that can be read from it
		}
		only(t, fmt.Sprint(c.status), err, c.want)
	}
}

func TestRetries(t *testing.T) {
	for _, c := range []struct {
		name         string
		retry, fails int
		want         error
		attempts     int64
	}{
		{"none", -1, 1, cache.ErrUnavailable, 1},
		{"default", 0, 3, nil, 4},
		{"default, too many failures", 0, 100, cache.ErrUnavailable, 4},
		{"one", 1, 100, cache.ErrUnavailable, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var n atomic.Int64
			s := fake(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if string(body) != "abc" {
					t.Errorf("attempt %d has body %q", n.Load()+1, body)
				}
				if n.Add(1) <= int64(c.fails) {
					answer(w, 503, "SlowDown", "please")
					return
				}
				w.Header().Set("ETag", `"e"`)
			}, func(cfg *s3store.Config) { cfg.MaxErrorRetry = c.retry })
			_, err := s.Put(t.Context(), "x", strings.NewReader("abc"), 3, cache.PutOptions{})
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, c.want)
			}
			u := s.Usage()
			if n.Load() != c.attempts || u.Requests["put"] != c.attempts || u.Retries != c.attempts-1 || u.BytesSent != 3*c.attempts {
				t.Errorf("%d attempts, counted %+v, want %d", n.Load(), u, c.attempts)
			}
		})
	}
}

// The first attempt is stored, its answer is a 500; the retry finds the
// condition broken, by ourselves.
func TestLostAnswer(t *testing.T) {
	for _, same := range []bool{true, false} {
		n := 0
		s := fake(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			switch n++; n {
			case 1:
				answer(w, 500, "InternalError", "but stored")
			case 2:
				answer(w, 412, "PreconditionFailed", "it is there")
			default: // HEAD
				w.Header().Set("ETag", `"e"`)
				w.Header().Set("X-Amz-Checksum-Crc64nvme", "AAAAAAAAAAc=")
				w.Header().Set("Content-Length", map[bool]string{true: "3", false: "4"}[same])
			}
		}, func(c *s3store.Config) { c.MaxErrorRetry = 1 })
		info, err := s.Put(t.Context(), "x", strings.NewReader("abc"), 3, cache.PutOptions{IfNoneMatch: true, CRC64: 7, HasCRC64: true})
		switch {
		case same && (err != nil || info.ETag != "e"):
			t.Errorf("our own write is taken for another's: %+v, %v", info, err)
		case !same && !errors.Is(err, cache.ErrChanged):
			t.Errorf("another's write is taken for ours: %+v, %v", info, err)
		}
	}
}

func TestNoCredentials(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	s := fake(t, func(w http.ResponseWriter, r *http.Request) { t.Error("a request without credentials went out") },
		func(c *s3store.Config) { c.AccessKey, c.SecretKey, c.SessionToken = "", "", "" })
	_, err := s.Head(t.Context(), "x")
	only(t, "Head", err, cache.ErrDenied)
	if !strings.Contains(err.Error(), "no credentials") {
		t.Errorf("%q does not say what is missing", err)
	}
}

// Keys from the AWS chain are used, and hidden as well as configured ones.
func TestChainCredentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDFROMENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-from-env")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	s := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "AKIDFROMENV/") {
			t.Errorf("signed as %q", r.Header.Get("Authorization"))
		}
		answer(w, 403, "InvalidAccessKeyId", "no such key: AKIDFROMENV")
	}, func(c *s3store.Config) { c.AccessKey, c.SecretKey, c.SessionToken = "", "", "" })
	_, _, err := s.Get(t.Context(), "x", 0, -1, "")
	only(t, "Get", err, cache.ErrDenied)
	if strings.Contains(err.Error(), "AKIDFROMENV") {
		t.Errorf("%q shows the key", err)
	}
}
