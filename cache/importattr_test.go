package cache_test

import (
	"bytes"
	"context"
	"testing"

	"depotfs/cache"
	"depotfs/cache/storetest"
)

// A file is renamed before the metadata of its object were read: the object keeps them.
func TestRenameBeforeTheMetadataWereRead(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.flush()
	e.mkdirAll("d")
	e.flush()
	ctx := context.Background()
	meta := map[string]string{"file-permissions": "0100640", "file-owner": "107", "file-group": "108", "file-mtime": "1600000000000000000ns"}
	body := pattern(1, 100_000)
	if _, err := e.mem.Put(ctx, "p/d/f", bytes.NewReader(body), int64(len(body)), cache.PutOptions{Metadata: meta}); err != nil {
		t.Fatal(err)
	}
	z := &env{t: t, share: t.TempDir(), state: t.TempDir(), zone: freeName(e.mem), mem: e.mem, store: storetest.NewFaulty(e.mem)}
	entered, resume := make(chan struct{}), make(chan struct{})
	z.store.Inject(storetest.Before(storetest.Head, func(context.Context, string) error { close(entered); <-resume; return nil }).On("p/d/"))
	z.open()
	t.Cleanup(z.close)
	<-entered // the names are known, the metadata of d are asked for
	z.rename("d/f", "d/g")
	z.waitFor("the object to follow", func() bool { _, ok := e.object("p/d/g"); return ok })
	close(resume)
	z.flush()
	info, err := e.mem.Head(ctx, "p/d/g")
	if err != nil {
		t.Fatal(err)
	}
	got := info.Metadata
	for k, v := range meta {
		if got[k] != v {
			t.Errorf("%s is %q, was %q", k, got[k], v)
		}
	}
	a, err := z.lookup("d/g")
	if err != nil || a.Mode&0o7777 != 0o640 || a.UID != 107 || a.GID != 108 {
		t.Errorf("the file has mode %o, owner %d and %d (%v)", a.Mode&0o7777, a.UID, a.GID, err)
	}
}
