package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"testing"
	"unicode/utf16"
)

// Small builders of what no tool here makes. They follow the formats' documents, not
// the parsers.

// wide is text in UTF-16.
func wide(s string, put func([]byte, uint16)) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		var b [2]byte
		put(b[:], u)
		out = append(out, b[:]...)
	}
	return out
}

// vhdOf makes the beginning of a dynamic or differencing VHD with a table at 64 KiB.
func vhdOf(kind uint32, creator string, entries uint32, parent string, locators map[string][]byte) []byte {
	b := make([]byte, 8<<10)
	copy(b, "conectix")
	be.PutUint64(b[16:], 512)
	copy(b[28:32], creator)
	be.PutUint32(b[60:], kind)
	h := b[512:]
	copy(h, "cxsparse")
	be.PutUint64(h[16:], 1<<20)
	be.PutUint32(h[28:], entries)
	copy(h[64:], wide(parent, be.PutUint16))
	i, at := 0, 2048
	for kind, data := range locators {
		l := h[576+24*i:]
		copy(l, kind)
		be.PutUint32(l[4:], 1)
		be.PutUint32(l[8:], uint32(len(data)))
		be.PutUint64(l[16:], uint64(at))
		copy(b[at:], data)
		i, at = i+1, at+1024
	}
	return b
}

// vhdxOf makes the beginning of a VHDX file whose metadata is at 2 MiB and whose
// table is at 3 MiB, with a log where log is set.
func vhdxOf(log bool, parent string) []byte {
	b := make([]byte, 4<<20)
	copy(b, "vhdxfile")
	for i, at := range []int{64 << 10, 128 << 10} {
		h := b[at:]
		copy(h, "head")
		le.PutUint64(h[8:], uint64(7+i))
		if log && i == 1 {
			copy(h[48:], "some log's GUID!")
		}
		le.PutUint32(h[68:], 1<<20)
		le.PutUint64(h[72:], 1<<20)
	}
	r := b[192<<10:]
	copy(r, "regi")
	le.PutUint32(r[8:], 2)
	copy(r[16:], vhdxBAT)
	le.PutUint64(r[32:], 3<<20)
	le.PutUint32(r[40:], 1<<20)
	copy(r[48:], vhdxMetadata)
	le.PutUint64(r[64:], 2<<20)
	le.PutUint32(r[72:], 1<<20)
	m := b[2<<20:]
	copy(m, "metadata")
	le.PutUint16(m[10:], 1)
	copy(m[32:], vhdxParent)
	le.PutUint32(m[48:], 64<<10)
	item := m[64<<10:]
	key, value := wide("relative_path", le.PutUint16), wide(parent, le.PutUint16)
	le.PutUint16(item[18:], 1)
	le.PutUint32(item[20:], 32)
	le.PutUint32(item[24:], uint32(32+len(key)))
	le.PutUint16(item[28:], uint16(len(key)))
	le.PutUint16(item[30:], uint16(len(value)))
	copy(item[32:], key)
	copy(item[32+len(key):], value)
	le.PutUint32(m[52:], uint32(32+len(key)+len(value)))
	return b
}

// gptOf makes a protective MBR and a GPT with partitions at the given sectors.
func gptOf(starts ...uint64) []byte {
	b := make([]byte, 34*512)
	b[510], b[511] = 0x55, 0xaa
	b[446+4] = 0xee
	le.PutUint32(b[446+8:], 1)
	le.PutUint32(b[446+12:], 1<<20)
	copy(b[512:], "EFI PART")
	le.PutUint64(b[512+72:], 2)
	le.PutUint32(b[512+80:], 128)
	le.PutUint32(b[512+84:], 128)
	for i, s := range starts {
		e := b[1024+128*i:]
		copy(e, "a partition type")
		le.PutUint64(e[32:], s)
		le.PutUint64(e[40:], s+100)
	}
	return b
}

// mbrOf makes a partition table with partitions at the given sectors.
func mbrOf(starts ...uint32) []byte {
	b := make([]byte, 512)
	b[510], b[511] = 0x55, 0xaa
	for i, s := range starts {
		e := b[446+16*i:]
		e[4] = 0x83
		le.PutUint32(e[8:], s)
		le.PutUint32(e[12:], 100)
	}
	return b
}

// member is one file of an archive; a body of nil has size zeros.
type member struct {
	name string
	size int64
	body []byte
}

// ovfOf is a descriptor that refers to files.
func ovfOf(files ...member) []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0"?><Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"><References>`)
	for i, f := range files {
		fmt.Fprintf(&b, `<File ovf:href=%q ovf:id="file%d" ovf:size="%d"/>`, f.name, i, f.size)
	}
	b.WriteString(`</References><DiskSection/></Envelope>`)
	return b.Bytes()
}

// archive is a tar file of which only headers and bodies are kept; it is as long as
// its members say.
type archive struct {
	pieces []piece
	size   int64
}

type piece struct {
	off  int64
	data []byte
}

func (a *archive) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	for _, p := range a.pieces {
		if lo, hi := max(p.off, off), min(p.off+int64(len(p.data)), off+int64(len(b))); lo < hi {
			copy(b[lo-off:hi-off], p.data[lo-p.off:])
		}
	}
	if off+int64(len(b)) > a.size {
		return int(max(0, a.size-off)), io.EOF
	}
	return len(b), nil
}

func archiveOf(t testing.TB, format tar.Format, members ...member) *archive {
	t.Helper()
	a := &archive{}
	for _, m := range members {
		size := max(m.size, int64(len(m.body)))
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: m.name, Size: size, Mode: 0o644, Format: format}); err != nil {
			t.Fatal(err)
		}
		b.Write(m.body)
		a.pieces = append(a.pieces, piece{a.size, bytes.Clone(b.Bytes())})
		a.size += int64(b.Len()-len(m.body)) + (size+511)/512*512
	}
	a.size += 1024
	return a
}
