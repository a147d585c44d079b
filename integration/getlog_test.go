package integration

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// getLog stands before a server and notes what is asked of objects: requests and
// bytes as the network sees them, whatever depotfs says of itself.
type getLog struct {
	mu   sync.Mutex // guards gets
	gets map[string][]get
}

// get is one GET of a range of an object.
type get struct{ off, bytes int64 }

// logged puts a log between depotfs and the server.
func (d *depot) logged(t testing.TB) *getLog {
	t.Helper()
	target, err := url.Parse(d.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	l := &getLog{gets: map[string][]get{}}
	proxy := &httputil.ReverseProxy{
		// The host that was asked stays as it is: it is part of the signature.
		Rewrite:        func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host },
		ModifyResponse: func(r *http.Response) error { l.note(d, r); return nil },
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	d.endpoint = server.URL
	return l
}

func (l *getLog) note(d *depot, r *http.Response) {
	key, ok := strings.CutPrefix(r.Request.URL.Path, "/"+d.Name+"/"+d.prefix)
	if r.Request.Method != http.MethodGet || !ok || r.StatusCode/100 != 2 {
		return
	}
	from, _, _ := strings.Cut(strings.TrimPrefix(r.Request.Header.Get("Range"), "bytes="), "-")
	off, _ := strconv.ParseInt(from, 10, 64)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gets[key] = append(l.gets[key], get{off, r.ContentLength})
}

// of are the GETs of an object and the bytes of all of them.
func (l *getLog) of(key string) (gets []get, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gets = append(gets, l.gets[key]...)
	for _, g := range gets {
		bytes += g.bytes
	}
	return gets, bytes
}
