package s3store_test

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
	"depotfs/s3store/s3test"
)

// zeros is a body that counts what is read of it.
type zeros struct{ read atomic.Int64 }

func (z *zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	z.read.Add(int64(len(p)))
	return len(p), nil
}

// Over TLS a body is read once and the signature leaves it out; over plain HTTP
// it is read twice and signed. The checksum is announced and verified in both.
func TestPayloadSigning(t *testing.T) {
	server := s3test.Start(t, s3test.Versitygw)
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen http.Header
	var proto string
	// The Host header stays as the client has signed it.
	front := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen, proto = r.Header.Clone(), r.Proto
		mu.Unlock()
		(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
		}}).ServeHTTP(w, r)
	})
	const size = 3 << 20
	sum := crc64nvme.Checksum(make([]byte, size))
	for _, c := range []struct {
		name  string
		start func(http.Handler) *httptest.Server
		reads int64
	}{{"TLS", httptest.NewTLSServer, 1}, {"plain", httptest.NewServer, 2}} {
		t.Run(c.name, func(t *testing.T) {
			web := c.start(front)
			defer web.Close()
			cfg := config(t, server)
			cfg.Endpoint = web.URL
			if cert := web.Certificate(); cert != nil {
				cfg.RootCAs = x509.NewCertPool()
				cfg.RootCAs.AddCert(cert)
			}
			s := open(t, cfg)
			var body zeros
			if _, err := s.Put(t.Context(), "x", &body, size, cache.PutOptions{CRC64: sum, HasCRC64: true}); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			hash, crc, trailer := seen.Get("X-Amz-Content-Sha256"), seen.Get("X-Amz-Checksum-Crc64nvme"), seen.Get("X-Amz-Trailer")
			mu.Unlock()
			if (hash == "UNSIGNED-PAYLOAD") != (c.reads == 1) || crc == "" || trailer != "" || proto != "HTTP/1.1" {
				t.Errorf("payload hash %q, checksum %q, trailer %q, %s", hash, crc, trailer, proto)
			}
			if n := body.read.Load(); n != c.reads*size {
				t.Errorf("the body was read %.2f times, want %d", float64(n)/size, c.reads)
			}
			_, err := s.Put(t.Context(), "y", &body, size, cache.PutOptions{CRC64: sum + 1, HasCRC64: true})
			only(t, "wrong checksum", err, cache.ErrChecksum)
			in, info, err := s.Get(t.Context(), "x", 0, -1, "")
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if n, err := io.Copy(io.Discard, in); n != size || err != nil || info.Size != size {
				t.Errorf("%d bytes, %v, %+v", n, err, info)
			}
		})
	}
	t.Run("unknown authority", func(t *testing.T) {
		web := httptest.NewUnstartedServer(front)
		web.Config.ErrorLog = quietLog
		web.StartTLS()
		defer web.Close()
		cfg := config(t, server)
		cfg.Endpoint, cfg.MaxErrorRetry = web.URL, -1
		_, err := open(t, cfg).Head(t.Context(), "x")
		only(t, "Head", err, cache.ErrUnavailable)
	})
}
