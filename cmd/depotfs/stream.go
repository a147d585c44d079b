package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"depotfs/cache"
)

// maxRequest bounds the body of a request: some 10,000 long paths.
const maxRequest = 8 << 20

// streamed wraps a piece of work whose answer is a stream of events, one JSON
// object a line. The work ends when the client goes away.
func (c *control) streamed(work func(context.Context, pathsRequest, *stream) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req pathsRequest
		body := http.MaxBytesReader(w, r.Body, maxRequest)
		if err := json.NewDecoder(body).Decode(&req); err != nil {
			answerError(w, http.StatusBadRequest, "cannot read the request")
			return
		}
		w.Header().Set("Content-Type", "application/jsonl")
		w.WriteHeader(http.StatusOK)
		out := newStream(w)
		err := work(r.Context(), req, out)
		last := event{Done: true}
		if err != nil {
			last = event{Error: plainReason(err)}
		}
		out.end(last)
	}
}

// stream writes events to a client. The heart's progress callback never waits
// for the client: only the newest progress is kept, and told now and then.
type stream struct {
	stop chan struct{} // closed by end
	done chan struct{} // the teller has ended

	mu     sync.Mutex
	buf    *bufio.Writer
	enc    *json.Encoder
	flush  func() error
	latest *progress // guarded by pmu
	pmu    sync.Mutex
}

func newStream(w http.ResponseWriter) *stream {
	s := &stream{stop: make(chan struct{}), done: make(chan struct{}), buf: bufio.NewWriter(w)}
	s.enc = json.NewEncoder(s.buf)
	s.flush = http.NewResponseController(w).Flush
	_ = s.flush() // the headers say that the daemon is alive
	go s.tell()
	return s
}

// tell sends the newest progress until end.
func (s *stream) tell() {
	defer close(s.done)
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			s.sendProgress()
			return
		case <-tick.C:
			s.sendProgress()
		}
	}
}

// progress keeps the newest state; it is called by the heart and never blocks.
func (s *stream) progress(p cache.Progress) {
	s.pmu.Lock()
	defer s.pmu.Unlock()
	s.latest = &progress{FilesDone: p.FilesDone, FilesTotal: p.FilesTotal, BytesDone: p.BytesDone, BytesTotal: p.BytesTotal}
}

func (s *stream) sendProgress() {
	s.pmu.Lock()
	p := s.latest
	s.latest = nil
	s.pmu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p != nil {
		_ = s.enc.Encode(event{Progress: p})
	}
	_ = s.buf.Flush()
	_ = s.flush() // an error means that the client left: ctx says so to the work
}

// send writes one event; it reaches the client at the next tick.
func (s *stream) send(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.enc.Encode(e)
}

// end sends the last event and returns when all is written.
func (s *stream) end(last event) {
	close(s.stop)
	<-s.done
	s.send(last)
	s.sendProgress()
}
