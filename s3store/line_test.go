package s3store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/minio/crc64nvme"

	"depotfs/cache"
	"depotfs/s3store"
	"depotfs/s3store/s3test"
)

// behind makes a Store whose line to a versitygw is a proxy's.
func behind(t *testing.T, change func(*s3store.Config)) (*s3store.Store, *s3test.Proxy, *s3test.Server) {
	t.Helper()
	server := s3test.Start(t, s3test.Versitygw)
	proxy := s3test.NewProxy(t, server.Address)
	cfg := config(t, server)
	cfg.Endpoint, cfg.MaxErrorRetry = proxy.Endpoint(), -1
	if change != nil {
		change(&cfg)
	}
	return open(t, cfg), proxy, server
}

func store(t *testing.T, s *s3store.Store, key string, data []byte) cache.ObjectInfo {
	t.Helper()
	info, err := s.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), cache.PutOptions{CRC64: crc64nvme.Checksum(data), HasCRC64: true})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestCutDownload(t *testing.T) {
	s, proxy, _ := behind(t, nil)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	store(t, s, "x", data)
	s.Close() // the next request makes a new connection
	proxy.CutAll()
	proxy.Set(s3test.Line{CutDown: 500_000})
	body, info, err := s.Get(t.Context(), "x", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != io.ErrUnexpectedEOF {
		t.Errorf("after %d of %d bytes: %v, want io.ErrUnexpectedEOF", len(got), info.Size, err)
	}
	if !bytes.Equal(got, data[:len(got)]) {
		t.Error("what came before the cut is wrong")
	}
}

func TestResetDownload(t *testing.T) {
	s, proxy, _ := behind(t, nil)
	store(t, s, "x", make([]byte, 8<<20))
	body, _, err := s.Get(t.Context(), "x", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	proxy.CutAll()
	if _, err := io.Copy(io.Discard, body); err != io.ErrUnexpectedEOF && !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("got %v, want io.ErrUnexpectedEOF or ErrUnavailable", err)
	}
}

func TestCutUpload(t *testing.T) {
	s, proxy, _ := behind(t, func(c *s3store.Config) { c.MaxErrorRetry = 1 })
	proxy.Set(s3test.Line{CutUp: 100_000})
	data := make([]byte, 1<<20)
	_, err := s.Put(t.Context(), "x", bytes.NewReader(data), int64(len(data)), cache.PutOptions{})
	only(t, "Put", err, cache.ErrUnavailable)
	proxy.Set(s3test.Line{})
	_, err = s.Head(t.Context(), "x")
	only(t, "Head", err, cache.ErrNotFound)
	store(t, s, "x", data)
}

func TestUnreachable(t *testing.T) {
	s, proxy, _ := behind(t, func(c *s3store.Config) { c.MaxErrorRetry = 2 })
	proxy.Set(s3test.Line{Refuse: true})
	for name, call := range calls(s) {
		err := call(t.Context())
		only(t, name, err, cache.ErrUnavailable)
		if !strings.Contains(err.Error(), "cannot be reached") || !strings.Contains(err.Error(), proxy.Address) {
			t.Errorf("%s: %q does not say what cannot be reached", name, err)
		}
		if strings.Contains(err.Error(), "operation error") {
			t.Errorf("%s: %q speaks the SDK's language", name, err)
		}
	}
	if u := s.Usage(); u.Errors == 0 || u.Retries != 2*int64(len(calls(s))) {
		t.Errorf("counted %+v, want 2 retries for each of %d calls", u, len(calls(s)))
	}
}

// A connection stalls for ever: what waits for it ends. How long that takes to the
// second is idle_test.go's, in a time of its own.
func TestSocketTimeout(t *testing.T) {
	const patience = 300 * time.Millisecond
	s, proxy, _ := behind(t, func(c *s3store.Config) { c.SocketTimeout = patience })
	proxy.Set(s3test.Line{Stall: true}) // from the first byte: nothing here has to be quick
	for name, call := range map[string]func() error{
		"an answer": func() error { _, err := s.Head(t.Context(), "x"); return err },
		"a body on its way out": func() error {
			_, err := s.Put(t.Context(), "y", bytes.NewReader(make([]byte, 16<<20)), 16<<20, cache.PutOptions{})
			return err
		},
	} {
		begin := time.Now()
		err := call()
		only(t, name, err, cache.ErrUnavailable)
		if took := time.Since(begin); took < patience {
			t.Errorf("%s: given up after %v, want not before %v", name, took, patience)
		}
	}
}

// Limits hold in both directions.
func TestLimits(t *testing.T) {
	s, _, _ := behind(t, func(c *s3store.Config) { c.UploadLimit, c.DownloadLimit = 200_000, 200_000 })
	data := bytes.Repeat([]byte("x"), 300_000)
	begin := time.Now()
	store(t, s, "x", data)
	if took := time.Since(begin); took < time.Second {
		t.Errorf("300 kB at 200 kB/s went up in only %v", took)
	}
	begin = time.Now()
	body, _, err := s.Get(t.Context(), "x", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if took := time.Since(begin); took < time.Second {
		t.Errorf("300 kB at 200 kB/s came in only %v", took)
	}
}

// A limit that is lifted while a transfer runs lets that transfer run.
func TestLimitIsLive(t *testing.T) {
	s, _, _ := behind(t, func(c *s3store.Config) { c.UploadLimit, c.DownloadLimit = 0, 5_000 })
	data := make([]byte, 4<<20) // would take 14 minutes
	store(t, s, "x", data)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	body, _, err := s.Get(ctx, "x", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, make([]byte, 3000)); err != nil {
		t.Fatal(err)
	}
	s.SetLimits(0, 0)
	if n, err := io.Copy(io.Discard, body); err != nil {
		t.Fatalf("the transfer went on at the old limit: %d bytes, %v", n, err)
	}
}

// Cancelling ends a call at once, whatever the line does.
func TestCancelStalled(t *testing.T) {
	s, proxy, _ := behind(t, nil)
	proxy.Set(s3test.Line{Stall: true})
	for name, call := range calls(s) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- call(ctx) }()
		cancel()
		select {
		case err := <-done:
			only(t, name, err, context.Canceled)
		case <-time.After(2 * time.Minute):
			t.Fatalf("%s does not end", name)
		}
	}
}

