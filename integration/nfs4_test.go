package integration

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// nfs4 is a client of NFSv4.0 that holds a file open, as mounts of Linux do.
type nfs4 struct {
	g        *ganesha
	rpc      *rpc
	clientID uint64
	seq      uint32
	owner    string
}

// stateID says under which open a READ or WRITE is done; the zero one under none.
type stateID [16]byte

const (
	opClose = 4 + iota
	opCommit
)

const (
	opGetFH       = 10
	opLookup      = 15
	opOpen        = 18
	opOpenConfirm = 20
	opPutFH       = 22
	opPutRootFH   = 24
	opRead        = 25
	opSetClientID = 35
	opConfirmID   = 36
	opWrite       = 38
)

// nfs4 introduces the client to the server, as one that has started anew.
func (g *ganesha) nfs4(name string) (*nfs4, error) {
	conn, err := g.dial(nfsPort)
	if err != nil {
		return nil, err
	}
	c := &nfs4{g: g, rpc: &rpc{conn: conn}, owner: name}
	a, err := c.compound(1, (&xdr{}).u32(opSetClientID).u64(uint64(time.Now().UnixNano())).str(name).
		u32(0x40000000).str("tcp").str("127.0.0.1.8.1").u32(1))
	if err != nil {
		return nil, err
	}
	a.fixed(8)
	c.clientID = a.u64()
	if _, err := c.compound(1, (&xdr{}).u32(opConfirmID).u64(c.clientID).fixed(a.fixed(8))); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *nfs4) close() { c.rpc.conn.Close() }

// compound does several operations and returns the results from the first on. A
// server in its grace period, or one that asks for patience, is asked again.
func (c *nfs4) compound(n uint32, ops *xdr) (*reply, error) {
	for end := time.Now().Add(hardTime); ; {
		a, err := c.rpc.call(nfsProgram, 4, 1, (&xdr{b: append((&xdr{}).str("").u32(0, n).b, ops.b...)}))
		if err != nil {
			return nil, err
		}
		status := nfsError(a.u32())
		a.opaque()
		a.u32()
		switch {
		case status == 0:
			return a, nil
		case status != nfsDelay && status != nfs4Grace || time.Now().After(end):
			return nil, status
		}
		<-time.After(200 * time.Millisecond)
	}
}

// lookups walks from the root of the server.
func lookups(dir string) (*xdr, uint32) {
	x, n := (&xdr{}).u32(opPutRootFH), uint32(1)
	for _, name := range strings.Split(strings.Trim(dir, "/"), "/") {
		x.u32(opLookup).str(name)
		n++
	}
	return x, n
}

// skip reads the results of operations that have none.
func (a *reply) skip(n uint32) {
	for range n {
		a.fixed(8)
	}
}

// open opens a file for reading and writing, and makes it when create is set.
func (c *nfs4) open(file string, create bool) (handle, stateID, error) {
	x, n := lookups(path.Dir(file))
	c.seq++
	x.u32(opOpen, c.seq, 3, 0).u64(c.clientID).str(c.owner)
	if create {
		x.u32(1, 0, 2, 0, 1<<1).opaque((&xdr{}).u32(0o644).b)
	} else {
		x.u32(0)
	}
	x.u32(0).str(path.Base(file)).u32(opGetFH)
	a, err := c.compound(n+2, x)
	if err != nil {
		return nil, stateID{}, fmt.Errorf("open %s: %w", file, err)
	}
	a.skip(n)
	a.fixed(8)
	id := stateID(a.fixed(16))
	a.fixed(20)
	flags := a.u32()
	a.fixed(4 * int(a.u32()))
	if delegated := a.u32(); delegated != 0 {
		return nil, id, errors.New("the server delegates")
	}
	a.fixed(8)
	h := handle(a.opaque())
	if flags&2 != 0 {
		c.seq++
		if a, err = c.compound(2, (&xdr{}).u32(opPutFH).opaque(h).u32(opOpenConfirm).fixed(id[:]).u32(c.seq)); err != nil {
			return nil, id, fmt.Errorf("confirm the open of %s: %w", file, err)
		}
		a.skip(2)
		id = stateID(a.fixed(16))
	}
	return h, id, nil
}

func (c *nfs4) read(h handle, id stateID, off uint64, n uint32) ([]byte, error) {
	a, err := c.compound(2, (&xdr{}).u32(opPutFH).opaque(h).u32(opRead).fixed(id[:]).u64(off).u32(n))
	if err != nil {
		return nil, fmt.Errorf("read at %d: %w", off, err)
	}
	a.skip(2)
	a.u32()
	return a.opaque(), nil
}

func (c *nfs4) write(h handle, id stateID, off uint64, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), 256<<10)
		if _, err := c.compound(2, (&xdr{}).u32(opPutFH).opaque(h).u32(opWrite).fixed(id[:]).u64(off).u32(0).opaque(b[:n])); err != nil {
			return fmt.Errorf("write at %d: %w", off, err)
		}
		b, off = b[n:], off+uint64(n)
	}
	_, err := c.compound(2, (&xdr{}).u32(opPutFH).opaque(h).u32(opCommit).u64(0).u32(0))
	return err
}

// closeFile is CLOSE of an open file.
func (c *nfs4) closeFile(h handle, id stateID) error {
	c.seq++
	_, err := c.compound(2, (&xdr{}).u32(opPutFH).opaque(h).u32(opClose, c.seq).fixed(id[:]))
	return err
}
