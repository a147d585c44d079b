package cache_test

import (
	"testing"

	"depotfs/cache"
	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
)

// Ranges that somebody knows will be read are fetched without a reader, once, and
// nothing besides.
func TestRangesAheadOfReaders(t *testing.T) {
	t.Parallel()
	for _, class := range []fetch.Class{fetch.Header, fetch.Readahead} {
		t.Run(class.String(), func(t *testing.T) {
			e, l := newLine(t)
			data := e.away(remote+"f", 40<<20)
			e.restart()
			e.waitFor("it runs", func() bool { s, err := e.c.Status(t.Context()); return err == nil && s.Store.State == "on" })
			l.count()
			h := e.handle(remote + "f")
			ranges := []catalog.Range{{Off: 39 << 20, End: 40 << 20}, {Off: 0, End: 64 << 10}, {Off: 8 << 20, End: 20 << 20}}
			cache.Ahead(e.c, h, ranges, class)
			h.Release() // does not end it
			var want int64
			for _, r := range ranges {
				want += r.End - r.Off
			}
			var pulled int64
			e.waitFor("the ranges are here", func() bool {
				_, n := l.count()
				pulled += n
				open, _ := l.now()
				return pulled >= want && open == 0
			})
			if pulled != want {
				t.Errorf("%d bytes pulled of %d", pulled, want)
			}
			h = e.handle(remote + "f")
			defer h.Release()
			for _, r := range ranges {
				e.readAt(h, data, r.Off, min(r.End-r.Off, 64<<10))
				e.readAt(h, data, r.End-4096, 4096)
			}
			if g, n := l.count(); len(g) > 0 {
				t.Errorf("reading them pulled %d bytes more in %v", n, g)
			}
		})
	}
}
