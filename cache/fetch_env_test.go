package cache_test

import (
	"context"
	"io"
	"sync"
	"testing"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// remote is a class of files of which nothing is fetched that was not asked for.
const remote = "snapshots/"

// line counts the GETs of objects and the bytes of their bodies, and can hold bodies
// where a test wants them held.
type line struct {
	cache.Store

	mu    sync.Mutex
	gets  []get                                 // guarded by mu
	bytes int64                                 // guarded by mu
	open  int                                   // guarded by mu; bodies not closed yet
	ended int                                   // guarded by mu; bodies whose reader went away early
	hold  func(g get, at int64) <-chan struct{} // guarded by mu; a body waits for it before the byte at; nil: no wait
}

// get is one GET.
type get struct{ off, length int64 }

func (l *line) Get(ctx context.Context, key string, offset, length int64, ifMatch string) (io.ReadCloser, cache.ObjectInfo, error) {
	if key == "p/.depotfs/depot.json" || storetest.BetweenZones(key) {
		return l.Store.Get(ctx, key, offset, length, ifMatch)
	}
	g := get{offset, length}
	l.mu.Lock()
	l.gets = append(l.gets, g)
	l.mu.Unlock()
	body, info, err := l.Store.Get(ctx, key, offset, length, ifMatch)
	if err != nil {
		return nil, info, err
	}
	l.mu.Lock()
	l.open++
	l.mu.Unlock()
	return &lineBody{ReadCloser: body, ctx: ctx, l: l, g: g, at: offset}, info, nil
}

type lineBody struct {
	io.ReadCloser
	ctx  context.Context
	l    *line
	g    get
	at   int64
	over bool
}

// Read brings at most 64 KiB, as lines do.
func (b *lineBody) Read(p []byte) (int, error) {
	b.l.mu.Lock()
	hold := b.l.hold
	b.l.mu.Unlock()
	if hold != nil {
		if gate := hold(b.g, b.at); gate != nil {
			select {
			case <-gate:
			case <-b.ctx.Done():
				return 0, b.ctx.Err()
			}
		}
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), 64<<10)])
	b.at += int64(n)
	b.l.mu.Lock()
	b.l.bytes += int64(n)
	b.l.mu.Unlock()
	return n, err
}

func (b *lineBody) Close() error {
	b.l.mu.Lock()
	if !b.over {
		b.over = true
		b.l.open--
		if b.at < b.g.off+b.g.length {
			b.l.ended++
		}
	}
	b.l.mu.Unlock()
	return b.ReadCloser.Close()
}

// count returns what there was since the last call.
func (l *line) count() (gets []get, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gets, bytes = l.gets, l.bytes
	l.gets, l.bytes = nil, 0
	return gets, bytes
}

// holdBodies has bodies wait as hold says.
func (l *line) holdBodies(hold func(g get, at int64) <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold = hold
}

func (l *line) now() (open, ended int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open, l.ended
}

// newEnvBehind is newEnv with a store in front of the one in memory.
func newEnvBehind(t testing.TB, front func(cache.Store) cache.Store) *env {
	t.Helper()
	mem := storetest.NewMem()
	e := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: mem, store: storetest.NewFaulty(front(mem))}
	e.open()
	t.Cleanup(e.close)
	return e
}

// newLine is a zone behind a line.
func newLine(t testing.TB) (*env, *line) {
	t.Helper()
	l := &line{}
	e := newEnvBehind(t, func(s cache.Store) cache.Store { l.Store = s; return l })
	return e, l
}

// away makes a file that only the depot has.
func (e *env) away(path string, size int) []byte {
	e.t.Helper()
	data := pattern(uint64(size), size)
	dir, _ := splitPath(path)
	e.mkdirAll(dir)
	e.write(path, data)
	e.flush()
	e.evict(path)
	return data
}

func splitPath(path string) (dir, name string) {
	parts := split(path)
	for _, p := range parts[:len(parts)-1] {
		if dir != "" {
			dir += "/"
		}
		dir += p
	}
	return dir, parts[len(parts)-1]
}

// handle opens a file for reading, of which nothing is fetched but what is read.
func (e *env) handle(path string) *cache.Handle {
	e.t.Helper()
	h := e.imageHandle(path)
	cache.Unplanned(h)
	return h
}

// imageHandle opens a file for reading.
func (e *env) imageHandle(path string) *cache.Handle {
	e.t.Helper()
	a, err := e.lookup(path)
	if err != nil {
		e.t.Fatal(err)
	}
	h, err := e.c.Open(context.Background(), a.Ino, 0)
	if err != nil {
		e.t.Fatal(err)
	}
	return h
}

// readAt reads a piece and compares it with what the file has.
func (e *env) readAt(h *cache.Handle, data []byte, off, n int64) {
	e.t.Helper()
	if err := readPiece(h, data, off, n); err != nil {
		e.t.Fatal(err)
	}
}
