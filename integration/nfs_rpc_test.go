package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// xdr writes the external data representation of RFC 4506.
type xdr struct{ b []byte }

func (x *xdr) u32(v ...uint32) *xdr {
	for _, n := range v {
		x.b = binary.BigEndian.AppendUint32(x.b, n)
	}
	return x
}

func (x *xdr) u64(v uint64) *xdr {
	x.b = binary.BigEndian.AppendUint64(x.b, v)
	return x
}

// opaque writes bytes of variable length, and strings.
func (x *xdr) opaque(v []byte) *xdr {
	x.u32(uint32(len(v)))
	return x.fixed(v)
}

func (x *xdr) str(v string) *xdr { return x.opaque([]byte(v)) }

func (x *xdr) fixed(v []byte) *xdr {
	x.b = append(x.b, v...)
	for len(x.b)%4 != 0 {
		x.b = append(x.b, 0)
	}
	return x
}

// reply reads what a server sent. Reading past the end gives zeros and sets short.
type reply struct {
	b     []byte
	short bool
}

func (a *reply) fixed(n int) []byte {
	padded := (n + 3) &^ 3
	if n < 0 || padded > len(a.b) {
		a.short, a.b = true, nil
		return make([]byte, min(max(n, 0), 1<<20))
	}
	v := a.b[:n]
	a.b = a.b[padded:]
	return v
}

func (a *reply) u32() uint32    { return binary.BigEndian.Uint32(a.fixed(4)) }
func (a *reply) u64() uint64    { return binary.BigEndian.Uint64(a.fixed(8)) }
func (a *reply) opaque() []byte { return a.fixed(int(a.u32())) }

// rpc is a connection to a program of an NFS server, by TCP (RFC 5531). Each call
// waits for its reply.
type rpc struct {
	conn net.Conn
	xid  uint32
}

// rpcTime bounds one call: a server that waits for the store answers within the
// time of a cold read.
const rpcTime = patience

// dialIn connects inside the network namespace of a process.
func dialIn(pid int, address string) (net.Conn, error) {
	// The thread goes back to its own namespace rather than end: programs that were
	// started from it may be bound to its life.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	other, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the network namespace of %d: %w", pid, err)
	}
	conn, err := net.DialTimeout("tcp4", address, 5*time.Second)
	return conn, errors.Join(err, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET))
}

// call sends a request of root's and returns the results.
func (r *rpc) call(program, version, procedure uint32, args *xdr) (*reply, error) {
	r.xid++
	var x xdr
	x.u32(0, r.xid, 0, 2, program, version, procedure)
	cred := (&xdr{}).u32(0).str("test").u32(0, 0, 0)
	x.u32(1).opaque(cred.b).u32(0, 0)
	x.b = append(x.b, args.b...)
	binary.BigEndian.PutUint32(x.b, uint32(len(x.b)-4)|1<<31)
	if err := r.conn.SetDeadline(time.Now().Add(rpcTime)); err != nil {
		return nil, err
	}
	if _, err := r.conn.Write(x.b); err != nil {
		return nil, err
	}
	var msg []byte
	for last := false; !last; {
		var head [4]byte
		if _, err := io.ReadFull(r.conn, head[:]); err != nil {
			return nil, err
		}
		n := binary.BigEndian.Uint32(head[:])
		last = n&(1<<31) != 0
		part := make([]byte, n&^(1<<31))
		if _, err := io.ReadFull(r.conn, part); err != nil {
			return nil, err
		}
		msg = append(msg, part...)
	}
	a := &reply{b: msg}
	xid, kind, denied := a.u32(), a.u32(), a.u32()
	a.u32()
	a.opaque()
	status := a.u32()
	if a.short || xid != r.xid || kind != 1 || denied != 0 || status != 0 {
		return nil, fmt.Errorf("call %d of program %d: refused (%d, %d)", procedure, program, denied, status)
	}
	return a, nil
}
