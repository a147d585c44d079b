package s3store

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"depotfs/cache"
)

// thinkTime is how long a store may work on a copy or a completion without
// sending a byte. Stores that keep objects as files copy 5 GiB from disk to
// disk before they answer.
const thinkTime = 10 * time.Minute

// transport sends the requests: it counts, limits and watches.
type transport struct {
	*traffic
	base   *http.Transport
	socket time.Duration
}

// traffic counts and limits what goes to one depot and comes from it, whatever its
// settings are at the time.
type traffic struct {
	upload   *limit
	download *limit

	sent, received  atomic.Int64
	retries, errors atomic.Int64
	mu              sync.Mutex
	requests        map[string]int64 // guarded by mu
}

func newTraffic(c Config) *traffic {
	return &traffic{upload: newLimit(c.UploadLimit), download: newLimit(c.DownloadLimit), requests: make(map[string]int64)}
}

func newTransport(c Config, counts *traffic) *transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // parts in parallel want connections in parallel
	return &transport{
		traffic: counts,
		base: &http.Transport{
			Proxy:               http.ProxyFromEnvironment, // never for loopback
			DialContext:         dialer(c.ConnectTimeout, c.SocketTimeout),
			TLSHandshakeTimeout: c.ConnectTimeout,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs},
			MaxConnsPerHost:     c.MaxConns,
			MaxIdleConns:        0,   // no limit of its own
			MaxIdleConnsPerHost: 512, // as many as there may be transfers: a new connection costs round trips
			// A read after a pause should not pay for a handshake. Beyond SocketTimeout
			// idleConn would cut the connection anyway; one that the server has closed
			// is noticed before it is used again, or its request is sent anew.
			IdleConnTimeout:       c.SocketTimeout - c.SocketTimeout/10,
			ExpectContinueTimeout: time.Second,
			DisableCompression:    true,
			ReadBufferSize:        64 << 10,
			WriteBufferSize:       64 << 10,
			Protocols:             protocols,
		},
		socket: c.SocketTimeout,
	}
}

// Do implements the SDK's HTTPClient. It follows no redirects: signatures are
// for one host.
func (t *transport) Do(req *http.Request) (*http.Response, error) {
	c := callOf(req.Context())
	attempt := c.sent()
	t.mu.Lock()
	t.requests[c.kind]++
	t.mu.Unlock()
	if attempt > 1 {
		t.retries.Add(1)
	}
	quiet := t.socket
	switch c.kind {
	case kindCopy, kindPartCopy, kindComplete:
		quiet = max(quiet, thinkTime)
	}
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		conn := info.Conn
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn()
		}
		if watched, ok := conn.(*idleConn); ok {
			watched.allow(quiet)
		}
	}})
	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody && (c.kind == kindPut || c.kind == kindPart) {
		body := &sending{ReadCloser: req.Body, ctx: ctx, t: t}
		if c.before != nil {
			body.hold(c, req.ContentLength)
		}
		req.Body = body
	} else if c.before != nil {
		if err := c.ask(ctx); err != nil {
			return nil, err
		}
	}
	resp, err := t.base.RoundTrip(req)
	if stopped := c.stop(); stopped != nil && err != nil { // whatever the connection says of it
		return nil, &bodyError{stopped}
	}
	if err != nil {
		t.errors.Add(1)
		return nil, err
	}
	c.answered(resp)
	// Other refusals (no such object, a condition that does not hold, what the probe
	// tries on purpose) are answers and not failures.
	switch s := resp.StatusCode; {
	case s >= 500, s == http.StatusUnauthorized, s == http.StatusForbidden, s == http.StatusTooManyRequests:
		t.errors.Add(1)
	}
	if c.kind == kindGet && resp.StatusCode < 300 {
		resp.Body = &receiving{ReadCloser: resp.Body, ctx: ctx, t: t}
	}
	return resp, nil
}

func (t *traffic) usage() cache.StoreUsage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return cache.StoreUsage{
		BytesSent: t.sent.Load(), BytesReceived: t.received.Load(), Requests: maps.Clone(t.requests),
		Retries: t.retries.Load(), Errors: t.errors.Load(),
	}
}

// sending is the body of an object on its way out.
type sending struct {
	io.ReadCloser
	ctx  context.Context
	t    *transport
	call *call // asked before the last byte; nil where nobody asks
	left int64 // of the body, where somebody asks
	end  context.CancelFunc
}

// hold has c asked before the last byte of a body goes out.
func (b *sending) hold(c *call, length int64) {
	b.call, b.left = c, length
	b.ctx, b.end = context.WithCancel(b.ctx)
}

// Close ends a wait for the last byte too: the store may answer before it has come.
func (b *sending) Close() error {
	if b.end != nil {
		b.end()
	}
	return b.ReadCloser.Close()
}

func (b *sending) Read(p []byte) (int, error) {
	if b.call != nil && len(p) > 0 {
		if b.left <= 1 {
			if err := b.call.ask(b.ctx); err != nil {
				return 0, err
			}
			b.call = nil
		} else {
			p = p[:min(int64(len(p)), b.left-1)]
		}
	}
	n, err := b.read(p)
	b.left -= int64(n)
	return n, err
}

func (b *sending) read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:b.t.upload.chunk(len(p))])
	b.t.sent.Add(int64(n))
	if err := b.t.upload.wait(b.ctx, n); err != nil {
		return n, err
	}
	return n, err
}

// receiving is the body of an object on its way in.
type receiving struct {
	io.ReadCloser
	ctx context.Context
	t   *transport
}

func (b *receiving) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:b.t.download.chunk(len(p))])
	b.t.received.Add(int64(n))
	if err := b.t.download.wait(b.ctx, n); err != nil {
		return n, err
	}
	return n, err
}

var _ net.Conn = (*idleConn)(nil)
