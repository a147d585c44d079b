package image

import "strings"

// Where a VHDX file has what, and how it names it; GUIDs are as they are on disk.
const (
	vhdxHeader1 = 64 << 10
	vhdxHeader2 = 128 << 10
	vhdxRegions = 192 << 10
	vhdxSpare   = 256 << 10 // the second region table
	vhdxTable   = 64 << 10  // size of region and metadata tables
	vhdxEntries = 2047      // the most that a region table has

	vhdxBAT      = "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08"
	vhdxMetadata = "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e"
	vhdxParent   = "\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c"
	vhdxNoGUID   = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// vhdx plans VHDX files of all kinds.
func (w *walk) vhdx() {
	w.vhdxLog()
	regions := w.get(Header, vhdxRegions, vhdxTable)
	if regions != nil && string(regions[:4]) != "regi" {
		if regions = w.get(Header, vhdxSpare, vhdxTable); regions != nil && string(regions[:4]) != "regi" {
			return
		}
	}
	if regions == nil {
		return
	}
	for i := range min(uint64(le.Uint32(regions[8:])), vhdxEntries) {
		e := regions[16+32*i:]
		off, n := le.Uint64(e[16:]), uint64(le.Uint32(e[24:]))
		switch string(e[:16]) {
		case vhdxBAT: // read as a whole by all who open it
			w.ask(Header, off, min(n, maxTable))
		case vhdxMetadata:
			w.vhdxItems(off, n)
		}
	}
}

// vhdxLog asks for the log where it has something to be replayed.
func (w *walk) vhdxLog() {
	var current []byte
	for _, at := range []uint64{vhdxHeader1, vhdxHeader2} {
		h := w.get(Header, at, page)
		if h != nil && string(h[:4]) == "head" && (current == nil || le.Uint64(h[8:]) > le.Uint64(current[8:])) {
			current = h
		}
	}
	if current != nil && string(current[48:64]) != vhdxNoGUID {
		w.ask(Header, le.Uint64(current[72:]), min(uint64(le.Uint32(current[68:])), maxTable))
	}
}

// vhdxItems reads the metadata region: a table, and the items that it names behind
// it, which are asked for together with it.
func (w *walk) vhdxItems(off, n uint64) {
	w.ask(Header, off, min(n, 2*vhdxTable))
	table := w.get(Header, off, vhdxTable)
	if table == nil || string(table[:8]) != "metadata" {
		return
	}
	for i := range min(uint64(le.Uint16(table[10:])), vhdxEntries) {
		e := table[32+32*i:]
		at, size := uint64(le.Uint32(e[16:])), uint64(le.Uint32(e[20:]))
		if size == 0 || at > n || size > n-at || off > uint64(w.plan.size) {
			continue
		}
		if string(e[:16]) != vhdxParent {
			w.ask(Header, off+at, min(size, page))
			continue
		}
		w.vhdxLocator(w.get(Header, off+at, min(size, vhdxTable)))
	}
}

// vhdxLocator finds the parent's name among keys and values.
func (w *walk) vhdxLocator(b []byte) {
	if len(b) < 20 {
		return
	}
	text := func(off uint32, n uint16) string {
		if uint64(off)+uint64(n) > uint64(len(b)) {
			return ""
		}
		return utf16Text(b[off:uint64(off)+uint64(n)], le.Uint16)
	}
	for i := range int(le.Uint16(b[18:])) {
		if 20+12*(i+1) > len(b) {
			return
		}
		e := b[20+12*i:]
		if key := text(le.Uint32(e), le.Uint16(e[8:])); strings.EqualFold(key, "relative_path") {
			w.windowsSibling(text(le.Uint32(e[4:]), le.Uint16(e[10:])))
		}
	}
}
