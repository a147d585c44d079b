package journal_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"depotfs/cache/journal"
)

// testdata/format1 is what releases of depotfs write. It is read forever; another format
// gets another file.
var writeGolden = flag.Bool("write-golden", false, "write testdata/format1, which must not exist")

var (
	goldenHeader = journal.Header{Zone: "ber1", Seq: 42, Made: 1795600000123456789, Epoch: "5f0c9a7be1d24c33"}
	seenHeader   = journal.Header{Zone: "ber1", Seq: 42, Made: 1795600000123456789, Epoch: "5f0c9a7be1d24c33", Seen: map[string]uint64{"ams1": 7, "zrh-2": 1 << 60}}
	golden       = []journal.Record{
		{Op: journal.Put, Path: "template/tmpl/2/201/a b.qcow2", Time: 1795600000000000001, Zone: "ber1", Key: "d/template/tmpl/2/201/a b.qcow2", ETag: "abc-3", VersionID: "v1", Size: 2 << 30, CRC64: 0x0123456789abcdef, HasCRC: true, Zeros: "AQ", Mode: 0o100644, UID: 1, GID: math.MaxUint32, Mtime: -1},
		{Op: journal.Put, Path: "snapshots/\xff\n\u2028<&>", Time: 2, Key: "d/.depotfs/names/00", HasCRC: true, Mode: 0o100755},
		{Op: journal.Mkdir, Path: "volumes", Time: 3, Zone: "ham", Key: "d/volumes/", Mode: 0o041777},
		{Op: journal.Symlink, Path: "l", Time: 4, Zone: "ham", Target: "../\x01", Mode: 0o120777},
		{Op: journal.Attr, Path: "", Time: 5, Zone: "ham", Mode: 0o040700},
		{Op: journal.Delete, Path: "x", Time: 6, Zone: "ham", Trash: "d/.depotfs/trash/x", Key: "d/x"},
		{Op: journal.Rmdir, Path: "y/ä", Time: 7, Zone: "ham"},
		{Op: journal.Rename, Path: "2/20", From: "2/201", Time: 8, Zone: "ham"},
		{Op: journal.Exchange, Path: "a", From: "b", Time: math.MaxInt64, Zone: "ham"},
	}
)

func TestGolden(t *testing.T) {
	const file = "testdata/format1"
	b, err := journal.EncodeBatch(goldenHeader, golden)
	if err != nil {
		t.Fatal(err)
	}
	if *writeGolden {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Errorf("the format has changed:\n got %s\nwant %s", b, want)
	}
	h, records, bad, err := journal.DecodeBatch(want)
	if err != nil || len(bad) > 0 || !reflect.DeepEqual(h, goldenHeader) || !reflect.DeepEqual(records, golden) {
		t.Errorf("read %+v, %v, %v:\n got %+v\nwant %+v", h, bad, err, records, golden)
	}
}

// randomRecord makes one of those that are valid, with all kinds of bytes in its names.
func randomRecord(r *rand.Rand) journal.Record {
	alphabet := []string{"a", "ä", "\xff", "\x01", "\n", "\"", "\\", "<", "\u2028", "\ufffd", ".", " ", "\x7f"}
	name := func() string {
		for {
			s := ""
			for range 1 + r.IntN(12) {
				s += alphabet[r.IntN(len(alphabet))]
			}
			if s != "." && s != ".." {
				return s
			}
		}
	}
	path := func() string {
		s := name()
		for range r.IntN(4) {
			s += "/" + name()
		}
		return s
	}
	ops := []journal.Op{journal.Put, journal.Mkdir, journal.Symlink, journal.Attr, journal.Delete, journal.Rmdir, journal.Rename, journal.Exchange}
	rec := journal.Record{Op: ops[r.IntN(len(ops))], Path: path(), Time: r.Int64(), Zone: "z", UID: r.Uint32(), GID: r.Uint32(), Mtime: -r.Int64()}
	rec.ETag, rec.VersionID = strings.Repeat("e", r.IntN(3)), strings.Repeat("v", r.IntN(3))
	rec.Mode = r.Uint32N(1<<12) &^ 0o6000
	switch rec.Op {
	case journal.Put:
		rec.Key, rec.Size, rec.Mode = "k\u2028", r.Int64(), rec.Mode|0o100000
		if rec.HasCRC = r.IntN(2) == 0; rec.HasCRC {
			rec.CRC64 = r.Uint64() >> r.IntN(65)
		}
	case journal.Symlink:
		rec.Target = path()
	case journal.Rename, journal.Exchange:
		rec.From = "\xfe-" + path() // never at or below Path
	}
	return rec
}

