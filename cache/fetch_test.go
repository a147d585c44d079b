package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"depotfs/cache"
	"depotfs/cache/fetch"
)

func readPiece(h *cache.Handle, data []byte, off, n int64) error {
	n = min(n, int64(len(data))-off)
	b := make([]byte, n)
	if m, err := h.ReadAt(context.Background(), b, off); err != nil && !errors.Is(err, io.EOF) || m != len(b) {
		return fmt.Errorf("read %d at %d: %d, %w", n, off, m, err)
	}
	if !bytes.Equal(b, data[off:off+n]) {
		return fmt.Errorf("read %d at %d: wrong bytes", n, off)
	}
	return nil
}

// The first 4 KiB in the middle of a file cost one request for one block.
func TestFirstBytesCostOneRequest(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	data := e.away(remote+"f", 20<<20)
	l.count()
	h := e.handle(remote + "f")
	defer h.Release()
	e.readAt(h, data, 10<<20+4096, 4096)
	e.waitFor("all bodies are closed", func() bool { open, _ := l.now(); return open == 0 })
	if gets, n := l.count(); len(gets) != 1 || gets[0] != (get{10 << 20, fetch.Block}) || n != fetch.Block {
		t.Errorf("%d bytes in %v", n, gets)
	}
}

// Random reads of 4 KiB, one at a time and sixteen at a time, pull a block each and
// nothing besides.
func TestRandomReadsPullBlocks(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	data := e.away(remote+"f", 48<<20)
	l.count()
	h := e.handle(remote + "f")
	defer h.Release()
	r := rand.New(rand.NewPCG(1, 1))
	blocks := r.Perm(len(data) / fetch.Block)[:192]
	// Neighbours would be taken for a stream; a guest's reads are far apart too.
	var far []int
	for i, b := range blocks {
		if b%16 == 0 || i%3 == 0 && b%16 == 8 {
			far = append(far, b)
		}
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(far))
	slots := make(chan struct{}, 16)
	for _, b := range far {
		slots <- struct{}{}
		wg.Go(func() {
			errs <- readPiece(h, data, int64(b)*fetch.Block+8192, 4096)
			<-slots
		})
	}
	wg.Wait()
	for range far {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	e.waitFor("all bodies are closed", func() bool { open, _ := l.now(); return open == 0 })
	if gets, n := l.count(); len(gets) != len(far) || n != int64(len(far))*fetch.Block {
		t.Errorf("%d reads: %d bytes in %d requests", len(far), n, len(gets))
	}
}

// A sequential reader pulls the file once, in few requests.
func TestSequentialReadPullsTheFileOnce(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	data := e.away(remote+"f", 60<<20+777)
	l.count()
	h := e.handle(remote + "f")
	defer h.Release()
	for off := int64(0); off < int64(len(data)); off += 1 << 20 {
		e.readAt(h, data, off, 1<<20)
	}
	e.waitFor("all bodies are closed", func() bool { open, _ := l.now(); return open == 0 })
	gets, n := l.count()
	if n != int64(len(data)) || len(gets) > 15+8 {
		t.Errorf("%d bytes of %d in %d requests", n, len(data), len(gets))
	}
}

// What was here before a restart is not asked for again.
func TestFetchedBytesSurviveARestart(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	data := e.away(remote+"f", 8<<20)
	h := e.handle(remote + "f")
	for off := int64(0); off < 8<<20; off += 2 << 20 {
		e.readAt(h, data, off, 4096)
	}
	h.Release()
	e.restart()
	l.count()
	h = e.handle(remote + "f")
	defer h.Release()
	for off := int64(0); off < 8<<20; off += 2 << 20 {
		e.readAt(h, data, off, 4096)
	}
	if gets, n := l.count(); len(gets) != 0 {
		t.Errorf("%d bytes in %v", n, gets)
	}
	e.readAt(h, data, 1<<20, 4096)
	if gets, _ := l.count(); len(gets) != 1 {
		t.Errorf("%v", gets)
	}
}

// A sequential reader that goes away leaves nothing behind that is still fetched.
func TestReaderThatGoesAwayEndsItsFlights(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	data := e.away(remote+"f", 100<<20)
	l.count()
	const wall = 24 << 20
	gate := make(chan struct{})
	l.holdBodies(func(_ get, at int64) <-chan struct{} {
		if at >= wall {
			return gate
		}
		return nil
	})
	h := e.handle(remote + "f")
	for off := int64(0); off < 16<<20; off += 1 << 20 {
		e.readAt(h, data, off, 1<<20)
	}
	e.waitFor("it was run ahead of", func() bool { open, _ := l.now(); return open >= 6 })
	h.Release()
	e.waitFor("all requests have ended", func() bool { open, ended := l.now(); return open == 0 && ended >= 6 })
	gets, n := l.count()
	if n > wall {
		t.Errorf("%d bytes pulled, %d could be", n, wall)
	}
	if len(gets) > 40 {
		t.Errorf("%d requests", len(gets))
	}
	// What is wanted again is fetched again.
	close(gate)
	h = e.handle(remote + "f")
	defer h.Release()
	for off := int64(8 << 20); off < 40<<20; off += 1 << 20 {
		e.readAt(h, data, off, 1<<20)
	}
}

// A reader that is interrupted ends its request, unless another one waits for it.
func TestInterruptedReader(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	data := e.away(remote+"f", 16<<20)
	gate := make(chan struct{})
	l.holdBodies(func(get, int64) <-chan struct{} { return gate })
	h := e.handle(remote + "f")
	defer h.Release()
	wait := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := h.ReadAt(ctx, make([]byte, 2<<20), 8<<20)
			done <- err
		}()
		return done
	}
	ctx1, stop1 := context.WithCancel(context.Background())
	ctx2, stop2 := context.WithCancel(context.Background())
	defer stop2()
	first := wait(ctx1)
	e.waitFor("it is asked for", func() bool { open, _ := l.now(); return open == 1 })
	second := wait(ctx2)
	e.waitFor("both wait", func() bool { return cache.Waiters(e.c, h.Ino()) == 2 })
	stop1()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("first reader: %v", err)
	}
	if open, ended := l.now(); open != 1 || ended != 0 {
		t.Errorf("the request of two was ended with the first: %d open, %d ended", open, ended)
	}
	stop2()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("second reader: %v", err)
	}
	e.waitFor("the request has ended", func() bool { open, ended := l.now(); return open == 0 && ended == 1 })
	close(gate)
	e.readAt(h, data, 8<<20, 2<<20)
}

