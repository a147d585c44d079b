package image

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"depotfs/cache/extent"
)

// remote is a file of which only what was fetched can be read.
type remote struct {
	data io.ReaderAt
	size int64
	here extent.Set

	rounds   [classes]int
	requests [classes]int
	read     int64 // bytes, in this round
}

var errNotHere = errors.New("not here")

func (r *remote) ReadAt(b []byte, off int64) (int, error) {
	if !r.here.Contains(off, off+int64(len(b))) {
		return 0, errNotHere
	}
	r.read += int64(len(b))
	return r.data.ReadAt(b, off)
}

// follow fetches what a plan asks for, round by round, and holds what every plan
// promises, whatever the bytes are.
func (r *remote) follow(t testing.TB, p *Plan, upto Class) {
	t.Helper()
	for class := range upto + 1 {
		for {
			r.read = 0
			need := p.Next(r, class)
			if r.read > maxRead {
				t.Fatalf("%s: reads %d bytes in one round", p.format, r.read)
			}
			if len(need) == 0 {
				break
			}
			r.rounds[class]++
			r.requests[class] += len(need)
			for _, m := range need {
				if m.Off < 0 || m.Off >= m.End || m.End > r.size {
					t.Fatalf("%s of %d bytes: asks for %v", p.format, r.size, m)
				}
				if len(r.here.Overlap(m.Off, m.End)) > 0 {
					t.Fatalf("%s: asks for %v again", p.format, m)
				}
				r.here.Add(m.Off, m.End)
			}
			if r.rounds[class] > maxRounds || r.requests[class] > 2*maxRequests || r.here.Len() > maxHeader+maxMetadata {
				t.Fatalf("%s: %d rounds, %d requests, %d bytes", p.format, r.rounds[class], r.requests[class], r.here.Len())
			}
		}
	}
	if len(p.Siblings()) > maxSiblings {
		t.Fatalf("%d siblings", len(p.Siblings()))
	}
	for _, name := range p.Siblings() {
		if name == p.name || filepath.Base(name) != name || name == "." || name == ".." || len(name) > maxName {
			t.Fatalf("sibling %q of %q", name, p.name)
		}
	}
}

// followBytes is follow for a file in memory; zeros follow data up to size.
func followBytes(t testing.TB, name string, data []byte, size int64) (*Plan, *remote) {
	t.Helper()
	r := &remote{data: padded(data), size: size}
	p := New(name, size)
	r.follow(t, p, Metadata)
	return p, r
}

// padded is bytes with zeros behind them for ever.
type padded []byte

func (d padded) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(d)) {
		n = copy(b, d[off:])
	}
	clear(b[n:])
	return len(b), nil
}

