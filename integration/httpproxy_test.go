package integration

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// httpProxy stands between depotfs and the server and understands what they say. It
// counts, and makes answers late or wrong. What it counts is seen from outside and
// owes nothing to depotfs's own counters.
type httpProxy struct {
	t      testing.TB
	target string
	client *http.Transport

	mu     sync.Mutex
	log    []*exchange                                          // guarded by mu
	delay  time.Duration                                        // guarded by mu; of first answers
	held   chan struct{}                                        // guarded by mu; closed when later ones may go
	spoils func(http.ResponseWriter, *exchange, *http.Response) // guarded by mu; answers instead of us
	up     chan struct{}                                        // guarded by mu; closed when upAt bytes of objects were sent
	upAt   int64
}

// lineBuffer is what the proxy keeps on its way: a line of 1 Gbit/s and 1 ms.
const lineBuffer = 128 << 10

// exchange is one request with its answer.
type exchange struct {
	method, key string // the key without the bucket
	query       url.Values
	rng         string // the Range asked for

	status         int
	sent, received int64 // bytes of bodies, from and to depotfs
	depth          int   // how many reads of the same object may have waited for each other, this one included
	answered       bool
}

// throughHTTP puts such a proxy between depotfs and the server.
func (d *depot) throughHTTP(t testing.TB) *httpProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &httpProxy{t: t, target: d.server.Address, client: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 256}}
	server := &http.Server{Handler: p, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		// What depotfs leaves in a connection that it ends counts as pulled. Most of a
		// range would fit into this machine's buffers, and no line holds as much.
		if err := c.(*net.TCPConn).SetWriteBuffer(lineBuffer); err != nil {
			t.Error(err)
		}
		return ctx
	}}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the proxy ended: %v", err)
		}
		p.client.CloseIdleConnections()
	})
	d.endpoint = "http://" + l.Addr().String()
	return p
}

// ServeHTTP passes one request on. The signature covers the Host that the client
// knows, so it stays.
func (p *httpProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	e := &exchange{method: r.Method, key: key, query: r.URL.Query(), rng: r.Header.Get("Range")}
	p.mu.Lock()
	for _, before := range p.log {
		if before.answered && before.key == key && before.kind() == "get" {
			e.depth = max(e.depth, before.depth)
		}
	}
	e.depth++
	p.log = append(p.log, e)
	delay, held, spoils := p.delay, p.held, p.spoils
	p.mu.Unlock()

	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.Host, out.RequestURI = "http", p.target, r.Host, ""
	out.Body = http.NoBody
	if r.ContentLength != 0 {
		out.Body = &counted{ReadCloser: r.Body, add: func(n int) { p.sentMore(e, n) }}
	}
	resp, err := p.client.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler) // the client sees the connection end
	}
	defer resp.Body.Close()
	resp.Body = &counted{ReadCloser: resp.Body, add: func(n int) {
		p.mu.Lock()
		e.received += int64(n)
		p.mu.Unlock()
	}}
	if delay > 0 {
		if e.depth > 1 {
			delay = heldLate
		}
		select {
		case <-time.After(delay):
		case <-held:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	p.mu.Lock()
	e.answered, e.status = true, resp.StatusCode
	p.mu.Unlock()
	if spoils != nil {
		spoils(w, e, resp)
		return
	}
	if err := answerWith(w, resp, resp.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// answerWith copies an answer; bytes go out as they come in.
func answerWith(w http.ResponseWriter, resp *http.Response, body io.Reader) error {
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, err := io.Copy(w, body)
	return err
}

// counted is a body that counts what is read of it.
type counted struct {
	io.ReadCloser
	add func(n int)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.add(n)
	return n, err
}

func (p *httpProxy) sentMore(e *exchange, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.sent += int64(n)
	if e.method == http.MethodPut {
		p.upAt -= int64(n)
	}
	if p.up != nil && p.upAt <= 0 {
		close(p.up)
		p.up = nil
	}
}

// afterSent is closed when so many more bytes have come from depotfs.
func (p *httpProxy) afterSent(n int64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up, p.upAt = make(chan struct{}), n
	return p.up
}

// heldLate is longer than answerLate, and less than the patience with which a new mount
// waits for a first byte before it asks again (2 s).
const heldLate = 1200 * time.Millisecond

// late delays answers. Those to requests that may have waited for another answer are
// held for longer, at most until the next call: a test that is slow to look must not take
// what came after a read for what the read waited for.
func (p *httpProxy) late(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
	if p.held != nil {
		close(p.held)
	}
	p.held = make(chan struct{})
}

// spoil has fn answer; nil: the proxy is honest again.
func (p *httpProxy) spoil(fn func(http.ResponseWriter, *exchange, *http.Response)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoils = fn
}

// forget starts counting anew.
func (p *httpProxy) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = nil
}

// tally is what passed since forget.
type tally struct {
	sent, received int64
	requests       int
	kinds          map[string]int // by method, parts and copies apart
	waits          int            // answers that may have had to be waited for one after the other
}

// of sums up the exchanges that are about one object.
func (p *httpProxy) of(name string) tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := tally{kinds: map[string]int{}}
	for _, e := range p.log {
		if e.key != name {
			continue
		}
		t.requests++
		t.kinds[e.kind()]++
		t.sent += e.sent
		if e.kind() == "get" && e.status < 300 {
			t.received += e.received
			if e.answered { // nobody can have waited for others yet
				t.waits = max(t.waits, e.depth)
			}
		}
	}
	return t
}

// all sums up everything.
func (p *httpProxy) all() (sent, received int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.log {
		switch e.kind() {
		case "put", "part":
			sent += e.sent
		case "get":
			if e.status < 300 {
				received += e.received
			}
		}
	}
	return sent, received
}

func (e *exchange) kind() string {
	switch {
	case e.method == http.MethodPut && e.query.Has("partNumber"):
		if e.sent == 0 {
			return "part-copy"
		}
		return "part"
	case e.method == http.MethodPut:
		return "put"
	case e.method == http.MethodPost && e.query.Has("uploads"):
		return "create"
	case e.method == http.MethodPost && e.query.Has("uploadId"):
		return "complete"
	case e.method == http.MethodGet && e.key == "":
		return "list"
	case e.method == http.MethodGet && e.query.Has("uploadId"):
		return "list-parts"
	case e.method == http.MethodGet:
		return "get"
	}
	return strings.ToLower(e.method)
}

// quiet waits until nothing is asked any more, so that what was asked for too much is
// counted too.
func (p *httpProxy) quiet() {
	p.t.Helper()
	state := func() (int, int64, int64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		var sent, received int64
		for _, e := range p.log {
			sent += e.sent
			received += e.received
		}
		return len(p.log), sent, received
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	for {
		n, sent, received := state()
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			p.t.Fatal("the line is never quiet")
		}
		if n2, sent2, received2 := state(); n == n2 && sent == sent2 && received == received2 {
			return
		}
	}
}

// directRead reads a block past the page cache, as hypervisors do.
func directRead(t testing.TB, path string, off int64, length int) []byte {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf := aligned(length, 0)
	n, err := pread(fd, buf, off)
	if err != nil || n != length {
		t.Fatalf("read %s at %d: %d bytes, %v", path, off, n, err)
	}
	return buf
}

// pread reads again where a signal ended the wait for bytes that are not here: the Go
// runtime raises many in a process that is busy.
func pread(fd int, buf []byte, off int64) (n int, err error) {
	for {
		if n, err = unix.Pread(fd, buf, off); err != unix.EINTR {
			return n, err
		}
	}
}
