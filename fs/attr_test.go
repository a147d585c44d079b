package fs

import (
	"math"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"depotfs/cache"
)

func TestTimesSplit(t *testing.T) {
	for _, tc := range []struct {
		name string
		ns   int64
		sec  int64
		nsec uint32
	}{
		{"epoch", 0, 0, 0},
		{"after", 1_500_000_000, 1, 500_000_000},
		{"before 1970", -1_500_000_000, -2, 500_000_000},
		{"a whole second before", -1_000_000_000, -1, 0},
		{"latest", math.MaxInt64, 9223372036, 854775807},
		{"earliest", math.MinInt64, -9223372037, 145224192},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sec, nsec := split(tc.ns)
			if int64(sec) != tc.sec || nsec != tc.nsec {
				t.Errorf("got %d s %d ns, want %d s %d ns", int64(sec), nsec, tc.sec, tc.nsec)
			}
		})
	}
	year := func(y int) uint64 { return uint64(time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC).Unix()) }
	if got := join(year(2500), 1); got != math.MaxInt64 {
		t.Errorf("the year 2500: got %d, want the latest time", got)
	}
	if got := join(year(1500), 1); got != math.MinInt64/second*second {
		t.Errorf("the year 1500: got %d, want the earliest time", got)
	}
}

func FuzzTimes(f *testing.F) {
	f.Add(int64(0))
	f.Add(int64(-1))
	f.Fuzz(func(t *testing.T, ns int64) {
		if ns >= math.MaxInt64/second*second || ns <= math.MinInt64/second*second {
			return // the outermost second is cut off
		}
		sec, nsec := split(ns)
		if got := join(sec, nsec); got != ns || nsec >= 1e9 {
			t.Errorf("got %d (%d ns), want %d", got, nsec, ns)
		}
	})
}

func TestSetAttrOf(t *testing.T) {
	in := fuse.SetAttrInCommon{Mode: 0o104711, Size: 7, Atime: 1, Atimensec: 2, Mtime: 3, Mtimensec: 4, Owner: fuse.Owner{Uid: 5, Gid: 6}}
	for _, tc := range []struct {
		name  string
		valid uint32
		want  cache.SetAttr
	}{
		{"nothing", fuse.FATTR_CTIME | fuse.FATTR_FH | fuse.FATTR_LOCKOWNER, cache.SetAttr{}},
		{"mode without type", fuse.FATTR_MODE, cache.SetAttr{Valid: cache.SetMode, Mode: 0o4711}},
		{"owner", fuse.FATTR_UID | fuse.FATTR_GID, cache.SetAttr{Valid: cache.SetUID | cache.SetGID, UID: 5, GID: 6}},
		{"size", fuse.FATTR_SIZE, cache.SetAttr{Valid: cache.SetSize, Size: 7}},
		{"times", fuse.FATTR_ATIME | fuse.FATTR_MTIME, cache.SetAttr{Valid: cache.SetAtime | cache.SetMtime, Atime: 1e9 + 2, Mtime: 3e9 + 4}},
		{"now", fuse.FATTR_MTIME | fuse.FATTR_MTIME_NOW, cache.SetAttr{Valid: cache.SetMtime | cache.SetMtimeNow, Mtime: 3e9 + 4}},
		{"only now", fuse.FATTR_ATIME_NOW, cache.SetAttr{Valid: cache.SetAtime | cache.SetAtimeNow}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := in
			in.Valid = tc.valid
			if got := setAttrOf(&in); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestWithoutPriv(t *testing.T) {
	for mode, want := range map[uint32]uint32{0o644: 0o644, 0o4755: 0o755, 0o2755: 0o755, 0o2644: 0o2644, 0o7777: 0o1777} {
		if got := withoutPriv(mode, true); got != want {
			t.Errorf("%o by a member: got %o, want %o", mode, got, want)
		}
		if got := withoutPriv(mode, false); got != want&^0o2000 {
			t.Errorf("%o by a stranger: got %o, want %o", mode, got, want&^0o2000)
		}
	}
}
