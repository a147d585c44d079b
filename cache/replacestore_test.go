package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// recorded is a record for ReplaceStore that always works.
func recorded(context.Context, cache.Store) error { return nil }

// replace has the zone use another way to the same store.
func (e *env) replace(info cache.StoreInfo) *storetest.Faulty {
	e.t.Helper()
	s := storetest.NewFaulty(e.mem)
	if err := e.c.ReplaceStore(context.Background(), s, info, recorded); err != nil {
		e.t.Fatalf("replace the store: %v", err)
	}
	return s
}

// problem waits until status names a problem of that kind.
func (e *env) problem(kind string) {
	e.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) { // between looks
		st, err := e.c.Status(context.Background())
		if err != nil {
			e.t.Fatal(err)
		}
		for _, p := range st.Problems {
			if p.Kind == kind {
				return
			}
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("no problem %q", kind)
		}
	}
}

// Keys that stop working in the middle of an upload: it fails, is tried again in a while,
// and goes on at once with new keys, with the parts that are missing.
func TestNewKeysInMidUpload(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.limits = cache.Limits{PartSize: 5 << 20, UploadParts: 1}
	e.open()
	e.write("gone", pattern(3, 100))
	e.flush()
	body := pattern(1, 22<<20) // 5 parts
	revoked := make(chan struct{})
	revoke := sync.OnceFunc(func() {
		e.ahead.Store(int64(time.Hour)) // so that the pause before the next try is an hour
		close(revoked)
	})
	e.store.Inject(
		storetest.Before(storetest.PutPart, func(context.Context, string) error { revoke(); return cache.ErrDenied }).After(3).Always(),
		storetest.Before(storetest.Delete, func(context.Context, string) error { <-revoked; return cache.ErrDenied }).On("p/gone").Always())
	for _, part := range []string{"", "/.depotfs/zones/"} { // all else, and what goes on between zones
		e.store.Inject(storetest.Before(storetest.Any, func(context.Context, string) error {
			select {
			case <-revoked:
				return cache.ErrDenied
			default:
				return nil
			}
		}).On(part).Always())
	}
	e.write("f", body)
	e.unlink("gone")
	e.problem("upload")
	e.problem("remove")
	e.waitFor("status says that the keys are refused", func() bool { return e.status().Store.State == "refused" })
	e.ahead.Store(0)
	fresh := e.replace(cache.StoreInfo{Bucket: "b"})
	for deadline := time.Now().Add(patience); e.state1("f") != "clean"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody asked for the upload, and it waits")
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if _, there := e.object("p/gone"); !there {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("the removal still waits")
		}
	}
	e.flush()
	e.wantObject("p/f", body)
	if n := fresh.Calls(storetest.PutPart); n != 2 {
		t.Errorf("%d parts were sent with the new keys, 2 were missing", n)
	}
	if n := e.store.Calls(storetest.Create) + fresh.Calls(storetest.Create); n != 1 {
		t.Errorf("%d uploads were begun for one file", n)
	}
	if st, _ := e.c.Status(context.Background()); st.Store.State != "on" || len(st.Problems) > 0 {
		t.Errorf("afterwards: %+v %+v", st.Store, st.Problems)
	}
}