// keep writes what was fetched of a file to another place, with junk for the rest:
// who reads that cannot say what it says of the file.
func (r *remote) keep(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	junk := bytes.Repeat([]byte{0xee}, 1<<20)
	for _, m := range r.here.Missing(0, r.size) {
		for off := m.Off; off < m.End; off += int64(len(junk)) {
			if _, err := f.WriteAt(junk[:min(int64(len(junk)), m.End-off)], off); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, m := range r.here.Ranges() {
		if _, err := io.Copy(io.NewOffsetWriter(f, m.Off), io.NewSectionReader(r.data, m.Off, m.End-m.Off)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnknownFilesCostTheFirstRoundOnly(t *testing.T) {
	const size = 2 << 30
	junk := bytes.Repeat([]byte("nothing that anybody knows "), 20_000)
	for _, test := range []struct {
		name string
		want int64
	}{
		{"disk", headSize + tailSize},
		{"disk.raw", headSize + tailSize},
		{"disk.VHD", headSize + tailSize},
		{"disk.qcow2", headSize},
		{"CD.ISO", headSize},
	} {
		p, r := followBytes(t, test.name, junk, size)
		if got := r.here.Len(); got != test.want || r.rounds != [classes]int{1, 0} || p.Format() != "" {
			t.Errorf("%s: %d bytes in %v rounds, format %q; want %d in one", test.name, got, r.rounds, p.Format(), test.want)
		}
	}
}

func TestSmallFilesAreAskedForWhole(t *testing.T) {
	for _, size := range []int64{0, 1, 511, headSize, headSize + 1, headSize + tailSize} {
		_, r := followBytes(t, "disk", nil, size)
		if r.here.Len() != size {
			t.Errorf("of %d bytes %d are asked for", size, r.here.Len())
		}
	}
	if p := New("disk", -1); p.Next(padded(nil), Header) != nil {
		t.Error("something is asked of a file with a negative size")
	}
}

func TestWorthwhile(t *testing.T) {
	for name, from := range map[string]int64{"disk": minSize, "x.properties": minSize, "small.VMDK": 1, "delta.qcow2": 1, "delta.vhd": 1, "cd.iso": minSize} {
		if Worthwhile(name, from-1) || !Worthwhile(name, from) {
			t.Errorf("%s is not worth a plan from %d bytes on", name, from)
		}
	}
}

// A plan whose bytes do not come ends, and asks for nothing twice.
func TestBytesThatDoNotCome(t *testing.T) {
	p := New("disk.vhd", 1<<30)
	nothing := &remote{}
	if need := p.Next(nothing, Header); len(need) != 2 {
		t.Fatalf("the first round is %v", need)
	}
	for class := range classes {
		if need := p.Next(nothing, class); need != nil {
			t.Errorf("class %d: asks for %v though nothing came", class, need)
		}
	}
}

func TestSiblingNames(t *testing.T) {
	for name, want := range map[string]string{
		"base.qcow2": "base.qcow2", "./base": "base", ".//x/.": "x", "...": "...", "-rf": "-rf", " ": " ",
		"": "", ".": "", "/": "", "/etc/shadow": "", "..": "", "../x": "", "a/../x": "", "a/b": "", "nbd://host/x": "",
		"json:{}": "", "x\x00y": "", string(bytes.Repeat([]byte("x"), 256)): "",
		string(bytes.Repeat([]byte("x"), 255)): string(bytes.Repeat([]byte("x"), 255)),
	} {
		if got, ok := siblingName(name); got != want || ok != (want != "") {
			t.Errorf("%q means %q, %v; want %q", name, got, ok, want)
		}
	}
	w := &walk{plan: New("self", 1)}
	for _, name := range []string{"self", "./self", "a", "a", "b"} {
		w.sibling(name)
	}
	if want := []string{"a", "b"}; !slices.Equal(w.plan.siblings, want) {
		t.Errorf("siblings %q, want %q", w.plan.siblings, want)
	}
	for i := range 2 * maxSiblings {
		w.sibling(string(rune('c' + i)))
	}
	if len(w.plan.siblings) != maxSiblings {
		t.Errorf("%d siblings", len(w.plan.siblings))
	}
}

// Ranges that lie close together are one request; what is between them is paid for.
func TestNearRangesAreOneRequest(t *testing.T) {
	p := New("x", 1<<30)
	w := &walk{plan: p, upto: Metadata}
	w.ask(Metadata, 1<<20, 100)
	w.ask(Metadata, 1<<20+20_000, 100)
	w.ask(Metadata, 8<<20, 1)
	w.ask(Metadata, 7<<20, 1)
	w.ask(Metadata, 1<<30-1, 100)
	want := []Range{{Off: 1 << 20, End: 1<<20 + 20480}, {Off: 8 << 20, End: 8<<20 + page}, {Off: 7 << 20, End: 7<<20 + page}, {Off: 1<<30 - page, End: 1 << 30}}
	if !slices.Equal(w.need, want) {
		t.Errorf("asks for %v, want %v", w.need, want)
	}
	if used := maxMetadata - p.bytes[Metadata]; used != 20480+3*page || p.requests[Metadata] != maxRequests-4 {
		t.Errorf("%d bytes and %d requests are left", p.bytes[Metadata], p.requests[Metadata])
	}
}
