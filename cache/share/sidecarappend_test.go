package share_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"depotfs/cache/share"
)

// The next run goes on with a log; after a reboot the writes of this boot count.
func TestAppendSidecarOfAnotherBoot(t *testing.T) {
	boot, err := share.BootID()
	must(t, err)
	for _, tt := range []struct {
		name, boot string
		want       ranges
	}{
		{"same boot", boot, rs(0, 10, 20, 30, 40, 50)},
		{"rebooted", "an earlier one", rs(0, 10, 40, 50)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := openPartial(t)
			h := header(100, 100)
			h.BootID = tt.boot
			sc, err := share.CreateSidecar(s, ino, h)
			must(t, err)
			appendAll(t, sc, share.WriteRecord(0, 10))
			must(t, sc.Sync())
			appendAll(t, sc, share.WriteRecord(20, 30))
			must(t, sc.Close())

			sc, err = share.AppendSidecar(s, ino)
			must(t, err)
			appendAll(t, sc, share.WriteRecord(40, 50))
			must(t, sc.Close())
			h, recs, err := share.ReadSidecar(s, ino)
			must(t, err)
			written, _, _ := share.Replay(h, recs, h.BootID == boot)
			if !slices.Equal(written, tt.want) {
				t.Errorf("after the next kill: got %v, want %v", written, tt.want)
			}
			written, _, _ = share.Replay(h, recs, false)
			if !slices.Equal(written, tt.want[:len(tt.want)-1]) {
				t.Errorf("after the next power cut: got %v, want %v", written, tt.want[:len(tt.want)-1])
			}
		})
	}
}

// What is appended while the data is synced is not covered by that sync.
func TestSyncAfterCoversOnlyWhatWasThere(t *testing.T) {
	s, _ := openPartial(t)
	sc, err := share.CreateSidecar(s, ino, header(100, 100))
	must(t, err)
	appendAll(t, sc, share.WriteRecord(0, 10))
	must(t, sc.SyncAfter(func() error {
		appendAll(t, sc, share.WriteRecord(10, 20), share.WriteRecord(50, 60))
		return nil
	}))
	check(t, "power cut", replayed(t, s, false), says{rs(0, 10), 100, 100})
	check(t, "kill", replayed(t, s, true), says{rs(0, 20, 50, 60), 100, 100})
	if err := sc.SyncAfter(func() error { return unix.EIO }); !errors.Is(err, unix.EIO) {
		t.Errorf("failed sync of the data: %v", err)
	}
	check(t, "after a failed sync", replayed(t, s, false), says{rs(0, 10), 100, 100})
}

// A log that cannot be written says so, and goes on when it can.
func TestAppendThatFails(t *testing.T) {
	fail := ""
	s, _ := openWith(t, share.Options{Fault: func(op, _, rel string) error {
		if op == fail && strings.HasSuffix(rel, ".log") {
			return unix.ENOSPC
		}
		return nil
	}})
	must(t, s.MakePrivate())
	sc, err := share.CreateSidecar(s, ino, header(100, 100))
	must(t, err)
	appendAll(t, sc, share.WriteRecord(0, 10))
	fail = "write"
	for _, r := range []share.Record{share.WriteRecord(10, 20), share.WriteRecord(50, 60), share.TruncateRecord(5)} {
		if err := sc.Append(r); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("append: %v", err)
		}
	}
	if err := sc.Sync(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("sync: %v", err)
	}
	fail = "fsync"
	if err := sc.Append(share.TruncateRecord(90)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a cut that is not durable was acknowledged: %v", err)
	}
	fail = ""
	appendAll(t, sc, share.WriteRecord(20, 30))
	check(t, "afterwards", replayed(t, s, true), says{rs(0, 10, 20, 30), 90, 90})
	for _, bad := range []share.Record{{}, share.WriteRecord(5, 5), share.WriteRecord(-1, 5), share.TruncateRecord(-1), {Kind: share.KindMark, End: 1}} {
		if err := sc.Append(bad); !errors.Is(err, unix.EINVAL) {
			t.Errorf("append %+v: %v", bad, err)
		}
	}
}

// A failed write in the middle of the file system leaves a log that can be read:
// a file size limit tears a record for real.
func TestAppendTornByTheFileSystem(t *testing.T) {
	s, path := openPartial(t)
	sc, err := share.CreateSidecar(s, ino, header(1<<30, 1<<30))
	must(t, err)
	appendAll(t, sc, share.WriteRecord(0, 1))
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	limit := old
	limit.Cur = uint64(sc.Len()) + 10
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	err = sc.Append(share.WriteRecord(1000, 2000))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	if !errors.Is(err, unix.EFBIG) {
		t.Fatalf("append: %v", err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() != sc.Len() {
		t.Errorf("the torn record is still there: %d bytes, want %d", fi.Size(), sc.Len())
	}
	appendAll(t, sc, share.WriteRecord(5000, 6000))
	check(t, "afterwards", replayed(t, s, true), says{rs(0, 1, 5000, 6000), 1 << 30, 1 << 30})
}

// BenchmarkAppend is what a record costs each write of a partial file.
func BenchmarkAppend(b *testing.B) {
	s, _ := openPartial(b)
	for _, bench := range []struct {
		name string
		next func(i int64) share.Record
	}{
		{"sequential", func(i int64) share.Record { return share.WriteRecord(i*4096, (i+1)*4096) }},
		{"scattered", func(i int64) share.Record { return share.WriteRecord(i*8192, i*8192+4096) }},
		{"known", func(i int64) share.Record { return share.WriteRecord(0, 4096) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			sc, err := share.ReplaceSidecar(s, ino, header(0, 0), nil, 0, 1<<40)
			must(b, err)
			defer sc.Close()
			i := int64(0)
			for b.Loop() {
				must(b, sc.Append(bench.next(i)))
				i++
			}
		})
	}
}
