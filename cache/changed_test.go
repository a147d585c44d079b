package cache_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"depotfs/cache/storetest"
)

// overwriteOutside writes a file in the share in place, as others do who have it already.
func (e *env) overwriteOutside(path string, data []byte) {
	e.t.Helper()
	if err := os.WriteFile(filepath.Join(e.share, path), data, 0o644); err != nil {
		e.t.Fatal(err)
	}
}

// Others write into a file whose upload ends just while it is looked at: what they
// wrote is not taken for what was uploaded.
func TestChangeThatIsFoundWhileTheUploadEnds(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.mkdirAll("a")
	sent, gate := make(chan struct{}), make(chan struct{})
	e.store.Inject(storetest.Before(storetest.Put, func(ctx context.Context, _ string) error {
		close(sent)
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}).On("a/n"))
	e.close()
	var once sync.Once
	armed := false
	e.fault = func(op, _, rel string) error {
		if armed && op == "statsync" && rel == "a/n" {
			once.Do(func() {
				armed = false
				close(gate)
				e.flush("a/n")
				e.overwriteOutside("a/n", []byte("others"))
			})
		}
		return nil
	}
	e.open()
	e.write("a/n", []byte("ours, longer"))
	<-sent
	armed = true
	e.scan()
	e.flush()
	e.wantObject("p/a/n", []byte("others"))
	e.mustRead("a/n", []byte("others"))
}
