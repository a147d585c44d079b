package events

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const testSecret = "0123456789abcdef-right"

// bed is a receiver that runs on loopback.
type bed struct {
	*Receiver
	t   testing.TB
	url string
	end context.CancelFunc

	mu    sync.Mutex
	heard []string     // guarded by mu
	log   bytes.Buffer // guarded by mu
}

func (b *bed) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func newBed(t testing.TB, secret string) *bed {
	t.Helper()
	b := &bed{t: t}
	b.Receiver = New(Config{Secret: secret, Log: slog.New(slog.NewTextHandler(b, nil)), Heard: func(key string) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.heard = append(b.heard, key)
		return strings.Contains(key, ".depotfs/journal/")
	}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.url = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, listener) }()
	b.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(b.end)
	return b
}

// ask sends a request and returns the status.
func (b *bed) ask(method, path, body string, change func(*http.Request)) int {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func auth(text string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", text) }
}

func TestWhoIsLetIn(t *testing.T) {
	b := newBed(t, testSecret)
	for _, tt := range []struct {
		name, path string
		change     func(*http.Request)
		want       int
	}{
		{"MinIO's token", "/", auth("Bearer " + testSecret), 204},
		{"another case", "/", auth("bearer " + testSecret), 204},
		{"the token alone", "/", auth(testSecret), 204},
		{"a password", "/", func(r *http.Request) { r.SetBasicAuth("depotfs", testSecret) }, 204},
		{"in the URL", "/?secret=" + testSecret, nil, 204},
		{"any path", "/a/b", auth(testSecret), 204},
		{"nothing", "/", nil, 401},
		{"empty", "/?secret=", auth("Bearer "), 401},
		{"wrong", "/", auth("Bearer " + testSecret[1:]), 401},
		{"longer", "/", auth(testSecret + "x"), 401},
		{"wrong in the URL", "/?secret=x", nil, 401},
		{"as the user's name", "/", func(r *http.Request) { r.SetBasicAuth(testSecret, "x") }, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := b.ask("POST", tt.path, minioBody, tt.change); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
	n := b.Counts()
	if n.Received != 6 || n.Woken != 6 || n.Refused != 6 || n.Invalid != 0 || n.Last.IsZero() {
		t.Errorf("counted %+v, want 6 taken and 6 refused", n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := strings.Count(b.log.String(), "wrong secret"); got != 1 {
		t.Errorf("the log tells %d times of 6 wrong secrets within a moment, want once:\n%s", got, &b.log)
	}
	if strings.Contains(b.log.String(), testSecret[1:]) {
		t.Errorf("the log shows a secret:\n%s", &b.log)
	}
	if len(b.heard) != 12 { // each escaped and plain
		t.Errorf("heard of %d keys, want 12: %q", len(b.heard), b.heard)
	}
}

func TestAnswers(t *testing.T) {
	b := newBed(t, "")
	for _, tt := range []struct {
		name, method, body string
		want               int
	}{
		{"a notification", "POST", cephBody, 204},
		{"of no interest", "POST", `{"Records":[]}`, 204},
		{"MinIO's probe", "HEAD", "", 204},
		{"a browser", "GET", "", 405},
		{"a put", "PUT", cephBody, 405},
		{"no JSON", "POST", "hello", 400},
		{"nothing", "POST", "", 400},
		{"too large", "POST", strings.Repeat(" ", maxBody+1), 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := b.ask(tt.method, "/", tt.body, nil); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
	if n := b.Counts(); n.Received != 2 || n.Woken != 1 || n.Invalid != 3 || n.Refused != 0 {
		t.Errorf("counted %+v", n)
	}
}

// A probe is answered without the secret, and is no door for anything else.
func TestProbeWithoutSecret(t *testing.T) {
	b := newBed(t, testSecret)
	if got := b.ask("HEAD", "/", "", nil); got != 204 {
		t.Errorf("got %d, want 204", got)
	}
	if n := b.Counts(); n.Received+n.Refused != 0 {
		t.Errorf("a probe was counted: %+v", n)
	}
}

// Whoever opens connections without end takes no more than a few descriptors of the mount,
// and others are let in again when they are gone.
func TestConnectionsAreFew(t *testing.T) {
	b := newBed(t, testSecret)
	address := strings.TrimPrefix(b.url, "http://")
	var conns []net.Conn
	for range 2 * maxConns {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	closed := 0
	for _, conn := range conns[maxConns:] {
		_ = conn.SetReadDeadline(time.Now().Add(patience / 2)) // sooner than the receiver gives up the others
		var timeout net.Error
		if _, err := conn.Read(make([]byte, 1)); err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
			closed++
		}
	}
	if closed != maxConns {
		t.Errorf("%d of %d connections too many were closed", closed, maxConns)
	}
	for _, conn := range conns {
		conn.Close()
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // it asks, it does not hope
		resp, err := http.Head(b.url)
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nobody is let in any more: %v", err)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	b := newBed(t, testSecret)
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: "+testSecret+"\r\nContent-Length: 100\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	b.end() // fails the test when Run returns an error, and hangs when it does not return
	if _, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://")); err == nil {
		t.Error("it still listens")
	}
	if n := b.Counts(); n.Ended != nil {
		t.Errorf("it says that it failed: %v", n.Ended)
	}
}

// Who loses its listener says so.
func TestRunTellsThatItFailed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	r := New(Config{Log: slog.New(slog.DiscardHandler), Heard: func(string) bool { return false }})
	if err := r.Run(t.Context(), listener); err == nil || r.Counts().Ended == nil {
		t.Errorf("run on a closed listener: %v, %v", err, r.Counts().Ended)
	}
}
