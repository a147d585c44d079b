package cache_test

import (
	"context"
	"testing"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// stuckUpload leaves an upload of "d/f" with 3 of its 10 MiB in the store.
func stuckUpload(t *testing.T) (*env, []byte) {
	t.Helper()
	e := newZeroEnv(t)
	e.close()
	e.limits.UploadParts = 1
	e.open()
	e.mkdirAll("d")
	e.flush()
	data := pattern(1, 10*mib)
	e.store.Inject(storetest.Fail(storetest.PutPart, cache.ErrUnavailable).After(3).Always())
	e.write("d/f", data)
	if left := e.flushFor(time.Second); len(left) != 1 {
		t.Fatalf("left %+v", left)
	}
	e.waitFor("three parts are there", func() bool {
		ups, err := e.mem.ListMultiparts(context.Background(), "p/d/f")
		if err != nil || len(ups) != 1 {
			return false
		}
		parts, err := e.mem.ListParts(context.Background(), "p/d/f", ups[0].UploadID)
		return err == nil && len(parts) == 3
	})
	e.store.SetDown(true) // no attempt meets what the test does now
	return e, data
}

// wantOnly checks that the depot has these files alone, and nothing unfinished.
func (e *env) wantOnly(keys ...string) {
	e.t.Helper()
	files := 0
	for _, key := range e.mem.Keys("p/") {
		if info, err := e.mem.Head(context.Background(), key); err == nil && info.Size >= mib {
			files++
		}
	}
	if files != len(keys) {
		e.t.Errorf("the depot has %v, want %v", e.mem.Keys("p/"), keys)
	}
	ups, err := e.mem.ListMultiparts(context.Background(), "")
	if err != nil || len(ups) > 0 {
		e.t.Errorf("unfinished uploads %v %v", ups, err)
	}
}

func TestRenamedUploadGoesOn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, from, to, now string
		restart             bool
	}{
		{"file", "d/f", "d/g", "d/g", false},
		{"file, restart", "d/f", "d/g", "d/g", true},
		{"directory", "d", "e", "e/f", false},
		{"directory, restart", "d", "e", "e/f", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, data := stuckUpload(t)
			e.rename(tc.from, tc.to)
			if tc.restart {
				e.restart()
			}
			e.store.Clear()
			e.store.SetDown(false)
			sent, _, _ := e.moved(func() { e.flush() })
			if sent > 7*mib+64<<10 {
				t.Errorf("%d bytes were sent after the rename, 7 MiB were missing", sent)
			}
			e.wantObject("p/"+tc.now, data)
			e.wantOnly("p/" + tc.now)
			if got := e.state1(tc.now); got != "clean" {
				t.Errorf("the file is %s", got)
			}
		})
	}
}

// A rename while parts are on their way does not throw them away.
func TestRenameDuringUpload(t *testing.T) {
	t.Parallel()
	e := newZeroEnv(t)
	data := pattern(1, 10*mib)
	entered, resume := make(chan struct{}), make(chan struct{})
	e.store.Inject(storetest.Before(storetest.PutPart, func(context.Context, string) error { close(entered); <-resume; return nil }).On("p/f").After(5))
	sent, _, _ := e.moved(func() {
		e.write("f", data)
		done := make(chan struct{})
		go func() { defer close(done); e.flushFor(20 * time.Second) }()
		<-entered
		e.rename("f", "g")
		e.rename("g", "h")
		close(resume)
		<-done
		e.flush()
	})
	if sent > 10*mib+64<<10 {
		t.Errorf("%d bytes were sent of a file of 10 MiB that was renamed meanwhile", sent)
	}
	e.wantObject("p/h", data)
	e.wantOnly("p/h")
	if got := e.state1("h"); got != "clean" {
		t.Errorf("the file is %s", got)
	}
}

// Another file that takes the former name is not overwritten, nor is the renamed one.
func TestRenamedUploadAndANewFile(t *testing.T) {
	t.Parallel()
	e, data := stuckUpload(t)
	e.rename("d/f", "d/g")
	other := pattern(2, 5*mib)
	e.write("d/f", other)
	e.store.Clear()
	e.store.SetDown(false)
	e.flush()
	e.wantObject("p/d/g", data)
	e.wantObject("p/d/f", other)
	e.wantOnly("p/d/f", "p/d/g")
	e.evict("d/f", "d/g")
	e.mustRead("d/f", other)
	e.mustRead("d/g", data)
}

// What was written after the upload began is sent, whatever the file is called.
func TestRenamedUploadOfAChangedFile(t *testing.T) {
	t.Parallel()
	e, data := stuckUpload(t)
	e.rename("d/f", "d/g")
	e.edit("d/g", 100, []byte("changed"))
	copy(data[100:], "changed")
	e.store.Clear()
	e.store.SetDown(false)
	e.flush()
	e.wantObject("p/d/g", data)
	e.wantOnly("p/d/g")
}

// The answer of the completion is lost, and then the file is renamed: the object that
// was made under the former name does not stay there.
func TestRenameAfterALostCompletion(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		e := newZeroEnv(t)
		data := pattern(1, 10*mib)
		lost := make(chan struct{})
		e.store.Inject(storetest.LoseAnswer(storetest.Complete).On("p/f"))
		e.store.Inject(storetest.Before(storetest.ListParts, func(context.Context, string) error { close(lost); return cache.ErrUnavailable }))
		e.write("f", data)
		e.flushFor(100 * time.Millisecond)
		<-lost // tried again, in vain
		e.rename("f", "g")
		if restart {
			e.restart()
		}
		e.flush()
		e.wantObject("p/g", data)
		e.wantOnly("p/g")
	}
}