// One connection serves one request after another.
func TestKeepAlive(t *testing.T) {
	s, proxy, _ := behind(t, nil)
	for range 20 {
		store(t, s, "x", []byte("abc"))
		body, _, err := s.Get(t.Context(), "x", 0, -1, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(body, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		body.Close()
	}
	if n := proxy.Connections(); n > 2 {
		t.Errorf("40 requests took %d connections", n)
	}
}

// The store goes away and comes back: no new Store is needed.
func TestOutage(t *testing.T) {
	eachServer(t, func(t *testing.T, server *s3test.Server) {
		cfg := config(t, server)
		cfg.MaxErrorRetry = -1
		s := open(t, cfg)
		store(t, s, "x", []byte("abc"))
		server.Stop()
		_, err := s.Head(t.Context(), "x")
		only(t, "Head", err, cache.ErrUnavailable)
		server.Restart(t)
		if info, err := s.Head(t.Context(), "x"); err != nil || info.Size != 3 {
			t.Errorf("after the restart: %+v, %v", info, err)
		}
	})
}

func TestWrongSettings(t *testing.T) {
	eachServer(t, func(t *testing.T, server *s3test.Server) {
		good := config(t, server)
		for _, c := range []struct {
			name   string
			change func(*s3store.Config)
			want   error
			text   string
		}{
			{"bucket", func(c *s3store.Config) { c.Bucket = "no-such-bucket" }, cache.ErrNotFound, `bucket "no-such-bucket" does not exist at ` + server.Endpoint},
			{"access key", func(c *s3store.Config) { c.AccessKey = "AKIDWRONG" }, cache.ErrDenied, "s3.access-key"},
			{"secret key", func(c *s3store.Config) { c.SecretKey = "wrong-secret" }, cache.ErrDenied, "s3.secret-key"},
		} {
			t.Run(c.name, func(t *testing.T) {
				cfg := good
				c.change(&cfg)
				s := open(t, cfg)
				_, probeErr := s.Probe(t.Context(), "probe/")
				_, putErr := s.Put(t.Context(), "x", strings.NewReader("abc"), 3, cache.PutOptions{})
				for name, err := range map[string]error{"Probe": probeErr, "Put": putErr} {
					only(t, name, err, c.want)
					if !strings.Contains(err.Error(), c.text) {
						t.Errorf("%s: %q does not say %q", name, err, c.text)
					}
					for _, secret := range []s3store.Secret{cfg.AccessKey, cfg.SecretKey} {
						if strings.Contains(err.Error(), string(secret)) {
							t.Errorf("%s: %q shows a key", name, err)
						}
					}
				}
				_, err := s.Head(t.Context(), "x")
				only(t, "Head", err, c.want)
			})
		}
	})
}
