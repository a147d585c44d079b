package integration

import (
	"errors"
	"fmt"
	"time"
)

// nfsError is a status of NFSv3 or v4; those that are used have the same numbers.
type nfsError uint32

const (
	nfsNoEnt  nfsError = 2
	nfsStale  nfsError = 70
	nfsDelay  nfsError = 10008 // JUKEBOX in v3
	nfs4Grace nfsError = 10013
)

func (e nfsError) Error() string { return fmt.Sprintf("NFS status %d", uint32(e)) }

// handle is what an NFS server calls a file.
type handle []byte

// nfs3 is a client that gives handles as it got them, whatever happened between, and
// tries again as a hard mount does. One goroutine uses it.
type nfs3 struct {
	g   *ganesha
	rpc *rpc
}

const (
	nfsProgram, nfsPort     = 100003, 2049
	mountProgram, mountPort = 100005, 20048
)

// hardTime is for how long a call is tried again.
const hardTime = patience

// call is one procedure, tried again over lost connections and servers that are not
// there or ask for patience.
func (c *nfs3) call(procedure uint32, args *xdr) (*reply, error) {
	for end := time.Now().Add(hardTime); ; {
		a, err := c.try(procedure, args)
		var status nfsError
		if err == nil || errors.As(err, &status) && status != nfsDelay || time.Now().After(end) {
			return a, err
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (c *nfs3) try(procedure uint32, args *xdr) (*reply, error) {
	if c.rpc == nil {
		conn, err := c.g.dial(nfsPort)
		if err != nil {
			return nil, err
		}
		c.rpc = &rpc{conn: conn}
	}
	a, err := c.rpc.call(nfsProgram, 3, procedure, args)
	if err != nil {
		c.rpc.conn.Close()
		c.rpc = nil
		return nil, err
	}
	if status := nfsError(a.u32()); status != 0 {
		return a, status
	}
	return a, nil
}

// mount is MOUNTPROC3_MNT of a directory.
func (c *nfs3) mount(path string) (handle, error) {
	conn, err := c.g.dial(mountPort)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	a, err := (&rpc{conn: conn}).call(mountProgram, 3, 1, (&xdr{}).str(path))
	if err != nil {
		return nil, err
	}
	if status := a.u32(); status != 0 {
		return nil, nfsError(status)
	}
	return a.opaque(), nil
}

func (a *reply) postAttr() (size uint64, present bool) {
	if a.u32() == 0 {
		return 0, false
	}
	a.fixed(20)
	size = a.u64()
	a.fixed(56)
	return size, true
}

func (c *nfs3) lookup(dir handle, name string) (handle, error) {
	a, err := c.call(3, (&xdr{}).opaque(dir).str(name))
	if err != nil {
		return nil, fmt.Errorf("lookup %s: %w", name, err)
	}
	return a.opaque(), nil
}

// size is GETATTR.
func (c *nfs3) size(h handle) (uint64, error) {
	a, err := c.call(1, (&xdr{}).opaque(h))
	if err != nil {
		return 0, err
	}
	a.fixed(20)
	return a.u64(), nil
}

func (c *nfs3) read(h handle, off uint64, n uint32) ([]byte, error) {
	a, err := c.call(6, (&xdr{}).opaque(h).u64(off).u32(n))
	if err != nil {
		return nil, fmt.Errorf("read at %d: %w", off, err)
	}
	a.postAttr()
	a.u32() // count
	a.u32() // eof
	return a.opaque(), nil
}

// write writes without asking the server to make it durable.
func (c *nfs3) write(h handle, off uint64, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), 256<<10)
		if _, err := c.call(7, (&xdr{}).opaque(h).u64(off).u32(uint32(n), 0).opaque(b[:n])); err != nil {
			return fmt.Errorf("write at %d: %w", off, err)
		}
		b, off = b[n:], off+uint64(n)
	}
	return nil
}

// commit makes what was written durable.
func (c *nfs3) commit(h handle) error {
	_, err := c.call(21, (&xdr{}).opaque(h).u64(0).u32(0))
	return err
}

// sattr are attributes to set: only the mode.
func sattr(x *xdr, mode uint32) *xdr { return x.u32(1, mode, 0, 0, 0, 0, 0) }

// made reads what CREATE, MKDIR and MKNOD reply.
func (c *nfs3) made(dir handle, name string, a *reply, err error) (handle, error) {
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	if a.u32() == 0 {
		return c.lookup(dir, name)
	}
	return a.opaque(), nil
}

// create makes a file; exclusive as open(O_EXCL) of a client does.
func (c *nfs3) create(dir handle, name string, exclusive bool) (handle, error) {
	x := (&xdr{}).opaque(dir).str(name)
	if exclusive {
		x.u32(2).u64(uint64(time.Now().UnixNano()))
	} else {
		sattr(x.u32(0), 0o644)
	}
	a, err := c.call(8, x)
	return c.made(dir, name, a, err)
}

func (c *nfs3) mkdir(dir handle, name string) (handle, error) {
	a, err := c.call(9, sattr((&xdr{}).opaque(dir).str(name), 0o755))
	return c.made(dir, name, a, err)
}

// mkfifo is MKNOD.
func (c *nfs3) mkfifo(dir handle, name string) (handle, error) {
	a, err := c.call(11, sattr((&xdr{}).opaque(dir).str(name).u32(7), 0o640))
	return c.made(dir, name, a, err)
}

func (c *nfs3) chmod(h handle, mode uint32) error {
	_, err := c.call(2, sattr((&xdr{}).opaque(h), mode).u32(0))
	return err
}

func (c *nfs3) remove(dir handle, name string) error {
	_, err := c.call(12, (&xdr{}).opaque(dir).str(name))
	return err
}

func (c *nfs3) rename(from handle, name string, to handle, as string) error {
	_, err := c.call(14, (&xdr{}).opaque(from).str(name).opaque(to).str(as))
	return err
}

// nfsEntry is a name of a listing and the cookie after it.
type nfsEntry struct {
	name   string
	cookie uint64
}

// readdir is one READDIR of a directory from a cookie on.
func (c *nfs3) readdir(dir handle, cookie uint64, size uint32) (entries []nfsEntry, end bool, err error) {
	a, err := c.call(16, (&xdr{}).opaque(dir).u64(cookie).u64(0).u32(size))
	if err != nil {
		return nil, false, fmt.Errorf("readdir from cookie %d: %w", cookie, err)
	}
	a.postAttr()
	a.u64() // verifier
	for a.u32() != 0 {
		a.u64() // file id
		name := string(a.opaque())
		entries = append(entries, nfsEntry{name, a.u64()})
	}
	return entries, a.u32() != 0, nil
}
