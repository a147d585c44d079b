package cache

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"depotfs/cache/share"
)

// Seek answers SEEK_DATA and SEEK_HOLE. What is missing here counts as data: it is not
// known to be a hole.
func (h *Handle) Seek(_ context.Context, off int64, whence int) (int64, error) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, syscall.EINVAL
	}
	h.n.mu.Lock()
	p := h.n.p
	h.n.mu.Unlock()
	if p == nil || h.n.whole.Load() {
		return unix.Seek(int(h.file.Fd()), off, whence)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if off < 0 || off >= p.size {
		return 0, syscall.ENXIO
	}
	if whence == unix.SEEK_DATA {
		return p.nextData(off)
	}
	return p.nextHole(off)
}

// nextData is where the first byte from off on is that may not be zero; p.mu is held.
func (p *partial) nextData(off int64) (int64, error) {
	for off < p.size {
		have, ok := p.here.Next(off)
		if !ok || have.Off > off {
			return off, nil
		}
		data, ok, err := share.NextData(p.file, off, min(have.End, p.size))
		if err != nil || ok {
			return data.Off, err
		}
		off = have.End
	}
	return 0, syscall.ENXIO
}

// nextHole is where the first hole from off on begins, or the end; p.mu is held.
func (p *partial) nextHole(off int64) (int64, error) {
	for off < p.size {
		have, ok := p.here.Next(off)
		if !ok {
			break
		}
		off = have.Off
		data, ok, err := share.NextData(p.file, off, min(have.End, p.size))
		if err != nil {
			return 0, err
		}
		if !ok || data.Off > off {
			return min(off, p.size), nil
		}
		off = data.End
	}
	return p.size, nil
}