// What is refused after the settings were replaced is made again on the new ones, without
// anybody noticing; a request that goes well ends on the old ones.
func TestRequestsUnderWayWhileSettingsChange(t *testing.T) {
	t.Parallel()
	for _, answer := range []error{nil, cache.ErrDenied} {
		e := newEnv(t)
		e.mkdirAll("d")
		e.flush()
		asked, goOn := make(chan struct{}), make(chan struct{})
		e.store.Inject(storetest.Before(storetest.Put, func(context.Context, string) error {
			close(asked)
			<-goOn
			return answer
		}).On("p/f"))
		e.write("f", pattern(1, 1000))
		<-asked
		fresh := e.replace(cache.StoreInfo{Bucket: "b", Endpoint: "http://elsewhere"})
		var ended atomic.Bool // the first request
		fresh.Inject(storetest.Before(storetest.Put, func(context.Context, string) error {
			if !ended.Load() {
				t.Errorf("%v: a key has two requests at once", answer)
			}
			return nil
		}).On("p/f").Always())
		body := pattern(2, 2000)
		e.write("f", body)                     // its key is locked by the one under way
		e.write("d/other", pattern(3, 10_000)) // goes by the new settings, past it
		e.flushed("d/other")
		ended.Store(true)
		close(goOn)
		e.flush()
		e.wantObject("p/f", body)
		if st, err := e.c.Status(context.Background()); err != nil || len(st.Problems) > 0 || st.Store.Endpoint != "http://elsewhere" {
			t.Errorf("%v: %v %+v %v", answer, st.Store, st.Problems, err)
		}
	}
}

// flushed waits for one file.
func (e *env) flushed(path string) {
	e.t.Helper()
	if left, err := e.c.Flush(context.Background(), []string{path}, nil); err != nil || len(left) > 0 {
		e.t.Fatalf("flush %s: %v %v", path, left, err)
	}
}

// Settings that do not lead to this zone's depot, may not write to it, or cannot be kept
// change nothing, and leave nothing behind.
func TestReplaceStoreRollsBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	body := pattern(1, 1000)
	e.write("f", body)
	e.flush()
	readOnly := storetest.NewFaulty(e.mem)
	readOnly.Inject(storetest.Fail(storetest.Bucket, cache.ErrDenied))
	empty := storetest.NewMem()
	keepFails := func(context.Context, cache.Store) error { return errors.New("disk full") }
	for _, test := range []struct {
		name, says string
		store      cache.Store
		record     func(context.Context, cache.Store) error
	}{
		{"another depot", "hold the depot somebody-elses", anotherDepot(t), recorded},
		{"no depot", "hold no depot", empty, recorded},
		{"down", "unavailable", downStore(), recorded},
		{"read only", "refused access", readOnly, recorded},
		{"cannot be kept", "disk full", storetest.NewFaulty(e.mem), keepFails},
	} {
		err := e.c.ReplaceStore(context.Background(), test.store, cache.StoreInfo{Bucket: "other"}, test.record)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
		st, err := e.c.Status(context.Background())
		if err != nil || st.Store.State != "on" || st.Store.Bucket != "b" {
			t.Errorf("%s: status %+v %v", test.name, st.Store, err)
		}
	}
	n := 0
	_ = empty.List(context.Background(), cache.ListQuery{}, func(p cache.ListPage) error { n += len(p.Objects); return nil })
	if n > 0 {
		t.Errorf("%d objects were made in a bucket that was refused", n)
	}
	e.write("g", body)
	e.flush()
	e.wantObject("p/g", body)
	e.disable()
	if err := e.c.ReplaceStore(context.Background(), e.store, cache.StoreInfo{}, recorded); !errors.Is(err, cache.ErrOff) {
		t.Errorf("while it is off: %v", err)
	}
}

// A reader waits while the keys are refused, and goes on with new ones.
func TestReaderGetsNewKeys(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.close()
	e.limits = cache.Limits{ColdTimeout: patience}
	e.open()
	body := pattern(1, 3_000_000)
	e.write("f", body)
	e.flush()
	e.evict("f")
	e.store.Inject(storetest.Fail(storetest.Get, cache.ErrDenied).Always())
	answer := make(chan error, 1)
	go func() {
		got, err := e.read("f")
		if err == nil && !bytes.Equal(got, body) {
			err = errors.New("other bytes")
		}
		answer <- err
	}()
	e.problem("fetch")
	e.replace(cache.StoreInfo{Bucket: "b"})
	if err := <-answer; err != nil {
		t.Errorf("read: %v", err)
	}
}

