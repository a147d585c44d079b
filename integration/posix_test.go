package integration

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// notOurs is a check that no file system can pass: the locks of one process never
// stand in its own way (go-fuse leaves it out of its own runs).
const notOurs = "FcntlFlockLocksFile"

// go-fuse's own suite of what a POSIX file system does, on every kind of mount.
func TestPosixSuite(t *testing.T) {
	for _, way := range ways {
		for _, store := range []string{"store", "off"} {
			t.Run(way.name+"/"+store, func(t *testing.T) {
				t.Parallel()
				settings := []setting{way.set}
				if store == "store" {
					settings = append(settings, on(newDepot(t)), with("--settle", "100ms"))
				}
				z := newZone(t, settings...)
				for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
					if name == notOurs {
						continue
					}
					t.Run(name, func(t *testing.T) {
						dir := z.path(name)
						if err := os.Mkdir(dir, 0o755); err != nil {
							t.Fatal(err)
						}
						posixtest.All[name](t, dir)
					})
				}
			})
		}
	}
}
