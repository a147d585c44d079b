package cache_test

import (
	"bytes"
	"context"
	"syscall"
	"testing"
	"time"

	"depotfs/cache"
)

// A file that was found in the share, and that the depot has in another version, is
// written to through the mount when the daemon is killed. What was written is newer.
func TestKilledWhileAFoundFileIsWritten(t *testing.T) {
	t.Parallel()
	for _, written := range []bool{true, false} {
		e := newEnv(t)
		e.close()
		theirs, found, ours := pattern(1, 3000), pattern(2, 3000), pattern(3, 3000)
		if _, err := e.mem.Put(context.Background(), "p/snapshots/f", bytes.NewReader(theirs), 3000, cache.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		e.outside("snapshots/f", found)
		e.settle = time.Hour
		e.open()
		h := e.mustOpen("snapshots/f", syscall.O_RDWR)
		if written {
			if _, err := h.WriteAt(context.Background(), ours, 0); err != nil {
				t.Fatal(err)
			}
		}
		image := e.copyState()
		h.Release()
		e.close()
		e.state = image // as the kill left it
		e.open()
		e.flush()
		winner, loser := ours, theirs
		if !written {
			winner, loser = theirs, found
		}
		e.mustRead("snapshots/f", winner)
		e.wantObject("p/snapshots/f", winner)
		if kept := e.conflicts("snapshots/f", ""); len(kept) != 1 || !bytes.Equal(kept[0], loser) {
			t.Errorf("written %v: %d versions are kept, or another one", written, len(kept))
		}
	}
}
