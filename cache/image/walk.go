package image

import (
	"bytes"
	"encoding/binary"
	"io"
)

// walk is one pass of a parser over the bytes that are here. A parser is a function
// of the file: it begins at the file's first byte in every pass, and where bytes are
// missing it has asked for them and leaves that branch. So what was found independent
// of each other is fetched in one round, and there is no state to go wrong between.
type walk struct {
	plan *Plan
	src  io.ReaderAt
	upto Class // less urgent ones are not looked at yet
	need []Range
	read int64 // bytes that were read, often more than once
}

// ask wants n bytes at off, as far as the file and the bounds of the class go.
func (w *walk) ask(class Class, off, n uint64) {
	p, size := w.plan, uint64(w.plan.size)
	if class > w.upto || n == 0 || off >= size {
		return
	}
	end := off + min(n, size-off)
	lo, hi := off/page*page, min((end+page-1)/page*page, size)
	for _, m := range p.asked.Missing(int64(lo), int64(hi)) {
		w.add(class, m)
	}
}

// add puts a range that was not asked for before on the list.
func (w *walk) add(class Class, m Range) {
	p := w.plan
	var last *Range
	if i := len(w.need) - 1; i >= 0 && w.need[i].End <= m.Off && m.Off-w.need[i].End <= joinGap {
		gap := p.asked.Missing(w.need[i].End, m.Off)
		if w.need[i].End == m.Off || len(gap) == 1 && gap[0] == (Range{Off: w.need[i].End, End: m.Off}) {
			last = &w.need[i]
			m.Off = last.End
		}
	}
	m.End = min(m.End, m.Off+p.bytes[class])
	if m.Off >= m.End || last == nil && p.requests[class] == 0 {
		return
	}
	p.bytes[class] -= m.End - m.Off
	p.asked.Add(m.Off, m.End)
	if last != nil {
		last.End = m.End
		return
	}
	p.requests[class]--
	w.need = append(w.need, m)
}

// full says whether nothing more can be asked for in the class.
func (w *walk) full(class Class) bool {
	return class > w.upto || w.plan.bytes[class] == 0
}

// get returns n bytes at off, or nil and asks for them where they are not here. It
// is nil as well for what is not in the file, or larger than any table.
func (w *walk) get(class Class, off, n uint64) []byte {
	size := uint64(w.plan.size)
	if class > w.upto || n == 0 || n > maxTable || off > size || n > size-off {
		return nil
	}
	w.ask(class, off, n)
	if w.read += int64(n); w.read > maxRead {
		return nil
	}
	b := make([]byte, n)
	if m, _ := w.src.ReadAt(b, int64(off)); m < len(b) {
		return nil
	}
	return b
}

// prefix is get for a table of which only the beginning may be in the file, or may
// be looked at.
func (w *walk) prefix(class Class, off, n uint64) []byte {
	size := uint64(w.plan.size)
	if off >= size {
		return nil
	}
	return w.get(class, off, min(n, size-off, maxTable))
}

// rest is how many bytes the file has from off on.
func (w *walk) rest(off uint64) uint64 {
	return uint64(w.plan.size) - min(off, uint64(w.plan.size))
}

// formats are told apart by what is at fixed places, in this order: the most telling
// marks first, since a raw image may begin with anything.
var formats = []struct {
	name  string
	at    uint64
	magic string
	parse func(w *walk)
}{
	{"qcow2", 0, "QFI\xfb", (*walk).qcow2},
	{"vhd", 0, vhdCookie, (*walk).dynamicVHD},
	{"vhdx", 0, "vhdxfile", (*walk).vhdx},
	{"vmdk", 0, "KDMV", (*walk).vmdk},
	{"vmdk", 0, "# Disk DescriptorFile", (*walk).vmdkDescriptor},
	{"iso", isoFirst*isoSector + 1, "CD001", (*walk).iso},
	{"tar", 257, "ustar", (*walk).tar},
}

// detect finds out what the file is and has that format's parser look at it.
func (w *walk) detect() {
	for i := range formats {
		f := &formats[i]
		if b := w.get(Header, f.at, uint64(len(f.magic))); bytes.Equal(b, []byte(f.magic)) {
			w.plan.format = f.name
			f.parse(w)
			return
		}
	}
	w.raw()
}

var (
	be = binary.BigEndian
	le = binary.LittleEndian
)
