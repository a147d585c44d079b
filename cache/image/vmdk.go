package image

import "strings"

const (
	vmdkSector     = 512
	vmdkAtEnd      = ^uint64(0) // for the grain directory: the footer says where it is
	vmdkFooter     = 1024       // the footer begins so many bytes before the end
	vmdkMaxEntries = 4096       // of a grain table; all who write VMDK use 512
	vmdkDescriptor = 64 << 10   // bytes of a descriptor that are read
)

// vmdk plans sparse extents: monolithic, split or stream-optimised.
func (w *walk) vmdk() {
	h := w.get(Header, 0, vmdkSector)
	if h == nil {
		return
	}
	w.vmdkText(w.prefix(Header, sectors(le.Uint64(h[28:])), min(sectors(le.Uint64(h[36:])), vmdkDescriptor)))
	if le.Uint64(h[56:]) == vmdkAtEnd {
		if w.plan.size < vmdkFooter+vmdkSector {
			return
		}
		// The footer's marker is before it, the end-of-stream marker behind it.
		at := uint64(w.plan.size - vmdkFooter)
		w.ask(Header, at-vmdkSector, vmdkFooter+vmdkSector)
		h = w.get(Header, at, vmdkSector)
		if h == nil || string(h[:4]) != "KDMV" {
			return
		}
	}
	entries := uint64(le.Uint32(h[44:]))
	capacity, grain := le.Uint64(h[12:]), le.Uint64(h[20:])
	if entries == 0 || entries > vmdkMaxEntries || grain == 0 || grain > 1<<32 {
		return
	}
	perTable := entries * grain // sectors; no overflow: 2^12 * 2^32
	tables := capacity / perTable
	if capacity%perTable != 0 {
		tables++
	}
	n := min(tables, maxTable/4) * 4
	directory := w.prefix(Header, sectors(le.Uint64(h[56:])), n)
	if spare := sectors(le.Uint64(h[48:])); spare != 0 {
		w.ask(Header, spare, n)
	}
	for ; len(directory) >= 4 && !w.full(Metadata); directory = directory[4:] {
		if table := uint64(le.Uint32(directory)); table != 0 {
			w.ask(Metadata, sectors(table), 4*entries)
		}
	}
}

// sectors is so many of them in bytes; more than any file has where that overflows.
func sectors(n uint64) uint64 {
	if n > ^uint64(0)/vmdkSector {
		return ^uint64(0)
	}
	return n * vmdkSector
}

// vmdkDescriptor plans a descriptor that is a file by itself: all that matters is
// which files it names.
func (w *walk) vmdkDescriptor() {
	w.vmdkText(w.prefix(Header, 0, vmdkDescriptor))
}

// vmdkText reads a descriptor. A line of an extent is
//
//	RW 4192256 SPARSE "disk-s001.vmdk"
func (w *walk) vmdkText(text []byte) {
	for line := range strings.Lines(string(text)) {
		before, rest, quoted := strings.Cut(strings.TrimRight(line, "\r\n\x00"), `"`)
		name, _, ended := strings.Cut(rest, `"`)
		if !quoted || !ended {
			continue
		}
		word, _, _ := strings.Cut(strings.TrimSpace(before), " ")
		switch word {
		case "RW", "RDONLY":
			w.sibling(name)
		case "parentFileNameHint=":
			w.windowsSibling(name)
		}
	}
}
