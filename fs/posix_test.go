package fs

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// notOurs are checks that no file system can pass: the locks of one process never
// stand in its own way, and FcntlFlockLocksFile wants them to (go-fuse leaves it
// out of its own runs).
var notOurs = []string{"FcntlFlockLocksFile"}

func TestPosix(t *testing.T) {
	inModes(t, Options{}, func(t *testing.T, m *mounted, l *loopback) {
		for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
			if slices.Contains(notOurs, name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				dir := filepath.Join(m.dir, name)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				posixtest.All[name](t, dir)
			})
		}
	})
}
