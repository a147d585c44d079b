package cache_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// A kill at any step of a sweep: what is gone here is listed, and discard brings back all
// that the depot has, which is all.
func TestSweepIsKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	ids := from(200, 3)
	for step := 0; ; step++ {
		e := newEnv(t)
		p := &plug{left: step}
		e.close()
		e.fault = p.fault
		e.open()
		e.install(theirs, ids...)
		keys := e.plainKeys()
		var image string
		p.at = func() { image = e.copyState() }
		p.mu.Lock()
		p.armed = true
		p.mu.Unlock()
		swept := e.sweepUntilItFails(ids)
		p.mu.Lock()
		pulled := p.out
		p.mu.Unlock()
		if !pulled {
			if !swept {
				t.Fatal("the sweep failed without a fault")
			}
			e.close()
			break
		}
		e.stop()
		<-e.done
		_ = e.c.Close()
		e.c, e.fault, e.state = nil, nil, image
		e.open()
		if !e.sweepUntilItFails(ids) {
			t.Fatalf("step %d: the sweep does not go on", step)
		}
		e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == int64(3*len(ids)) })
		e.takenBack()
		e.settleRemovals()
		if got := e.plainKeys(); !slices.Equal(got, keys) {
			t.Fatalf("step %d: the depot has %q, want %q", step, got, keys)
		}
		if left := e.discard(); len(left) > 0 {
			t.Fatalf("step %d: discard left %+v", step, left)
		}
		e.installed(ids...)
		e.close()
	}
}

// sweepUntilItFails deletes what is there of templates and says whether it came to the end.
func (e *env) sweepUntilItFails(ids []int) bool {
	ctx := context.Background()
	for _, id := range ids {
		dir, err := e.lookup(template(id))
		if err != nil {
			continue
		}
		for _, name := range []string{"image.qcow2", "template.properties"} {
			if _, err := e.c.Lookup(ctx, dir.Ino, name); err != nil {
				continue
			}
			if e.c.Unlink(ctx, dir.Ino, name) != nil {
				return false
			}
		}
		parent, name := e.parent(template(id))
		if e.c.Rmdir(ctx, parent, name) != nil {
			return false
		}
	}
	return true
}

// A kill between the copy out of the trash and the record of it, and an answer that is lost:
// the object is brought back once, and the other zones are told.
func TestTakeBackIsKilled(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(e *env, kill func()) *storetest.Fault{
		"before the copy": func(e *env, kill func()) *storetest.Fault {
			return storetest.Before(storetest.Copy, func(context.Context, string) error { kill(); return cache.ErrUnavailable })
		},
		"after the copy": func(e *env, kill func()) *storetest.Fault {
			return storetest.Before(storetest.Copy, func(ctx context.Context, key string) error {
				kill()
				return nil
			})
		},
		"the answer": func(e *env, kill func()) *storetest.Fault { return storetest.LoseAnswer(storetest.Copy) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			ids := from(200, 3)
			e.install(theirs, ids...)
			keys := e.plainKeys()
			e.uninstall(template(200))
			e.uninstall(template(201))
			e.settleRemovals()
			image := ""
			killed := make(chan struct{}, 1)
			e.store.Inject(fault(e, func() { image = e.copyState(); killed <- struct{}{} }))
			e.uninstall(template(202))
			if name == "the answer" {
				e.waitFor("the fault", func() bool { return e.store.Pending() == 0 })
				e.restart()
			} else {
				<-killed
				e.stop()
				<-e.done
				_ = e.c.Close()
				e.c, e.state = nil, image
				e.open()
			}
			e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 9 })
			e.takenBack()
			e.settleRemovals()
			if got := e.plainKeys(); !slices.Equal(got, keys) {
				t.Fatalf("the depot has %q, want %q", got, keys)
			}
			e.discard()
			e.installed(ids...)
		})
	}
}

// Approve and discard go on where they were broken off.
func TestDecisionsAreBrokenOff(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"approve", "discard"} {
		t.Run(what, func(t *testing.T) {
			e := newEnv(t)
			ids := from(200, 4)
			e.install(theirs, ids...)
			for _, id := range ids {
				e.uninstall(template(id))
			}
			e.waitFor("all to be held", func() bool { return e.status().Deletes.Held == 12 })
			e.takenBack()
			ctx, cancel := context.WithCancel(context.Background())
			stop := func(p cache.Progress) {
				if p.FilesDone == 5 {
					cancel()
				}
			}
			var err error
			if what == "approve" {
				_, err = e.c.ApproveDeletes(ctx, nil, stop)
			} else {
				_, err = e.c.DiscardDeletes(ctx, nil, stop)
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("it was not broken off: %v", err)
			}
			if n := e.status().Deletes.Held; n != 7 {
				t.Errorf("%d are left, want 7", n)
			}
			e.state = e.crashState()
			e.open()
			if what == "discard" {
				e.discard()
				e.installed(ids...)
				return
			}
			e.approve()
			e.settleRemovals()
			e.wantHeld(0)
			if left := e.mem.Keys("p/template/tmpl/2/2"); len(left) > 0 {
				t.Errorf("still there: %q", left)
			}
		})
	}
}

// crashState ends the zone as a kill does and returns what is left of its state.
func (e *env) crashState() string {
	image := e.copyState()
	e.stop()
	<-e.done
	_ = e.c.Close()
	e.c = nil
	return image
}
