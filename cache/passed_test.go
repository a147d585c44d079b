package cache_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// A zone that renamed a file and wrote it anew hears, at whatever moment, of what another
// zone has put under the old name: that is kept, and nothing stays at its key.
func TestWrittenUnderTheOldName(t *testing.T) {
	t.Parallel()
	written, ours := pattern(2, 3000), pattern(3, 4000)
	hears := func(b *env) error {
		if err := b.c.Refresh(context.Background()); err != nil {
			return err
		}
		return cache.RetryHeld(context.Background(), b.c)
	}
	for _, test := range []struct {
		when  string
		hears func(b *env)
	}{
		{"before it moves the object", func(b *env) {
			if err := hears(b); err != nil {
				t.Error(err)
			}
		}},
		{"while it removes the object", func(b *env) {
			b.store.Inject(storetest.Before(storetest.Delete, func(context.Context, string) error { return hears(b) }).On("p/x"))
		}},
		{"later", func(*env) {}},
	} {
		for _, trash := range []time.Duration{0, time.Hour} {
			zs := newZones(t, 2)
			a, b := zs[0], zs[1]
			for _, e := range zs {
				e.c.SetTrashRetention(trash)
			}
			a.write("x", pattern(1, 2000))
			tell(a, b)
			a.write("x", written)
			a.flush()
			b.settle = time.Hour  // until it flushes
			b.store.SetDown(true) // what is heard before the write is replaced by it
			b.rename("x", "n")
			b.write("n", ours)
			b.store.SetDown(false)
			test.hears(b)
			tell(a, b)
			sameTrees(a, b)
			a.mustRead("n", ours)
			a.wantNone("x")
			if _, there := a.object("p/x"); there {
				t.Errorf("%s, trash for %v: the object stays at p/x", test.when, trash)
			}
			if !slices.ContainsFunc(a.mem.Keys("p/.depotfs/"), func(key string) bool { return bytes.Equal(a.mem.Bytes(key), written) }) {
				t.Errorf("%s, trash for %v: what was written is nowhere", test.when, trash)
			}
			if n := b.store.Pending(); n > 0 {
				t.Errorf("%s: it never did", test.when)
			}
		}
	}
}

// A rename counts as made when it was, with the bytes that the zone had then; what another
// zone has written under the old name, and that zone did not know of, is kept.
func TestRenameBetweenWrites(t *testing.T) {
	t.Parallel()
	theirs, ours := pattern(2, 3000), pattern(3, 4000)
	for _, test := range []struct {
		name string
		want []byte
		do   func(a, b *env)
	}{
		{"theirs, ours, rename", ours, func(a, b *env) {
			a.write("x", theirs)
			a.flush()
			pause()
			b.write("x", ours)
			pause()
			b.rename("x", "n")
		}},
		{"ours, theirs, rename", ours, func(a, b *env) {
			b.write("x", ours)
			pause()
			a.write("x", theirs)
			a.flush()
			pause()
			b.rename("x", "n")
		}},
		{"theirs, rename, ours", ours, func(a, b *env) { a.write("x", theirs); a.flush(); pause(); b.rename("x", "n"); b.write("n", ours) }},
	} {
		zs := newZones(t, 2)
		a, b := zs[0], zs[1]
		a.write("x", pattern(1, 2000))
		tell(a, b)
		b.settle = time.Hour // until it flushes
		test.do(a, b)
		b.refresh()
		tell(a, b)
		sameTrees(a, b)
		if got, err := a.read("n"); err != nil || !bytes.Equal(got, test.want) {
			t.Errorf("%s: n has %d bytes, want %d (%v)", test.name, len(got), len(test.want), err)
		}
		kept := slices.Concat(a.mem.Keys("p/.depotfs/trash/"), a.mem.Keys("p/.depotfs/conflicts/"))
		if !slices.ContainsFunc(kept, func(key string) bool { return bytes.Equal(a.mem.Bytes(key), theirs) }) {
			t.Errorf("%s: the other version is kept nowhere: %q", test.name, kept)
		}
	}
}

// pause makes what follows later than what came before.
func pause() { time.Sleep(5 * time.Millisecond) } // all zones have one clock
