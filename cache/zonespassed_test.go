package cache_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// A file that a zone knew from the depot's listing, and has renamed, stays where the rename
// has brought its object when the zone hears of the file for the first time.
func TestZoneHearsOfWhatItHasRenamed(t *testing.T) {
	outside := time.Now()
	synctest.Test(t, func(t *testing.T) {
		h := newZoneHistory(t, 2, 1, outside)
		defer h.end()
		a, b := h.all[0], h.all[1]
		b.close()
		writes("x", "was x")(h, a)
		a.flush()
		b.poll = time.Hour // it lists the depot, and hears of nothing before it has renamed
		b.open()
		b.waitFor("the depot is listed", func() bool { s, err := b.c.Status(t.Context()); return err == nil && s.Store.Listing == "done" })
		renames("x", "n")(h, b)
		b.flush()
		tree := h.agree()
		if tree["n"] == "" || tree["x"] != "" {
			t.Errorf("all zones show %v", tree)
		}
		if faults := h.bucket(tree); len(faults) > 0 {
			t.Error(faults)
		}
	})
}
