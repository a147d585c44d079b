package cache_test

import (
	"slices"
	"testing"

	"depotfs/cache"
	"depotfs/cache/catalog"
	"depotfs/cache/fetch"
)

// Ranges that somebody knows will be read are fetched without a reader, once, and
// nothing besides; those of the background too, in their order, large ones as well.
func TestRangesAheadOfReaders(t *testing.T) {
	for _, class := range []fetch.Class{fetch.Header, fetch.Readahead, fetch.Background} {
		t.Run(class.String(), func(t *testing.T) {
			e, l := newLine(t)
			data := e.away(remote+"f", 40<<20)
			e.limits.Fetches = 2 // one in the background at a time, so that their order shows
			e.restart()
			e.waitFor("it runs", func() bool { s, err := e.c.Status(t.Context()); return err == nil && s.Store.State == "on" })
			l.count()
			h := e.handle(remote + "f")
			ranges := []catalog.Range{{Off: 39 << 20, End: 40 << 20}, {Off: 0, End: 64 << 10}, {Off: 8 << 20, End: 20 << 20}}
			cache.FetchRanges(e.c, h, ranges, class)
			h.Release() // does not end it
			var want int64
			for _, r := range ranges {
				want += r.End - r.Off
			}
			var gets []get
			var pulled int64
			e.waitFor("the ranges are here", func() bool {
				g, n := l.count()
				gets, pulled = append(gets, g...), pulled+n
				open, _ := l.now()
				return pulled >= want && open == 0
			})
			if pulled != want {
				t.Errorf("%d bytes pulled of %d", pulled, want)
			}
			at := func(off int64) int { return slices.IndexFunc(gets, func(g get) bool { return g.off == off }) }
			if class == fetch.Background && (at(39<<20) > at(8<<20) || at(0) > at(8<<20)) {
				t.Errorf("out of order: %v", gets)
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
