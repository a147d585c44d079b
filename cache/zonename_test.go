package cache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// beside is another zone of the same depot, not open yet.
func (e *env) beside(zone string) *env {
	e.t.Helper()
	o := &env{t: e.t, share: e.t.TempDir(), state: e.t.TempDir(), zone: zone, mem: e.mem, store: storetest.NewFaulty(e.mem)}
	e.t.Cleanup(o.close)
	return o
}

// freeName is a name that no zone of the depot has.
func freeName(mem *storetest.Mem) string {
	return fmt.Sprintf("z%d", len(mem.Keys("p/.depotfs/zones/"))+1)
}

func (e *env) status() cache.Status {
	e.t.Helper()
	s, err := e.c.Status(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// joined waits until the depot has let the zone in.
func (e *env) joined() {
	e.t.Helper()
	e.waitFor("the zone joins the depot", func() bool { s := e.status().Store; return s.State == "on" && s.Listing == "done" })
}

// refused waits until the depot has refused the zone, and says why.
func (e *env) refused() string {
	e.t.Helper()
	e.waitFor("the zone is refused", func() bool { return e.status().Store.State == "refused" })
	return e.status().Store.Error
}

// later moves the store's clock.
func (e *env) later(by time.Duration) {
	e.mem.SetClock(func() time.Time { return time.Now().Add(by) })
}

// die ends the zone as a kill would: the depot does not hear of it.
func (e *env) die() {
	e.t.Helper()
	e.store.SetDown(true)
	e.close()
	e.store = storetest.NewFaulty(e.mem)
}

// unconditional is a store that knows no conditions.
type unconditional struct{ cache.Store }

func (s unconditional) Probe(ctx context.Context, scratch string) (cache.Capabilities, error) {
	caps, err := s.Store.Probe(ctx, scratch)
	caps.ConditionalPut, caps.ConditionalComplete, caps.ConditionalDelete = false, false, false
	return caps, err
}

func (e *env) unconditional() { e.store = storetest.NewFaulty(unconditional{e.mem}) }

func TestOneZoneHasTheName(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.joined()
	second := e.beside("z1")
	second.open()
	if why := second.refused(); !strings.Contains(why, `zone name "z1" is in use`) || !strings.Contains(why, "--zone") {
		t.Errorf("it says: %s", why)
	}
	second.write("f", []byte("x"))
	time.Sleep(50 * time.Millisecond) // it settles at once, and must not go up however long one waits
	if _, ok := e.object("p/f"); ok {
		t.Fatal("a zone that is refused has uploaded")
	}
	if err := cache.CheckJoin(t.Context(), e.mem, cache.Config{Zone: "z1", Prefix: "p/"}, nil); !errors.Is(err, cache.ErrRejected) || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("asked before the mount: %v", err)
	}
	e.close() // says good-bye
	if err := cache.CheckJoin(t.Context(), e.mem, cache.Config{Zone: "z1", Prefix: "p/"}, nil); err != nil {
		t.Errorf("asked when the name is free: %v", err)
	}
	second.joined()
	second.flush()
	second.wantObject("p/f", []byte("x"))
}

// A daemon that was killed comes back at once with its state directory; without it when
// the lease has ended.
func TestNameAfterAKill(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.joined()
	image := e.copyState()
	e.die()
	e.state = image
	e.open()
	e.joined()
	e.die()

	e.state = t.TempDir()
	e.open()
	if why := e.refused(); !strings.Contains(why, "is in use") || !strings.Contains(why, "the name is free at") {
		t.Errorf("it says: %s", why)
	}
	e.later(3*time.Minute + 2*time.Second)
	e.joined()
}

// takeOver has a second daemon take the name of one that was not heard of for long.
func takeOver(t *testing.T, setUp func(*env), second func(*env) *env) {
	e := newEnv(t)
	if setUp != nil {
		setUp(e)
	}
	e.joined()
	e.write("here", []byte("here"))
	e.write("away", pattern(1, 5000))
	e.flush()
	e.evict("away")
	told := len(e.told("z1"))
	e.later(3*time.Minute + 2*time.Second)
	other := second(e)
	other.open()
	other.joined()

	// The first one is back.
	_ = cache.BeatZone(e.c)
	if why := e.refused(); !strings.Contains(why, `has taken the zone name "z1"`) {
		t.Errorf("it says: %s", why)
	}
	e.write("more", []byte("more"))
	e.mkdirAll("dir")
	if err := e.c.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "has taken the zone name") {
		t.Errorf("refresh: %v", err)
	}
	if _, err := e.read("away"); err == nil {
		t.Error("a zone that lost its name fetches")
	}
	e.mustRead("here", []byte("here"))
	other.write("theirs", []byte("theirs"))
	other.flush()
	other.wantObject("p/theirs", []byte("theirs"))
	_ = cache.BeatZone(e.c)
	e.close()
	if _, ok := e.object("p/more"); ok {
		t.Error("a zone that lost its name has uploaded")
	}
	if got := lines(e.told("z1")[told:]); len(got) != 1 || got[0] != "put theirs" {
		t.Errorf("the journal of the zone has %q", got)
	}
	_ = cache.BeatZone(other.c)
	if s := other.status().Store; s.State != "on" {
		t.Errorf("the zone that has the name now is %s: %s", s.State, s.Error)
	}
}

