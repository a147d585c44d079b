package s3store

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// idleConn cuts a connection on which no byte moves in either direction for a
// time. A deadline of the whole request would not do: a part may take an hour on
// a slow line. Bytes that are sent also prolong the wait for an answer.
type idleConn struct {
	net.Conn
	timeout atomic.Int64 // time.Duration; set for every request
}

func (c *idleConn) deadline() time.Time {
	return time.Now().Add(time.Duration(c.timeout.Load()))
}

func (c *idleConn) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(c.deadline()); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *idleConn) Write(p []byte) (int, error) {
	end := c.deadline()
	if err := c.Conn.SetWriteDeadline(end); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if n > 0 {
		// The transport waits for the answer in a Read that began before.
		c.Conn.SetReadDeadline(c.deadline())
	}
	return n, err
}

// allow sets how long nothing may move during the next request. Setting it
// also restarts the clock of the Read that watches a pooled connection.
func (c *idleConn) allow(d time.Duration) {
	c.timeout.Store(int64(d))
	c.Conn.SetReadDeadline(time.Now().Add(d))
}

// dialer makes idleConns.
func dialer(connect, socket time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: connect, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &idleConn{Conn: conn}
		c.timeout.Store(int64(socket))
		return c, nil
	}
}
