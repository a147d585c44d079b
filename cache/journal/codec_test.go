package journal_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"depotfs/cache/journal"
)

// framed makes a line of a batch.
func framed(text string) string {
	return fmt.Sprintf("%08x %s\n", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)), text)
}

func TestWhatIsNoRecord(t *testing.T) {
	for _, text := range []string{
		``, `null`, `7`, `{`, `{}`, `{"op":""}`, `{"op":"put"}`, `{"op":"rmdir","path":7}`, `{"op":"rmdir"}`, `{"op":"mkdir","path":""}`,
		`{"op":"rmdir","path":"/a"}`, `{"op":"rmdir","path":"a/"}`, `{"op":"rmdir","path":"a//b"}`, `{"op":"rmdir","path":"."}`,
		`{"op":"rmdir","path":"a/../b"}`, `{"op":"rmdir","path":".."}`, `{"op":"rmdir","path":"a\u0000b"}`, `{"op":"rmdir","path64":"YQBi"}`,
		`{"op":"rmdir","path":".depotfs/open"}`, `{"op":"rmdir","path":"` + strings.Repeat("a/", 2048) + `a"}`, `{"op":"rmdir","path":"` + strings.Repeat("a", 256) + `"}`,
		`{"op":"rmdir","path":"a","path64":"Yg=="}`, `{"op":"rmdir","path64":"*"}`,
		`{"op":"put","path":"a"}`, `{"op":"put","path":"a","key":"k","size":-1}`, `{"op":"put","path":"a","key":"k","size":1e30}`,
		`{"op":"put","path":"a","key":"k","crc64":"1"}`, `{"op":"put","path":"a","key":"k","crc64":"xxxxxxxxxxxxxxxx"}`, `{"op":"put","path":"a","key":"k","crc64":7}`,
		`{"op":"put","path":"a","key":"k","zeros":"` + strings.Repeat("A", 2049) + `"}`, `{"op":"put","path":"a","key":"` + strings.Repeat("k", 1025) + `"}`,
		`{"op":"put","path":"a","key":"k\n"}`, `{"op":"put","path":"a","key":"k","etag":"\r\nx"}`, `{"op":"put","path":"a","key":"k","mode":"40755"}`,
		`{"op":"mkdir","path":"a","mode":"100644"}`, `{"op":"mkdir","path":"a","mode":"9"}`, `{"op":"mkdir","path":"a","mode":"7777777"}`, `{"op":"mkdir","path":"a","uid":-1}`,
		`{"op":"symlink","path":"a"}`, `{"op":"symlink","path":"a","to":"b\u0000"}`, `{"op":"symlink","path":"a","to":"` + strings.Repeat("a", 4096) + `"}`,
		`{"op":"rename","path":"a"}`, `{"op":"rename","path":"a","from":"a"}`, `{"op":"rename","path":"a/b","from":"a"}`, `{"op":"exchange","path":"a","from":"a/b/c"}`,
		`{"op":"rename","path":"a","from":"../b"}`, `{"op":"delete","path":"a","from":"b"}`, `{"op":"delete","path":"a","zone":"../b"}`, `{"op":"delete","path":"a","time":"now"}`,
		strings.Repeat(" ", journal.MaxRecord) + `{"op":"rmdir","path":"a"}`,
	} {
		if r, err := journal.Decode([]byte(text)); err == nil || r != (journal.Record{}) || errors.Is(err, journal.ErrUnknown) {
			t.Errorf("%.100s: %+v, %v", text, r, err)
		}
	}
	if _, err := journal.Decode([]byte(`{"op":"clone","path":["a"]}`)); !errors.Is(err, journal.ErrUnknown) {
		t.Errorf("an unknown operation: %v", err)
	}
}

func TestNoProgramsOfRoot(t *testing.T) {
	for text, want := range map[string]uint32{
		`{"op":"put","path":"a","key":"k","mode":"106755"}`: 0o100755, `{"op":"attr","path":"a","mode":"4755"}`: 0o755,
		`{"op":"mkdir","path":"a","mode":"43755"}`: 0o43755,
	} {
		if r, err := journal.Decode([]byte(text)); err != nil || r.Mode != want {
			t.Errorf("%s: mode %#o, want %#o, %v", text, r.Mode, want, err)
		}
	}
}

func TestNeighboursAreNotInside(t *testing.T) {
	for _, r := range []journal.Record{{Op: journal.Rename, From: "2/201", Path: "2/20"}, {Op: journal.Rename, From: "2/20", Path: "2/201"}} {
		if _, err := journal.Encode(r); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatCannotBeTold(t *testing.T) {
	for _, r := range []journal.Record{
		{}, {Op: "clone", Path: "a"}, {Op: journal.Mkdir, Path: ".depotfs"}, {Op: journal.Put, Path: "a"},
		{Op: journal.Put, Path: "a", Key: "\xff"}, {Op: journal.Delete, Path: "a", Zone: "-"},
	} {
		if b, err := journal.Encode(r); err == nil {
			t.Errorf("%+v: %s", r, b)
		}
	}
}

func TestKeys(t *testing.T) {
	key := journal.Key("d/", "ber-1.x", 42)
	if want := "d/.depotfs/journal/ber-1.x/00000000000000000042"; key != want || !strings.HasPrefix(key, journal.Prefix("d/", "ber-1.x")) {
		t.Errorf("key %q, want %q", key, want)
	}
	if zone, seq, ok := journal.ParseKey("d/", key); !ok || zone != "ber-1.x" || seq != 42 {
		t.Errorf("%q, %d, %v", zone, seq, ok)
	}
	if zone, seq, ok := journal.ParseKey("", journal.Key("", "a", 1<<64-1)); !ok || zone != "a" || seq != 1<<64-1 {
		t.Errorf("%q, %d, %v", zone, seq, ok)
	}
	for _, key := range []string{
		"", "d/a", key + "1", key + "/", key[:len(key)-1], "x" + key, "d/.depotfs/journal/00000000000000000042",
		"d/.depotfs/journal/a/b/00000000000000000042", "d/.depotfs/journal//00000000000000000042", "d/.depotfs/journal/../00000000000000000042",
		"d/.depotfs/journal/a/00000000000000000000", "d/.depotfs/journal/a/99999999999999999999", "d/.depotfs/journal/a/+0000000000000000042",
	} {
		if zone, seq, ok := journal.ParseKey("d/", key); ok {
			t.Errorf("%q is batch %d of %q", key, seq, zone)
		}
	}
}

func TestValidZone(t *testing.T) {
	for _, name := range []string{"a", "Z9", "0.x_y-z", strings.Repeat("a", 63)} {
		if !journal.ValidZone(name) {
			t.Errorf("%q is no zone", name)
		}
	}
	for _, name := range []string{"", ".", "..", ".a", "-a", "_a", "a/b", "a b", "ä", "a\x00", "a\n", "a+", strings.Repeat("a", 64)} {
		if journal.ValidZone(name) {
			t.Errorf("%q is a zone", name)
		}
	}
}
