package share_test

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"depotfs/cache/share"
)

func TestMarker(t *testing.T) {
	s, dir := open(t)
	if _, err := share.ReadMarker(s); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("no marker: %v", err)
	}
	m := share.Marker{ShareID: "s-1", Zone: "west", InoHighWater: 1<<64 - 1}
	must(t, share.WriteMarker(s, m))
	m.Format = 1
	if got, err := share.ReadMarker(s); err != nil || got != m {
		t.Errorf("got %+v %v, want %+v", got, err, m)
	}
	m.DepotID = "d-1"
	must(t, share.WriteMarker(s, m))
	if got, err := share.ReadMarker(s); err != nil || got != m {
		t.Errorf("got %+v %v, want %+v", got, err, m)
	}
	if got := names(t, s, share.Private); !slices.Equal(got, []string{"depot.json"}) {
		t.Errorf("left over: %q", got)
	}
	if fi, err := os.Stat(filepath.Join(dir, share.Private)); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the private directory is %v", fi.Mode())
	}
}

func TestMarkerThatCannotBeUnderstood(t *testing.T) {
	for _, tt := range []struct {
		content string
		want    error
	}{
		{`{"format": 2, "share_id": {"new": "shape"}}`, share.ErrNewer},
		{`{"format": 1, "share_id": 7}`, share.ErrDamaged},
		{`{"format": 1, "inode_high`, share.ErrDamaged},
		{`{"share_id": "x"}`, share.ErrDamaged},
		{`{}`, share.ErrDamaged},
		{``, share.ErrDamaged},
		{"\x00\x00\x00", share.ErrDamaged},
		{`null`, share.ErrDamaged},
	} {
		s, dir := open(t)
		must(t, s.MakePrivate())
		must(t, os.WriteFile(filepath.Join(dir, share.MarkerPath), []byte(tt.content), 0o600))
		if m, err := share.ReadMarker(s); !errors.Is(err, tt.want) {
			t.Errorf("%q: got %+v %v", tt.content, m, err)
		}
		err := share.WriteMarker(s, share.Marker{ShareID: "mine"})
		if tt.want == share.ErrNewer {
			if b, _ := os.ReadFile(filepath.Join(dir, share.MarkerPath)); !errors.Is(err, share.ErrNewer) || string(b) != tt.content {
				t.Errorf("a newer marker was rewritten: %v, %q", err, b)
			}
		} else if err != nil {
			t.Errorf("%q: write: %v", tt.content, err)
		}
	}
}

// A crash at any step of writing leaves the old marker or the new one.
func TestMarkerCrash(t *testing.T) {
	for _, step := range []string{"open", "write", "fsync", "rename", "syncdir"} {
		on := false
		s, _ := openWith(t, share.Options{Fault: func(op, _, rel string) error {
			if on && op == step && rel != share.MarkerPath {
				return unix.EIO
			}
			return nil
		}})
		must(t, share.WriteMarker(s, share.Marker{Zone: "old"}))
		on = true
		if err := share.WriteMarker(s, share.Marker{Zone: "new"}); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: got %v", step, err)
		}
		on = false
		got, err := share.ReadMarker(s)
		if err != nil || got.Zone != "old" && step != "syncdir" {
			t.Errorf("%s: got %+v %v", step, got, err)
		}
	}
}