// Bytes are for readers when they arrive, not when their request is over.
func TestBytesAreDeliveredAsTheyArrive(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	data := e.away(remote+"f", 8<<20)
	l.holdBodies(func(_ get, at int64) <-chan struct{} {
		if at >= 64<<10 {
			return make(chan struct{})
		}
		return nil
	})
	h := e.handle(remote + "f")
	defer h.Release()
	ctx, stop := context.WithCancel(t.Context())
	var reader sync.WaitGroup
	reader.Go(func() { // asks for 1 MiB of which 64 KiB come
		if _, err := h.ReadAt(ctx, make([]byte, 1<<20), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("the read of what does not come ends with %v", err)
		}
	})
	defer reader.Wait() // before its handle is released
	defer stop()
	e.waitFor("it is asked for", func() bool { open, _ := l.now(); return open >= 1 })
	e.readAt(h, data, 0, 64<<10)
	e.readAt(h, data, 60<<10, 4<<10)
}

// A file with a hundred readers who all wait leaves others their first read.
func TestManyReadersOfOneFileLeaveRoom(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	busy := e.away(remote+"busy", 40<<20)
	other := e.away(remote+"other", 8<<20)
	gate := make(chan struct{})
	l.holdBodies(func(g get, _ int64) <-chan struct{} {
		if g.off >= 8<<20 {
			return gate
		}
		return nil
	})
	h := e.handle(remote + "busy")
	defer h.Release()
	errs := make(chan error, 100)
	for i := range 100 {
		go func() { errs <- readPiece(h, busy, 8<<20+int64(i)*320<<10, 4096) }()
	}
	e.waitFor("all wait", func() bool { return cache.Waiters(e.c, h.Ino()) == 100 })
	o := e.handle(remote + "other")
	defer o.Release()
	e.readAt(o, other, 4<<20, 4096)
	close(gate)
	for range 100 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

// A file that is filled in the background serves whoever reads it meanwhile: what a
// reader waits for does not come behind what it does not.
func TestReadersGoBeforeTheBackground(t *testing.T) {
	t.Parallel()
	e, l := newLine(t)
	data := e.away("f", 64<<20)
	gate := make(chan struct{})
	l.holdBodies(func(g get, at int64) <-chan struct{} {
		if g.length > fetch.Block {
			return gate // what fills
		}
		return nil
	})
	l.count()
	h := e.handle("f")
	defer h.Release()
	e.readAt(h, data, 1<<20, 4096) // and the rest follows
	e.waitFor("it is filled", func() bool { open, _ := l.now(); return open >= 2 })
	for off := int64(fetch.FlightSize); off < 64<<20; off += fetch.FlightSize {
		e.readAt(h, data, off+2*fetch.Patience, 4096) // far into what the background has asked for
	}
	close(gate)
	e.waitFor("it is whole", func() bool { return e.state1("f") == "clean" })
	e.mustRead("f", data)
}
