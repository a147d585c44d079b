package image

import (
	"bytes"
	"encoding/xml"
	"strconv"
	"strings"
)

const (
	tarBlock      = 512
	tarRecord     = 20 * tarBlock // what tar reads at a time, wherever it seeks to
	tarMaxMembers = 256
	tarPax        = 'x'
	ovfMaxSize    = 1 << 20 // bytes of a descriptor that are read
	ovfMaxFiles   = 64
)

// tar plans an OVA: an archive whose first file is an OVF descriptor. That says how
// large the members after it are, so their headers are asked for all at once; where it
// is wrong they come one after the other. Other archives are read from end to end by
// all who read them: nothing of them comes first.
func (w *walk) tar() {
	var files []ovfFile
	paxSize := uint64(0)
	class := Header
	for i, off := 0, uint64(0); i < tarMaxMembers; i++ {
		w.askRecord(class, off)
		h := w.get(class, off, tarBlock)
		name, size, ok := tarHeader(h)
		if !ok {
			return
		}
		kind := h[156]
		if paxSize > 0 && kind != tarPax {
			size, paxSize = paxSize, 0
		}
		body := off + tarBlock
		switch {
		case kind == tarPax:
			paxSize = paxLength(w.prefix(class, body, min(size, page)))
		case class == Metadata:
		case strings.HasSuffix(strings.ToLower(name), ".ovf"):
			w.plan.format, class = "ova", Metadata
			files = ovfFiles(w.prefix(Header, body, min(size, ovfMaxSize)))
		default:
			return
		}
		if size > w.rest(body) {
			return
		}
		off = body + (size+tarBlock-1)/tarBlock*tarBlock
		if class == Metadata {
			w.tarGuess(off, name, files)
		}
	}
}

// tarGuess asks for the headers that follow when the members come in the order in
// which the descriptor lists them.
func (w *walk) tarGuess(off uint64, last string, files []ovfFile) {
	for i, f := range files {
		if f.name == last {
			files = files[i+1:]
			break
		}
	}
	for _, f := range files {
		w.askRecord(Metadata, off)
		if f.size > w.rest(off) {
			return
		}
		off += tarBlock + (f.size+tarBlock-1)/tarBlock*tarBlock
	}
	w.askRecord(Metadata, off)
}

// askRecord asks for the record that a header is in, and for the block behind it: two
// empty ones are the archive's end.
func (w *walk) askRecord(class Class, off uint64) {
	record := off / tarRecord * tarRecord
	w.ask(class, record, max(tarRecord, off-record+2*tarBlock))
}

// tarHeader reads a header block; ok is false for what is none, or the archive's end.
func tarHeader(h []byte) (name string, size uint64, ok bool) {
	if h == nil {
		return "", 0, false
	}
	const from, to = 148, 156 // the checksum, which counts as blanks itself
	sum := uint64(0)
	for i, c := range h {
		if i >= from && i < to {
			c = ' '
		}
		sum += uint64(c)
	}
	if want, ok := tarNumber(h[from:to]); !ok || want != sum {
		return "", 0, false
	}
	size, ok = tarNumber(h[124:136])
	name, _, _ = strings.Cut(string(h[:100]), "\x00")
	return name, size, ok
}

// tarNumber reads a number in octal digits, or as GNU tar writes large ones: binary.
func tarNumber(b []byte) (n uint64, ok bool) {
	if b[0]&0x80 != 0 {
		for i, c := range b {
			if i == 0 {
				c &= 0x7f
			}
			if n>>55 != 0 {
				return 0, false
			}
			n = n<<8 | uint64(c)
		}
		return n, true
	}
	n, err := strconv.ParseUint(string(bytes.Trim(b, " \x00")), 8, 63)
	return n, err == nil
}

// paxLength finds the size of the next member in an extended header, whose records are
//
//	24 size=10737418240
func paxLength(b []byte) uint64 {
	for line := range strings.Lines(string(b)) {
		_, record, _ := strings.Cut(line, " ")
		if value, ok := strings.CutPrefix(record, "size="); ok {
			n, _ := strconv.ParseUint(strings.TrimSuffix(value, "\n"), 10, 63)
			return n
		}
	}
	return 0
}

// ovfFile is a file that a descriptor refers to.
type ovfFile struct {
	name string
	size uint64
}

// ovfFiles reads the references of an OVF descriptor, which stand at its beginning.
func ovfFiles(b []byte) (files []ovfFile) {
	dec := xml.NewDecoder(bytes.NewReader(b))
	dec.Strict = false
	for len(files) < ovfMaxFiles {
		token, err := dec.RawToken()
		if err != nil {
			return files
		}
		switch e := token.(type) {
		case xml.StartElement:
			if e.Name.Local != "File" {
				continue
			}
			var f ovfFile
			for _, a := range e.Attr {
				switch a.Name.Local {
				case "href":
					f.name = a.Value
				case "size":
					f.size, _ = strconv.ParseUint(a.Value, 10, 63)
				}
			}
			files = append(files, f)
		case xml.EndElement:
			if e.Name.Local == "References" {
				return files
			}
		}
	}
	return files
}