func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		records := make([]journal.Record, 1+r.IntN(20))
		for j := range records {
			records[j] = randomRecord(r)
			b, err := journal.Encode(records[j])
			if err != nil {
				t.Fatalf("%+v: %v", records[j], err)
			}
			got, err := journal.Decode(b)
			if err != nil || got != records[j] || bytes.IndexByte(b, '\n') >= 0 {
				t.Fatalf("%s: %v\n got %+v\nwant %+v", b, err, got, records[j])
			}
		}
		h := journal.Header{Zone: "z", Seq: r.Uint64() | 1, Made: r.Int64(), Epoch: "e1"}
		b, err := journal.EncodeBatch(h, records)
		if err != nil {
			t.Fatal(err)
		}
		gotH, got, bad, err := journal.DecodeBatch(b)
		if err != nil || len(bad) > 0 || !reflect.DeepEqual(gotH, h) || !slices.Equal(got, records) {
			t.Fatalf("batch %d: %v, %v, %+v\n got %+v\nwant %+v", i, err, bad, gotH, got, records)
		}
	}
}

// A flipped bit, a lost line, a cut: what is whole is read, and what is not is told.
func TestDamageCostsItsRecordAlone(t *testing.T) {
	b, err := journal.EncodeBatch(goldenHeader, golden)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	header := len(lines[0])
	for at := range b {
		damaged := bytes.Clone(b)
		damaged[at] ^= 1 << (at % 8)
		h, records, bad, err := journal.DecodeBatch(damaged)
		if at < header {
			if !errors.Is(err, journal.ErrInvalid) {
				t.Fatalf("header damaged at %d: %v", at, err)
			}
			continue
		}
		// A newline that is none joins two lines, one that was made cuts a line in two.
		if err != nil || !reflect.DeepEqual(h, goldenHeader) || len(bad) == 0 || len(records) < len(golden)-2 {
			t.Fatalf("damaged at %d: %v, %v, %d records", at, err, bad, len(records))
		}
		line := bytes.Count(b[:at], []byte("\n")) + 1
		if !strings.HasPrefix(bad[0].Error(), fmt.Sprintf("line %d: ", line)) {
			t.Fatalf("damaged at %d, in line %d: told %v", at, line, bad)
		}
		for _, r := range records {
			if !slices.Contains(golden, r) {
				t.Fatalf("damaged at %d: %+v was never written", at, r)
			}
		}
	}
	for cut := header; cut < len(b)-1; cut++ {
		_, records, bad, err := journal.DecodeBatch(b[:cut])
		if whole := bytes.Count(append(b[:cut:cut], '\n'), []byte("\n")) - 1; err != nil || len(bad) == 0 || len(records) < whole-1 {
			t.Fatalf("cut at %d: %v, %v, %d records", cut, err, bad, len(records))
		}
	}
	if _, records, bad, err := journal.DecodeBatch(append(bytes.Clone(b), lines[1]...)); err != nil || len(bad) != 1 || len(records) != len(golden) {
		t.Errorf("one line more than the header says: %v, %v, %d records", err, bad, len(records))
	}
}

func TestWhatIsNewer(t *testing.T) {
	h := framed(`{"format":2,"zone":7}`)
	if _, _, _, err := journal.DecodeBatch([]byte(h)); !errors.Is(err, journal.ErrNewer) {
		t.Errorf("a newer format: %v", err)
	}
	// A newer depotfs that writes this format: its fields are ignored, its operations cost their line.
	b := framed(`{"format":1,"zone":"z","seq":1,"made":1,"epoch":"e","records":3,"more":[1]}`) +
		framed(`{"op":"rmdir","path":"a","time":1,"more":{"x":1}}`) +
		framed(`{"op":"clone","path":["a"]}`) + framed(`{"op":"rmdir","path":"b","time":1}`)
	_, records, bad, err := journal.DecodeBatch([]byte(b))
	want := []journal.Record{{Op: journal.Rmdir, Path: "a", Time: 1}, {Op: journal.Rmdir, Path: "b", Time: 1}}
	if err != nil || len(bad) != 1 || !errors.Is(bad[0], journal.ErrUnknown) || !slices.Equal(records, want) {
		t.Errorf("read %+v, %v, %v", records, bad, err)
	}
}

