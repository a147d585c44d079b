package events

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What a sender may cost. A notification has a few KiB, and stores keep few connections.
const (
	maxBody     = 1 << 20
	maxHeader   = 16 << 10
	maxConns    = 64
	patience    = 10 * time.Second // for a whole request, and for its answer
	idleTime    = time.Minute      // of a connection between two requests
	endTime     = time.Second      // for answers under way at the end
	refusedPace = time.Minute      // between two words in the log about wrong secrets
)

// Config is what a Receiver needs.
type Config struct {
	// Secret is what senders must know: as the token or the password of an Authorization
	// header, or as the parameter "secret" of the URL. Empty: everybody is let in, which
	// is for loopback alone.
	Secret string
	// Heard is told every key of an object that was made, and says whether it matters. It
	// must not block.
	Heard func(key string) bool
	Log   *slog.Logger
}

// Receiver answers the store's requests and passes on which objects were made.
type Receiver struct {
	cfg    Config
	secret [sha256.Size]byte // its sum: comparing takes the same time for all lengths
	conns  atomic.Int64

	mu     sync.Mutex
	counts Counts    // guarded by mu
	logged time.Time // guarded by mu; when the log was last told of a wrong secret
	unsaid int64     // guarded by mu; how many came since
}

// Counts is what a Receiver has received.
type Counts struct {
	Received int64     // requests that were taken
	Woken    int64     // of these, which named a key that matters
	Refused  int64     // requests with a wrong secret, or none
	Invalid  int64     // requests that were too large, or no notification
	Last     time.Time // when the last one was taken
	Ended    error     // why nothing is received any more
}

// New makes a Receiver, which receives nothing until it runs.
func New(cfg Config) *Receiver {
	return &Receiver{cfg: cfg, secret: sha256.Sum256([]byte(cfg.Secret))}
}

// Counts are the counts until now.
func (r *Receiver) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// Run answers on a listener, which it closes, until ctx ends. It is an error when it has to
// end before.
func (r *Receiver) Run(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           r,
		ReadHeaderTimeout: patience,
		ReadTimeout:       patience,
		WriteTimeout:      2 * patience, // from when the header was read
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ConnState:         r.connState,
		ErrorLog:          slog.NewLogLogger(r.cfg.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(listener)
	if !stop() {
		<-ended
		return nil
	}
	server.Close()
	err = fmt.Errorf("receive event notifications at %s: %w", listener.Addr(), err)
	r.mu.Lock()
	r.counts.Ended = err
	r.mu.Unlock()
	return err
}

// connState closes connections that are too many: each is a file descriptor of the mount.
func (r *Receiver) connState(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if r.conns.Add(1) > maxConns {
			conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		r.conns.Add(-1)
	}
}

// ServeHTTP implements http.Handler. The path is the sender's affair.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch req.Method {
	case http.MethodPost:
	case http.MethodHead: // MinIO asks so whether anybody is there, some versions without the secret
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", "POST, HEAD")
		http.Error(w, "event notifications are posted", http.StatusMethodNotAllowed)
		return
	}
	if !r.knows(req) {
		r.refuse(req)
		w.Header().Set("Connection", "close")
		http.Error(w, "wrong secret", http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		r.invalid(err)
		http.Error(w, "too large for an event notification", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil { // the sender went away, or was too slow
		http.Error(w, "half a request", http.StatusBadRequest)
		return
	}
	keys, err := Made(body)
	if err != nil {
		r.invalid(err)
		http.Error(w, "no event notification", http.StatusBadRequest)
		return
	}
	r.take(keys)
	w.WriteHeader(http.StatusNoContent)
}

func (r *Receiver) take(keys []string) {
	woken := false
	for _, key := range keys {
		if r.cfg.Heard(key) {
			woken = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.Received++
	r.counts.Last = time.Now()
	if woken {
		r.counts.Woken++
	}
}

// knows says whether a request has the secret.
func (r *Receiver) knows(req *http.Request) bool {
	if r.cfg.Secret == "" {
		return true
	}
	auth := req.Header.Get("Authorization")
	given := []string{auth, req.URL.Query().Get("secret")}
	if scheme, token, ok := strings.Cut(auth, " "); ok && strings.EqualFold(scheme, "Bearer") {
		given[0] = strings.TrimSpace(token)
	} else if _, password, ok := req.BasicAuth(); ok {
		given[0] = password
	}
	right := 0
	for _, text := range given {
		sum := sha256.Sum256([]byte(text))
		right |= subtle.ConstantTimeCompare(sum[:], r.secret[:])
	}
	return right == 1
}

// refuse counts a wrong secret, and says so now and then.
func (r *Receiver) refuse(req *http.Request) {
	r.mu.Lock()
	r.counts.Refused++
	r.unsaid++
	n, now := r.unsaid, time.Now()
	say := r.logged.IsZero() || now.Sub(r.logged) >= refusedPace
	if say {
		r.logged, r.unsaid = now, 0
	}
	r.mu.Unlock()
	if say {
		r.cfg.Log.Warn("an event notification had a wrong secret, or none", "from", req.RemoteAddr, "requests", n)
	}
}

func (r *Receiver) invalid(err error) {
	r.mu.Lock()
	r.counts.Invalid++
	r.mu.Unlock()
	r.cfg.Log.Debug("no event notification", "err", err)
}
