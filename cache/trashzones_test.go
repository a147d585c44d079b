package cache_test

import (
	"context"
	"slices"
	"testing"

	"depotfs/cache"
)

// What one zone deletes any zone brings back, for all of them; who reads it meanwhile
// reads on.
func TestTrashOfSeveralZones(t *testing.T) {
	t.Parallel()
	all := newZones(t, 2)
	a, b := all[0], all[1]
	data := pattern(1, 3<<20)
	a.write("f", data)
	a.flush()
	b.refresh()
	if _, err := b.lookup("f"); err != nil {
		t.Fatal(err)
	}
	at, err := a.lookup("f")
	if err != nil {
		t.Fatal(err)
	}
	a.evict("f")
	h, err := a.c.Open(context.Background(), at.Ino, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.unlink("f")
	b.flush()
	a.refresh()
	if _, err := a.lookup("f"); err == nil {
		t.Error("the name is still there")
	}
	buf := make([]byte, 1000)
	if _, err := h.ReadAt(context.Background(), buf, 2<<20); err != nil || !slices.Equal(buf, data[2<<20:][:1000]) {
		t.Errorf("who has it open reads: %v", err)
	}
	h.Release()
	list := a.trashed()
	if len(list) != 1 || list[0].Path != "f" || list[0].Zone != "b" || list[0].Expires != nil {
		t.Fatalf("the trash has %+v", list)
	}
	a.restore(cache.TrashPick{Paths: []string{"f"}})
	b.refresh()
	b.mustRead("f", data)
	a.mustRead("f", data)
	if left := b.trashed(); len(left) != 0 {
		t.Errorf("the trash still has %+v", left)
	}
	b.unlink("f")
	b.flush()
	a.refresh()
	if _, err := a.lookup("f"); err == nil {
		t.Error("it cannot be deleted again")
	}
	b.restore(cache.TrashPick{Entries: []string{b.trashed()[0].Entry}, To: "g"})
	a.refresh()
	a.mustRead("g", data)
}
