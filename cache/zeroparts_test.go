package cache_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// newZeroEnv is a zone whose files of some MiB are uploaded in parts of 1 MiB.
func newZeroEnv(t *testing.T) *env {
	t.Helper()
	mem := storetest.NewMem()
	mem.MinPart = mib
	e := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: mem, store: storetest.NewFaulty(mem),
		limits: cache.Limits{PartSize: mib, SmallestPart: mib}}
	e.open()
	t.Cleanup(e.close)
	e.flush() // joined: what comes is of files
	return e
}

// zeroKeys are the objects of zeros that the depot has.
func (e *env) zeroKeys() string { return strings.Join(e.mem.Keys("p/.depotfs/zero/"), " ") }

func TestZeroPartsAreNotSent(t *testing.T) {
	t.Parallel()
	e := newZeroEnv(t)
	holes := sparseBytes(40*mib+77, 3*mib+5, 4*mib, 20*mib, 22*mib)
	sent, _, _ := e.moved(func() { e.writeSparse("holes.raw", holes); e.flush() })
	// Three grains of data, the end, which has some bytes, and the object of zeros.
	if sent > 5*mib {
		t.Errorf("%d bytes were sent", sent)
	}
	e.wantObject("p/holes.raw", holes)
	if keys := e.zeroKeys(); keys != "p/.depotfs/zero/1048576" {
		t.Errorf("objects of zeros: %s", keys)
	}
	if e.zeroMap("p/holes.raw") == "" {
		t.Error("the object has no zero map")
	}

	written := sparseBytes(30*mib, 7*mib, 8*mib)
	sent, _, _ = e.moved(func() { e.write("written.raw", written); e.flush() })
	if sent > mib {
		t.Errorf("%d bytes were sent of a file with a MiB of data", sent)
	}
	e.wantObject("p/written.raw", written)

	little := sparseBytes(10*mib, 0, 4*mib, 5*mib, 10*mib)
	sent, _, _ = e.moved(func() { e.write("little.raw", little); e.flush() })
	if sent > 9*mib {
		t.Errorf("%d bytes were sent of a file with 9 MiB of data", sent)
	}
	e.wantObject("p/little.raw", little)

	e.evict("holes.raw")
	e.wantSparse("holes.raw", holes, 3*mib+256<<10, 3*mib+256<<10)
	z := e.twin()
	z.waitAttrs("holes.raw")
	z.wantSparse("holes.raw", holes, 3*mib+256<<10, 3*mib+256<<10)
	z.wantSparse("written.raw", written, mib+256<<10, mib+256<<10)
	z.wantSparse("little.raw", little, 10*mib, 9*mib+256<<10)
}

// A change of a sparse file keeps its zeros, whether the file is here or not.
func TestDeltaOfSparseFile(t *testing.T) {
	t.Parallel()
	e := newZeroEnv(t)
	want := sparseBytes(40*mib, 3*mib, 4*mib)
	e.writeSparse("a.raw", want)
	e.flush()
	patch := pattern(8, 300_000)
	for i, evicted := range []bool{false, true} {
		if evicted {
			e.evict("a.raw")
		}
		off := int64(10+7*i)*mib + 500
		sent, received, _ := e.moved(func() { e.edit("a.raw", off, patch); e.flush() })
		copy(want[off:], patch)
		if sent > mib || received > mib {
			t.Errorf("evicted %v: %d bytes were sent and %d fetched for a change in one part", evicted, sent, received)
		}
		e.wantObject("p/a.raw", want)
		if e.zeroMap("p/a.raw") == "" {
			t.Errorf("evicted %v: the object has no zero map any more", evicted)
		}
	}
	e.evict("a.raw")
	e.wantSparse("a.raw", want, 3*mib, 3*mib)
	z := e.twin()
	z.waitAttrs("a.raw")
	z.wantSparse("a.raw", want, 3*mib, 3*mib)
}

func TestZerosAreSentWhereNothingIsCopied(t *testing.T) {
	t.Parallel()
	e := newZeroEnv(t)
	e.c.SetStore(noCopies{e.store}, cache.StoreInfo{Bucket: "b"})
	want := sparseBytes(20*mib, 3*mib, 4*mib)
	e.writeSparse("a.raw", want)
	e.flush()
	e.wantObject("p/a.raw", want)
	if keys := e.zeroKeys(); keys != "" {
		t.Errorf("objects of zeros: %s", keys)
	}
	z := e.twin()
	z.waitAttrs("a.raw")
	z.wantSparse("a.raw", want, mib+256<<10, mib+256<<10)
}

// What is under the key of zeros is looked at, and copied only while it is that.
func TestZeroObjectThatIsNone(t *testing.T) {
	t.Parallel()
	put := func(e *env) {
		junk := bytes.Repeat([]byte{1}, mib)
		if _, err := e.mem.Put(context.Background(), "p/.depotfs/zero/1048576", bytes.NewReader(junk), mib, cache.PutOptions{}); err != nil {
			e.t.Fatal(err)
		}
	}
	want := sparseBytes(20*mib, 3*mib, 4*mib)
	t.Run("from the start", func(t *testing.T) {
		e := newZeroEnv(t)
		put(e)
		e.writeSparse("a.raw", want)
		e.flush()
		e.wantObject("p/a.raw", want)
	})
	t.Run("later", func(t *testing.T) {
		e := newZeroEnv(t)
		e.writeSparse("a.raw", want)
		e.flush()
		put(e)
		e.writeSparse("b.raw", want)
		e.flush()
		e.wantObject("p/b.raw", want)
	})
	t.Run("gone", func(t *testing.T) {
		e := newZeroEnv(t)
		e.writeSparse("a.raw", want)
		e.flush()
		if err := e.mem.Delete(context.Background(), "p/.depotfs/zero/1048576", ""); err != nil {
			t.Fatal(err)
		}
		e.writeSparse("b.raw", want)
		e.flush()
		e.wantObject("p/b.raw", want)
	})
}

// An interrupted upload of a sparse file goes on with the parts that the store has.
func TestSparseUploadResumes(t *testing.T) {
	t.Parallel()
	e := newZeroEnv(t)
	e.close()
	e.limits.UploadParts = 1
	e.open()
	want := sparseBytes(40*mib, 0, 8*mib, 30*mib, 34*mib)
	e.store.Inject(storetest.Fail(storetest.PutPart, cache.ErrUnavailable).After(8).Always())
	e.writeSparse("a.raw", want)
	if left := e.flushFor(2 * time.Second); len(left) != 1 {
		t.Fatalf("left %+v", left)
	}
	e.restart()
	e.store.Clear()
	sent, _, _ := e.moved(func() { e.flush() })
	e.wantObject("p/a.raw", want)
	if sent > 5*mib {
		t.Errorf("%d bytes were sent after the restart, 4 MiB were missing", sent)
	}
	e.evict("a.raw")
	e.wantSparse("a.raw", want, 12*mib+256<<10, 12*mib+256<<10)
}
