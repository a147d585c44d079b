package s3store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
)

// pipes is a listener whose connections are net.Pipes: in a bubble of synctest they
// move bytes in no time, so that only what a handler waits for takes any.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	c := &idleConn{Conn: ours}
	c.timeout.Store(int64(DefaultSocketTimeout))
	return c, nil
}

// withServer runs test in a bubble, with a Store whose server is a handler.
func withServer(t *testing.T, handler http.HandlerFunc, test func(t *testing.T, s *Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		ctx, end := context.WithCancel(t.Context())
		defer end() // ends handlers that have not read what was sent
		server := &http.Server{Handler: handler, BaseContext: func(net.Listener) context.Context { return ctx }}
		go server.Serve(p)
		defer server.Close()
		s, err := New(Config{Bucket: "bucket", Endpoint: "http://store.test", AccessKey: "a", SecretKey: "s", MaxErrorRetry: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.trans.base.DialContext = p.dial
		test(t, s)
	})
}

// Nothing moves: the request ends after the socket timeout, not before and not later.
func TestStallEndsAfterSocketTimeout(t *testing.T) {
	stall := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		call    func(ctx context.Context, s *Store) error
	}{
		{"an answer", stall, func(ctx context.Context, s *Store) error {
			_, err := s.Head(ctx, "x")
			return err
		}},
		{"a body under way", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(4<<20))
			w.Header().Set("ETag", `"e"`)
			w.Write(make([]byte, 1<<20))
			http.NewResponseController(w).Flush()
			stall(w, r)
		}, func(ctx context.Context, s *Store) error {
			body, _, err := s.Get(ctx, "x", 0, -1, "")
			if err != nil {
				return errors.Join(errors.New("no body at all"), err)
			}
			defer body.Close()
			n, err := io.Copy(io.Discard, body)
			if n != 1<<20 {
				return errors.Join(errors.New("other bytes than were sent"), err)
			}
			return err
		}},
		{"a body on its way out", func(w http.ResponseWriter, r *http.Request) {
			io.ReadFull(r.Body, make([]byte, 1<<20))
			stall(w, r)
		}, func(ctx context.Context, s *Store) error {
			_, err := s.Put(ctx, "y", bytes.NewReader(make([]byte, 4<<20)), 4<<20, cache.PutOptions{})
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			withServer(t, tc.handler, func(t *testing.T, s *Store) {
				begin := time.Now()
				if err := tc.call(t.Context(), s); !errors.Is(err, cache.ErrUnavailable) {
					t.Errorf("got %v, want ErrUnavailable", err)
				}
				if took := time.Since(begin); took != DefaultSocketTimeout {
					t.Errorf("given up after %v, want %v", took, DefaultSocketTimeout)
				}
			})
		})
	}
}

// A slow line is no dead line: a transfer may take many times the socket timeout as
// long as bytes move.
func TestSlowIsNotDead(t *testing.T) {
	const pieces, piece = 30, 64 << 10
	const pause = DefaultSocketTimeout - time.Second
	data := bytes.Repeat([]byte("slow and steady "), pieces*piece/16)
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			got := make([]byte, 0, len(data))
			for range pieces {
				buf := make([]byte, piece)
				n, _ := io.ReadFull(r.Body, buf)
				got = append(got, buf[:n]...)
				time.Sleep(pause)
			}
			if !bytes.Equal(got, data) {
				w.WriteHeader(http.StatusBadRequest)
			}
			w.Header().Set("ETag", `"e"`)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Header().Set("ETag", `"e"`)
		for i := range pieces {
			time.Sleep(pause)
			w.Write(data[i*piece : (i+1)*piece])
			http.NewResponseController(w).Flush()
		}
	}
	withServer(t, handler, func(t *testing.T, s *Store) {
		begin := time.Now()
		if _, err := s.Put(t.Context(), "x", bytes.NewReader(data), int64(len(data)), cache.PutOptions{}); err != nil {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		body, _, err := s.Get(t.Context(), "x", 0, -1, "")
		if err != nil {
			t.Fatalf("after %v: %v", time.Since(begin), err)
		}
		defer body.Close()
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, data) {
			t.Errorf("after %v: %d bytes, %v", time.Since(begin), len(got), err)
		}
		if took := time.Since(begin); took < 2*pieces*pause {
			t.Errorf("it took only %v: nothing was slow", took)
		}
	})
}