// A zone whose keys were wrong from the start joins as soon as they are right.
func TestReplaceStoreJoins(t *testing.T) {
	t.Parallel()
	mem := storetest.NewMem()
	e := &env{t: t, share: t.TempDir(), state: t.TempDir(), mem: mem, store: storetest.NewFaulty(mem)}
	e.store.Inject(storetest.Fail(storetest.Any, cache.ErrDenied).Always())
	e.open()
	t.Cleanup(e.close)
	e.write("f", pattern(1, 1000))
	for {
		st, err := e.c.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if st.Store.State == "refused" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	e.replace(cache.StoreInfo{Bucket: "b"})
	e.flush()
	e.wantObject("p/f", pattern(1, 1000))
}

// Requests that hang on a server that was replaced are cut and made again; those that
// make something visible are not.
func TestHangingRequestsAreMadeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.NewMem()
		ctx := t.Context()
		body := pattern(1, 1000)
		if _, err := mem.Put(ctx, "k", bytes.NewReader(body), 1000, cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		old, fresh := storetest.NewFaulty(mem), storetest.NewFaulty(mem)
		never := make(chan struct{})
		old.Inject(storetest.Delay(storetest.Head, never).Always(), storetest.Delay(storetest.Put, never).Always())
		s, replace := cache.Replaceable(old)
		open, _, err := s.Get(ctx, "k", 0, -1, "")
		if err != nil {
			t.Fatal(err)
		}
		head, put := make(chan error, 1), make(chan error, 1)
		go func() { _, err := s.Head(ctx, "k"); head <- err }()
		putCtx, stop := context.WithCancel(ctx)
		go func() { _, err := s.Put(putCtx, "new", bytes.NewReader(body), 1000, cache.PutOptions{}); put <- err }()
		synctest.Wait()
		replace(fresh, true)
		if err := <-head; err != nil || fresh.Calls(storetest.Head) != 1 {
			t.Errorf("head: %v, asked %d times", err, fresh.Calls(storetest.Head))
		}
		if got, err := io.ReadAll(open); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || err == nil && !bytes.Equal(got, body) {
			t.Errorf("a body that was open: %d bytes, %v", len(got), err)
		}
		open.Close()
		time.Sleep(time.Hour)
		select {
		case err := <-put:
			t.Errorf("a put that may take effect was given up: %v", err)
		default:
		}
		stop()
		if err := <-put; !errors.Is(err, context.Canceled) {
			t.Errorf("put: %v", err)
		}
		if n := fresh.Calls(storetest.Put); n != 0 {
			t.Errorf("it was made %d times more", n)
		}
	})
}

// A listing goes on behind what was handed out, and nothing comes twice.
func TestListingGoesOnOnNewSettings(t *testing.T) {
	t.Parallel()
	mem := storetest.NewMem()
	for _, key := range []string{"a", "b", "c"} {
		if _, err := mem.Put(t.Context(), key, strings.NewReader("x"), 1, cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s, replace := cache.Replaceable(pageThenDenied{mem})
	var got []string
	err := s.List(t.Context(), cache.ListQuery{}, func(p cache.ListPage) error {
		for _, o := range p.Objects {
			got = append(got, o.Key)
		}
		if len(got) == 1 {
			replace(mem, false)
		}
		return nil
	})
	if err != nil || strings.Join(got, "") != "abc" {
		t.Errorf("listed %q, %v", got, err)
	}
	enough := errors.New("enough")
	if err := s.List(t.Context(), cache.ListQuery{}, func(cache.ListPage) error { return enough }); err != enough {
		t.Errorf("a page's own error came back as %v", err)
	}
}

// pageThenDenied lists one object and then refuses.
type pageThenDenied struct{ *storetest.Mem }

func (s pageThenDenied) List(ctx context.Context, q cache.ListQuery, page func(cache.ListPage) error) error {
	one := errors.New("one")
	err := s.Mem.List(ctx, q, func(p cache.ListPage) error {
		if err := page(cache.ListPage{Objects: p.Objects[:1]}); err != nil {
			return err
		}
		return one
	})
	if errors.Is(err, one) {
		return cache.ErrDenied
	}
	return err
}
