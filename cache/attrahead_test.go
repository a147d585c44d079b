package cache_test

import (
	"testing"
	"time"
)

// runAhead has a zone whose clock is a minute ahead rename a file: who hears of that counts
// what it does next as later, but for bytes that were written before.
func runAhead(c *env) {
	c.ahead.Store(int64(time.Minute))
	c.write("before", pattern(9, 100))
	c.flush()
	c.rename("before", "ahead")
	c.flush()
}

// A version that was deleted before it was told of has attributes that are later than the
// delete: the next file has them, in all zones or in none.
func TestAttributesOfADeletedVersion(t *testing.T) {
	t.Parallel()
	zs := newZones(t, 3)
	a, b := zs[0], zs[1]
	a.write("f", pattern(1, 2000))
	tell(zs...)
	runAhead(zs[2])
	a.settle, b.settle = time.Hour, time.Hour // until they flush
	a.write("f", pattern(2, 2500))
	a.refresh()
	a.chmod("f", 0o600)
	pause()
	b.unlink("f")
	pause()
	b.write("f", pattern(3, 3000))
	a.flush()
	tell(zs...)
	sameTrees(zs...)
	sameTimes("f", zs...)
}

// sameTimes compares when zones say that a file was written.
func sameTimes(path string, zs ...*env) {
	zs[0].t.Helper()
	var first int64
	for i, e := range zs {
		a, err := e.lookup(path)
		if err != nil {
			e.t.Fatal(err)
		}
		if i == 0 {
			first = a.Mtime
		} else if a.Mtime != first {
			e.t.Errorf("%s was written at %d in zone %s, at %d in zone %s", path, a.Mtime, e.zone, first, zs[0].zone)
		}
	}
}
