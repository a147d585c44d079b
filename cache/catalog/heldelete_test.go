package catalog

import (
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"testing"
)

// goldenHeldDelete is the record of sampleOf(9) as the first version wrote it.
const goldenHeldDelete = "010301040101740109340101010c020304050e10121401740101016e0b0104060801040100000000000000031801016b0165017601011a1c1e017a20016f"

func TestGoldenHeldDelete(t *testing.T) {
	want := &HeldDelete{Path: "p", Kind: DeleteHidden, Burst: 1, Time: 2, Told: true, Trash: "t", Saved: true, Inode: sampleOf(9)}
	want.Inode.MovedAt, want.Inode.AttrAt, want.Inode.AttrBy, want.Inode.KnownAt = 0, 0, "", 0 // which came later
	b, err := hex.DecodeString(goldenHeldDelete)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeHeldDelete("p", b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v\nnow %x", got, err, want, encodeHeldDelete(want))
	}
}

func TestHeldDeletesAreFoundByPathAndByKey(t *testing.T) {
	c, err := Open(t.TempDir(), Options{FirstIno: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	held := func(path, key string) *HeldDelete {
		h := &HeldDelete{Path: path, Kind: DeleteHeld, Inode: sampleOf(9)}
		h.Inode.Objects = []Object{{Key: key}}
		return h
	}
	update := func(fn func(tx *Tx) error) {
		t.Helper()
		if err := c.Update(fn); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *Tx) error {
		return errors.Join(tx.PutHeldDelete(held("a/20", "k20")), tx.PutHeldDelete(held("a/20/x", "kx")),
			tx.PutHeldDelete(held("a/201", "k201")), tx.PutHeldDelete(held("b", "kb")))
	})
	list := func(prefix, after string) (paths []string) {
		t.Helper()
		if err := c.View(func(tx *Tx) error {
			return tx.EachHeldDelete(prefix, after, func(h *HeldDelete) bool { paths = append(paths, h.Path); return true })
		}); err != nil {
			t.Fatal(err)
		}
		return paths
	}
	if got := list("", ""); !slices.Equal(got, []string{"a/20", "a/20/x", "a/201", "b"}) {
		t.Errorf("all: %q", got)
	}
	if got := list("a/20/", ""); !slices.Equal(got, []string{"a/20/x"}) {
		t.Errorf("below a/20: %q", got)
	}
	if got := list("", "a/20/x"); !slices.Equal(got, []string{"a/201", "b"}) {
		t.Errorf("after a/20/x: %q", got)
	}
	byKey := func(key string) string {
		var path string
		err := c.View(func(tx *Tx) error {
			h, err := tx.HeldKey(key)
			if err == nil {
				path = h.Path
			}
			return err
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		return path
	}
	if got := byKey("kx"); got != "a/20/x" {
		t.Errorf("of kx: %q", got)
	}
	update(func(tx *Tx) error { return tx.PutHeldDelete(held("b", "other")) }) // its object has moved
	if byKey("kb") != "" || byKey("other") != "b" {
		t.Errorf("after a move of the object: %q and %q", byKey("kb"), byKey("other"))
	}
	update(func(tx *Tx) error { return tx.PutHeldDelete(held("c", "other")) }) // the key is another's now
	update(func(tx *Tx) error { return errors.Join(tx.DeleteHeldDelete("b"), tx.DeleteHeldDelete("nothing")) })
	if byKey("other") != "c" || !slices.Equal(list("", ""), []string{"a/20", "a/20/x", "a/201", "c"}) {
		t.Errorf("after the delete of b: %q, %q", byKey("other"), list("", ""))
	}
}
