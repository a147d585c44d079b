package s3test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy passes TCP connections on and does to them what the Line says. It can
// stand before any server.
type Proxy struct {
	Address string // 127.0.0.1:port, where clients go
	target  string
	sent    atomic.Int64 // by clients

	mu    sync.Mutex
	line  Line              // guarded by mu
	conns map[net.Conn]bool // guarded by mu; both ends of every connection
	count int               // guarded by mu
	ctx   context.Context
}

// Line is how good the line is; the zero value is perfect. It holds for
// connections that exist and for new ones, but Cut* counts only new ones.
type Line struct {
	Delay   time.Duration // of every piece, in both directions
	Refuse  bool          // new connections are reset at once
	Stall   bool          // nothing moves, nothing is closed
	CutUp   int64         // the connection is cut after so many bytes from the client, 0 = never
	CutDown int64         // the same from the server
}

// NewProxy starts a proxy to an address; it ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{Address: l.Addr().String(), target: target, conns: make(map[net.Conn]bool), ctx: ctx}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		p.CutAll()
		wg.Wait()
	})
	return p
}

// Endpoint is the proxy's address as a URL.
func (p *Proxy) Endpoint() string { return "http://" + p.Address }

// Set changes the line.
func (p *Proxy) Set(line Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = line
}

// CutAll cuts all connections that exist.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		reset(conn)
	}
}

// Connections says how many connections clients have made.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Sent says how many bytes clients have sent, heads of requests included.
func (p *Proxy) Sent() int64 { return p.sent.Load() }

func (p *Proxy) now() Line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line
}

func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	line := p.line
	p.count++
	p.mu.Unlock()
	if line.Refuse {
		reset(client)
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.pass(server, client, line.CutUp, &p.sent) })
	wg.Go(func() { p.pass(client, server, line.CutDown, nil) })
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// pass moves bytes one way; both ways end together.
func (p *Proxy) pass(to, from net.Conn, cut int64, count *atomic.Int64) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for moved := int64(0); ; {
		n, err := from.Read(buf)
		if count != nil {
			count.Add(int64(n))
		}
		line := p.now()
		for line.Stall && p.ctx.Err() == nil {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-p.ctx.Done():
			}
			line = p.now()
		}
		if line.Delay > 0 {
			select {
			case <-time.After(line.Delay):
			case <-p.ctx.Done():
			}
		}
		if cut > 0 && moved+int64(n) >= cut {
			to.Write(buf[:cut-moved])
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
		moved += int64(n)
		if err != nil {
			return
		}
	}
}

// reset closes a connection so that the other end sees a reset.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}
