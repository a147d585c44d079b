package share

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"depotfs/cache/extent"
)

func TestHoles(t *testing.T) {
	const mib = 1 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(16 * mib); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, mib)
	for i := range data {
		data[i] = 1
	}
	for _, off := range []int64{2 * mib, 8 * mib} {
		if _, err := f.WriteAt(data, off); err != nil {
			t.Fatal(err)
		}
	}
	want := []extent.Range{{Off: 2 * mib, End: 3 * mib}, {Off: 8 * mib, End: 9 * mib}}
	expectData(t, f, 0, 16*mib, want)
	expectData(t, f, 2*mib+4096, 9*mib-4096, []extent.Range{{Off: 2*mib + 4096, End: 3 * mib}, {Off: 8 * mib, End: 9*mib - 4096}})
	expectData(t, f, 16*mib, 20*mib, nil)

	if err := PunchHole(f, 2*mib, 3*mib); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this file system punches no holes") // that of CI does, and CI refuses skips
		}
		t.Fatal(err)
	}
	expectData(t, f, 0, 16*mib, want[1:])
	if st, err := f.Stat(); err != nil || st.Size() != 16*mib {
		t.Fatalf("the length is %v (%v)", st.Size(), err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], 2*mib); err != nil || b[0] != 0 {
		t.Fatalf("a hole reads as %d (%v)", b[0], err)
	}
}

func expectData(t *testing.T, f *os.File, off, end int64, want []extent.Range) {
	t.Helper()
	for _, w := range want {
		r, ok, err := NextData(f, off, end)
		if err != nil || !ok || r != w {
			t.Fatalf("data from %d: %v %v %v, want %v", off, r, ok, err, w)
		}
		off = r.End
	}
	if r, ok, err := NextData(f, off, end); ok || err != nil {
		t.Fatalf("data from %d: %v (%v), want none", off, r, err)
	}
}
