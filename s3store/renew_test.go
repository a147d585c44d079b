package s3store_test

import (
	"bytes"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/s3store"
)

// A Store that takes another's place goes on with its counters and shares its limits.
func TestRenewCountsOn(t *testing.T) {
	var keys []string
	var endpoint string
	s := fake(t, func(w http.ResponseWriter, r *http.Request) {
		keys = append(keys, r.Header.Get("Authorization")[:len("AWS4-HMAC-SHA256 Credential=XXXX")])
		w.Header().Set("ETag", `"e"`)
	}, func(cfg *s3store.Config) { endpoint = cfg.Endpoint })
	s.SetLimits(64<<10, 0)
	body := make([]byte, 64<<10)
	put := func(s *s3store.Store) {
		t.Helper()
		if _, err := s.Put(t.Context(), "k", bytes.NewReader(body), int64(len(body)), cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put(s)
	next, err := s.Renew(s3store.Config{Bucket: "depot", Endpoint: endpoint, AccessKey: "NEWKEY", SecretKey: "x", MaxErrorRetry: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(next.Close)
	start := time.Now()
	put(next)
	if u := next.Usage(); u.Requests["put"] != 2 || u.BytesSent != 2*int64(len(body)) {
		t.Errorf("usage of both: %+v", u)
	}
	if took := time.Since(start); took < 500*time.Millisecond {
		t.Errorf("64 KiB went within %v at 64 KiB a second", took)
	}
	if len(keys) != 2 || keys[0] == keys[1] {
		t.Errorf("the requests were signed as %q", keys)
	}
}

// A Store that was closed does not retry what fails.
func TestClosedDoesNotRetry(t *testing.T) {
	var asked atomic.Int64
	var s *s3store.Store
	s = fake(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		s.Close()
		answer(w, 500, "InternalError", "try again")
	}, func(cfg *s3store.Config) { cfg.MaxErrorRetry = 5 })
	if _, err := s.Head(t.Context(), "k"); err == nil {
		t.Error("a failure is a success")
	}
	if n := asked.Load(); n > 2 { // a HEAD that is refused asks a GET for the reason
		t.Errorf("asked %d times", n)
	}
}