// sameShare makes the share of o pass for that of e.
func sameShare(t *testing.T, e, o *env) {
	t.Helper()
	const marker = ".depotfs/depot.json"
	b, err := os.ReadFile(filepath.Join(e.share, marker))
	if err == nil {
		err = os.Mkdir(filepath.Join(o.share, ".depotfs"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(o.share, marker), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestNameIsTaken(t *testing.T) {
	t.Parallel()
	sameName := func(e *env) *env { return e.beside("z1") }
	t.Run("by another", func(t *testing.T) { takeOver(t, nil, sameName) })
	t.Run("on a store without conditions", func(t *testing.T) {
		takeOver(t, func(e *env) {
			e.close()
			e.unconditional()
			e.open()
		}, func(e *env) *env {
			o := e.beside("z1")
			o.unconditional()
			return o
		})
	})
	t.Run("by a copy of the state directory", func(t *testing.T) {
		takeOver(t, nil, func(e *env) *env {
			o := e.beside("z1")
			o.state = e.copyState()
			sameShare(t, e, o)
			return o
		})
	})
}

// Who was away for longer than its lease says that it is alive, and hears whether the
// name is still its own, before it does anything else.
func TestLapsedLeaseIsRenewedFirst(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.joined()
	gate := make(chan struct{})
	e.store.Inject(storetest.Delay(storetest.Put, gate).On("/zones/"))
	cache.LapseZone(e.c)
	e.write("f", []byte("x"))
	e.waitFor("the zone renews its lease", func() bool { return e.store.Pending() == 0 })
	if _, ok := e.object("p/f"); ok {
		t.Error("uploaded while another zone might have the name")
	}
	close(gate)
	e.flush()
	e.wantObject("p/f", []byte("x"))
}

// The answer to the write of a registration is lost: the next one knows its own.
func TestLostAnswerOfABeat(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.joined()
	e.store.Inject(storetest.LoseAnswer(storetest.Put).On("/zones/"))
	if err := cache.BeatZone(e.c); !errors.Is(err, cache.ErrUnavailable) {
		t.Fatalf("the answer was not lost: %v", err)
	}
	e.waitFor("the store is used again", func() bool { return cache.BeatZone(e.c) == nil })
	if s := e.status().Store; s.State != "on" {
		t.Errorf("the store is %s: %s", s.State, s.Error)
	}
}

// What one state directory told is news to another one that comes back under the same name.
func TestPredecessorsNewsAreHeard(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.joined()
	if err := e.c.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.write("f", []byte("1"))
	e.flush()
	e.close()
	other := e.beside("z1")
	other.open()
	other.write("g", []byte("2"))
	other.flush()
	other.close()
	e.open()
	e.joined()
	e.write("h", []byte("3"))
	e.flush()
	if got := strings.Join(lines(e.told("z1")), ", "); got != "put f, put g, put h" {
		t.Errorf("the journal says %s", got)
	}
	if err := e.c.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := cache.Cursor(e.c, "z1"); n < 2 {
		t.Errorf("of its own name's journal the zone has read %d batches", n)
	}
}

// A zone that told before it ever listened takes none of that for news.
func TestOwnNewsAreNone(t *testing.T) {
	t.Parallel()
	mem := storetest.NewMem()
	e := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: mem, store: storetest.NewFaulty(mem), poll: 24 * time.Hour}
	e.open()
	t.Cleanup(e.close)
	e.joined()
	e.write("f", []byte("1"))
	e.flush()
	e.rename("f", "g")
	e.flush()
	e.write("f", []byte("2"))
	e.flush()
	for range 2 {
		if err := e.c.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := cache.Cursor(e.c, "z1"); n != 0 {
			t.Errorf("it has applied %d of its own batches", n)
		}
		e.mustRead("g", []byte("1"))
		e.mustRead("f", []byte("2"))
		e.restart()
		e.joined()
	}
}
