package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// What a reader gets while a file that is not here is changed and uploaded is the
// file as it is, from the old object or from the new one: also in the moment in
// which the new one is there and we have not heard of it.
func TestReadDuringDeltaUpload(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"part", "part-copy", "complete", "answer"} {
		t.Run(op, func(t *testing.T) {
			const path = "volumes/img" // of a class that is not filled in the background
			e := newDeltaEnv(t)
			e.mkdirAll("volumes")
			data := pattern(1, 40*smallGrain)
			e.write(path, data)
			e.flush()
			e.evict(path)
			reached, gate := make(chan struct{}), make(chan struct{})
			hold := func(ctx context.Context, _ string) error {
				close(reached)
				<-gate
				return nil
			}
			if op == "answer" {
				e.c.SetStore(&heldAnswer{Store: e.store, hold: hold}, cache.StoreInfo{Bucket: "b"})
			} else {
				e.store.Inject(storetest.Before(storetest.Op(op), hold))
			}
			data = splice(data, 100, []byte("changed"))
			e.edit(path, 100, []byte("changed"))
			<-reached
			h := e.openFile(path)
			read := make(chan error, 2)
			for _, off := range []int64{0, 10 * smallGrain} {
				go func() {
					buf := make([]byte, smallGrain)
					_, err := h.ReadAt(context.Background(), buf, off)
					if err == nil && !bytes.Equal(buf, data[off:off+int64(len(buf))]) {
						err = errors.New("other bytes")
					}
					read <- err
				}()
			}
			if op != "answer" { // the base is there: nobody waits for the upload
				for range 2 {
					if err := <-read; err != nil {
						t.Fatal(err)
					}
				}
				close(gate)
			} else {
				e.waitFor("a reader that finds another object", func() bool { return e.store.Calls("head") > 0 })
				close(gate)
				for range 2 {
					if err := <-read; err != nil {
						t.Fatal(err)
					}
				}
			}
			h.Release()
			e.flush()
			e.wantObject("p/"+path, data)
			if got := e.state1(path); got != "partial" {
				t.Errorf("the file is %s", got)
			}
			st, err := e.c.Status(context.Background())
			if err != nil || len(st.Problems) > 0 {
				t.Errorf("problems %+v, %v", st.Problems, err)
			}
			e.mustRead(path, data)
		})
	}
}

// heldAnswer holds back the answers of completions.
type heldAnswer struct {
	cache.Store
	hold func(context.Context, string) error
}

func (s *heldAnswer) CompleteMultipart(ctx context.Context, key, id string, parts []cache.Part, size int64, o cache.PutOptions) (cache.ObjectInfo, error) {
	info, err := s.Store.CompleteMultipart(ctx, key, id, parts, size, o)
	return info, errors.Join(err, s.hold(ctx, key))
}

// A write that comes during an upload is not lost, whenever it comes.
func TestWriteDuringDeltaUpload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		op  storetest.Op
		off int
	}{{"create", 200}, {"part", 200}, {"part-copy", 20 * smallGrain}, {"complete", 200}, {"complete", 20 * smallGrain}} {
		t.Run(fmt.Sprintf("%s,%d", c.op, c.off), func(t *testing.T) {
			t.Parallel() // each waits for its file to be quiet
			e := newDeltaEnv(t)
			data := pattern(1, 40*smallGrain)
			e.write("img", data)
			e.flush()
			e.evict("img")
			data = splice(splice(data, 100, []byte("changed")), c.off, []byte("later"))
			h := e.openFile("img")
			e.store.Inject(storetest.Before(c.op, func(ctx context.Context, _ string) error {
				_, err := h.WriteAt(ctx, []byte("later"), int64(c.off))
				return err
			}))
			if _, err := h.WriteAt(context.Background(), []byte("changed"), 100); err != nil {
				t.Fatal(err)
			}
			e.waitFor("the upload of a file that stays open", func() bool {
				e.flushFor(100 * time.Millisecond)
				return bytes.Equal(e.mem.Bytes("p/img"), data)
			})
			h.Release()
			e.flush()
			if got := e.state1("img"); got != "partial" {
				t.Errorf("the file is %s", got)
			}
			e.evict("img")
			e.mustRead("img", data)
		})
	}
}

// Everything arrives in the middle of an upload: it goes on with the whole file.
func TestPromotionDuringDeltaUpload(t *testing.T) {
	t.Parallel()
	for _, op := range []storetest.Op{"create", "part", "part-copy", "complete"} {
		e := newDeltaEnv(t)
		data := pattern(1, 20*smallGrain)
		e.write("img", data)
		e.flush()
		e.evict("img")
		data = splice(data, 100, []byte("changed"))
		e.store.Inject(storetest.Before(op, func(ctx context.Context, _ string) error {
			_, err := e.read("img")
			return err
		}))
		e.edit("img", 100, []byte("changed"))
		e.flush()
		e.wantObject("p/img", data)
		e.mustRead("img", data)
		if got := e.state1("img"); got != "clean" {
			t.Errorf("%s: the file is %s", op, got)
		}
	}
}