func TestBatchBounds(t *testing.T) {
	long := journal.Record{Op: journal.Symlink, Path: "a" + strings.Repeat("/"+strings.Repeat("\\", 255), 15), Target: strings.Repeat("\x01", 4000), Zone: "z", Time: 1}
	one, err := journal.Encode(long)
	if err != nil || len(one) > journal.MaxRecord {
		t.Fatalf("%d bytes, %v", len(one), err)
	}
	short, err := journal.Encode(journal.Record{Op: journal.Rmdir, Path: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		record journal.Record
		size   int
	}{{"by bytes", long, len(one)}, {"by records", journal.Record{Op: journal.Rmdir, Path: "a"}, len(short)}} {
		n := 0
		for journal.Fits(n+1, (n+1)*tt.size) {
			n++
		}
		h := journal.Header{Zone: strings.Repeat("z", journal.MaxZone), Seq: math.MaxUint64, Made: math.MinInt64, Epoch: strings.Repeat("e", 64)}
		b, err := journal.EncodeBatch(h, slices.Repeat([]journal.Record{tt.record}, n))
		if err != nil || len(b) > journal.MaxBatch {
			t.Errorf("%s: %d records that fit: %d bytes, %v", tt.name, n, len(b), err)
		}
		if _, records, bad, err := journal.DecodeBatch(b); err != nil || len(bad) > 0 || len(records) != n {
			t.Errorf("%s: read %d of %d, %v, %v", tt.name, len(records), n, bad, err)
		}
		if _, err := journal.EncodeBatch(h, slices.Repeat([]journal.Record{tt.record}, n+30)); !errors.Is(err, journal.ErrTooLarge) {
			t.Errorf("%s: %d records: %v", tt.name, n+30, err)
		}
	}
	for _, text := range []string{strings.Repeat("x", journal.MaxBatch+1), framed(`{"format":1,"zone":"z","seq":1,"epoch":"e","records":5000}`)} {
		if _, _, _, err := journal.DecodeBatch([]byte(text)); !errors.Is(err, journal.ErrTooLarge) {
			t.Errorf("%.80s: %v", text, err)
		}
	}
	if _, err := journal.EncodeBatch(goldenHeader, nil); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("a batch of nothing: %v", err)
	}
}

func TestBadHeaders(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `[]`, `{"format":0,"zone":"z","seq":1,"epoch":"e","records":1}`, `{"format":1,"zone":"../z","seq":1,"epoch":"e","records":1}`,
		`{"format":1,"zone":"z","seq":0,"epoch":"e","records":1}`, `{"format":1,"zone":"z","seq":-1,"epoch":"e","records":1}`,
		`{"format":1,"zone":"z","seq":1,"epoch":"","records":1}`, `{"format":1,"zone":"z","seq":1,"epoch":"a/b","records":1}`,
		`{"format":1,"zone":"z","seq":1,"epoch":"e","records":-1}`, `{"format":1`,
	} {
		if _, _, _, err := journal.DecodeBatch([]byte(framed(text) + framed(`{"op":"rmdir","path":"a"}`))); !errors.Is(err, journal.ErrInvalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, _, _, err := journal.DecodeBatch([]byte(`{"format":1,"zone":"z","seq":1,"epoch":"e","records":1}`)); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("without a checksum: %v", err)
	}
}

// The batch that the manual shows is one.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/depot-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("```\n"))
	text, _, _ = bytes.Cut(text, []byte("```\n"))
	if h, records, bad, err := journal.DecodeBatch(text); err != nil || len(bad) > 0 || h.Zone != "ber1" || len(records) != 2 {
		t.Errorf("%s\nread %+v, %+v, %v, %v", text, h, records, bad, err)
	}
}

func TestBatchSaysWhatItsZoneHadSeen(t *testing.T) {
	b, err := journal.EncodeBatch(seenHeader, golden)
	if err != nil {
		t.Fatal(err)
	}
	if h, _, _, err := journal.DecodeBatch(b); err != nil || !reflect.DeepEqual(h, seenHeader) {
		t.Errorf("got %+v, %v\nwant %+v", h, err, seenHeader)
	}
	many := map[string]uint64{}
	for i := range journal.MaxSeen {
		many[strings.Repeat("z", journal.MaxZone-3)+fmt.Sprintf("%03d", i)] = math.MaxUint64
	}
	full := seenHeader
	full.Seen = many
	if b, err = journal.EncodeBatch(full, golden[:1]); err != nil || bytes.IndexByte(b, '\n') >= journal.HeaderSize {
		t.Errorf("a header of %d bytes, at most %d fit: %v", bytes.IndexByte(b, '\n'), journal.HeaderSize, err)
	}
	for _, bad := range []map[string]uint64{{"": 1}, {"../x": 1}, {"a": 0}} {
		full.Seen = bad
		if _, err := journal.EncodeBatch(full, golden); !errors.Is(err, journal.ErrInvalid) {
			t.Errorf("seen %v: %v", bad, err)
		}
	}
	many["one-more"] = 1
	full.Seen = many
	if _, err := journal.EncodeBatch(full, golden); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("seen of %d zones: %v", len(many), err)
	}
}
