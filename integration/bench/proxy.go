package main

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pieceSize is how much the proxy moves at a time.
	pieceSize = 64 << 10
	// linePieces is how much may be on the line in one direction of one
	// connection: 16 MiB, so that 10 ms one way allow 1.6 GiB/s. The line has a
	// length and no width.
	linePieces = 256
)

// proxy stands before a server and makes the line long: every byte arrives delay
// later than it was sent, in either direction, however many are on their way. The
// bytes wait in a queue with the time at which they are due; nothing sleeps between
// reading them, so bandwidth is not limited.
//
// Connecting costs nothing, other than on a real line; what is measured here
// begins on connections that exist.
type proxy struct {
	address string // 127.0.0.1:port
	target  string
	delay   time.Duration
	listen  net.Listener
	wg      sync.WaitGroup

	up, down, requests atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu; both ends; nil after close
}

// traffic is what passed: bytes to the store, bytes from it, and requests.
type traffic struct {
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
	Requests int64 `json:"requests"`
}

func (t traffic) minus(old traffic) traffic {
	return traffic{Sent: t.Sent - old.Sent, Received: t.Received - old.Received, Requests: t.Requests - old.Requests}
}

func newProxy(target string, delay time.Duration) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{address: l.Addr().String(), target: target, delay: delay, listen: l, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(conn) })
		}
	})
	return p, nil
}

func (p *proxy) endpoint() string { return "http://" + p.address }

// traffic counts whole HTTP messages, heads included. A request is a change of
// direction: HTTP/1.1 clients wait for the answer before they send the next one. One
// that asks whether it may send a body (Expect: 100-continue) counts twice.
func (p *proxy) traffic() traffic {
	return traffic{Sent: p.up.Load(), Received: p.down.Load(), Requests: p.requests.Load()}
}

func (p *proxy) close() {
	p.listen.Close()
	p.mu.Lock()
	for conn := range p.conns {
		conn.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.wg.Wait()
}

// keep notes a connection for close; false: the proxy is closed.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.conns == nil {
			return false
		}
		p.conns[c] = true
	}
	return true
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.keep(client, server) {
		return
	}
	var asking atomic.Bool // the last piece went to the server
	var wg sync.WaitGroup
	wg.Go(func() {
		p.pass(server, client, func(n int) {
			p.up.Add(int64(n))
			if !asking.Swap(true) {
				p.requests.Add(1)
			}
		})
	})
	wg.Go(func() {
		p.pass(client, server, func(n int) {
			p.down.Add(int64(n))
			asking.Store(false)
		})
	})
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// piece is what one read returned, and when it arrives.
type piece struct {
	due  time.Time
	data *[]byte
	n    int
}

var pieces = sync.Pool{New: func() any { b := make([]byte, pieceSize); return &b }}

// pass moves bytes one way, and the end of the stream.
func (p *proxy) pass(to, from net.Conn, seen func(n int)) {
	line := make(chan piece, linePieces)
	wake, err := newAlarm()
	if err != nil { // no descriptors left; the client sees the connection end
		to.Close()
		return
	}
	defer wake.close()
	var wg sync.WaitGroup
	wg.Go(func() {
		broken := false
		for it := range line {
			if !broken {
				err := wake.sleepUntil(it.due)
				if err == nil {
					_, err = to.Write((*it.data)[:it.n])
				}
				if err != nil {
					broken = true
					from.Close() // so that reading ends too
				}
			}
			pieces.Put(it.data)
		}
		if tcp, ok := to.(*net.TCPConn); ok {
			tcp.CloseWrite()
		}
	})
	for {
		data := pieces.Get().(*[]byte)
		n, err := from.Read(*data)
		if n > 0 {
			seen(n)
			line <- piece{due: time.Now().Add(p.delay), data: data, n: n}
		} else {
			pieces.Put(data)
		}
		if err != nil {
			break
		}
	}
	close(line)
	wg.Wait()
}