// The answer of a completion is lost, and the daemon ends with it or not: the bytes
// that are only in the object that was made are found there.
func TestDeltaWithLostAnswer(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"read", "flush", "restart, read", "restart, flush", "restart, write", "kill, read", "kill, flush"} {
		t.Run(how, func(t *testing.T) {
			e := newDeltaEnv(t)
			data := pattern(1, 20*smallGrain)
			e.write("img", data)
			e.flush()
			e.evict("img")
			data = splice(data, 100, []byte("changed"))
			lost, resume := make(chan struct{}), make(chan struct{})
			e.store.Inject(storetest.LoseAnswer("complete"), storetest.Before("head", func(context.Context, string) error {
				close(lost)
				<-resume // nothing is written to the catalog meanwhile
				return cache.ErrUnavailable
			}).On("img"))
			e.edit("img", 100, []byte("changed"))
			<-lost
			image := e.copyState()
			if how != "read" && how != "flush" {
				e.stop()
			}
			close(resume)
			switch {
			case strings.HasPrefix(how, "kill"):
				e.close()
				e.state = image
				e.open()
			case strings.HasPrefix(how, "restart"):
				e.restart()
			}
			if strings.HasSuffix(how, "write") {
				data = splice(data, 5*smallGrain, []byte("more"))
				e.edit("img", 5*smallGrain, []byte("more"))
			}
			if strings.HasSuffix(how, "read") {
				e.mustRead("img", data)
			}
			e.flush()
			e.wantObject("p/img", data)
			e.mustRead("img", data)
		})
	}
}

// A kill before the completion: what the store has is neither sent nor copied again.
func TestDeltaGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	for _, evicted := range []bool{false, true} {
		e := newDeltaEnv(t)
		data := pattern(1, 20*smallGrain)
		e.write("img", data)
		e.flush()
		if evicted {
			e.evict("img")
		}
		reached, resume := make(chan struct{}), make(chan struct{})
		e.store.Inject(storetest.Before("complete", func(context.Context, string) error {
			close(reached)
			<-resume
			return cache.ErrUnavailable
		}))
		data = splice(data, 7*smallGrain, []byte("changed"))
		e.edit("img", 7*smallGrain, []byte("changed"))
		<-reached
		image := e.copyState()
		e.stop()
		close(resume)
		e.close()
		e.state = image
		sent, received, copies := e.moved(func() {
			e.open()
			e.flush()
		})
		if sent > 1000 || received > 1000 || copies != 0 { // the probe of a new start is in it
			t.Errorf("evicted %v: %d bytes sent and %d received after the kill, %d copies", evicted, sent, received, copies)
		}
		e.wantObject("p/img", data)
		e.mustRead("img", data)
	}
}

// The object that a delta is made from is replaced, or removed: the file that is all
// here is sent, the other is a conflict as before.
func TestDeltaWithoutBase(t *testing.T) {
	t.Parallel()
	e := newDeltaEnv(t)
	data := pattern(1, 20*smallGrain)
	e.write("img", data)
	e.flush()
	data = splice(data, 100, []byte("changed"))
	e.store.Inject(storetest.Before("part-copy", func(ctx context.Context, _ string) error {
		return e.mem.Delete(ctx, "p/img", "")
	}))
	e.edit("img", 100, []byte("changed"))
	e.flush()
	e.wantObject("p/img", data)
	e.mustRead("img", data)
}

// A store that cannot copy parts gets the whole file.
func TestNoDeltaWithoutCopies(t *testing.T) {
	t.Parallel()
	e := newDeltaEnv(t)
	e.c.SetStore(noCopies{e.store}, cache.StoreInfo{Bucket: "b"})
	data := pattern(1, 20*smallGrain)
	e.write("img", data)
	e.flush()
	for _, evict := range []bool{false, true} {
		if evict {
			e.evict("img")
		}
		data = splice(data, 100, pattern(rand.Uint64(), 10))
		sent, _, _ := e.moved(func() { e.edit("img", 100, data[100:110]); e.flush() })
		if sent != int64(len(data)) {
			t.Errorf("%d bytes sent", sent)
		}
		e.wantObject("p/img", data)
	}
}

type noCopies struct{ cache.Store }

func (s noCopies) Probe(ctx context.Context, scratch string) (cache.Capabilities, error) {
	caps, err := s.Store.Probe(ctx, scratch)
	caps.CopyPart = false
	return caps, err
}

func (s noCopies) CopyPart(context.Context, string, string, int, string, string, int64, int64) (cache.Part, error) {
	panic("a part is copied where that cannot be done")
}
