package image

import "strings"

const (
	vhdCookie    = "conectix"
	vhdFooter    = 512
	vhdHeader    = 1024
	vhdFixed     = 2
	vhdDiffering = 4
	vhdNoOffset  = ^uint64(0)
)

// dynamicVHD plans dynamic and differencing disks, which begin with a copy of their
// footer.
func (w *walk) dynamicVHD() {
	footer := w.get(Header, 0, vhdFooter)
	if footer == nil {
		return
	}
	w.ask(Header, uint64(max(0, w.plan.size-vhdFooter)), vhdFooter)
	at := be.Uint64(footer[16:])
	if at == vhdNoOffset {
		return
	}
	h := w.get(Header, at, vhdHeader)
	if h == nil || string(h[:8]) != "cxsparse" {
		return
	}
	// The allocation table is read as a whole by all who open it. tapdisk and
	// vhd-util keep a map of it behind it: a sector that describes it, and a bit for each entry.
	entries := uint64(be.Uint32(h[28:]))
	n := (4*entries + 511) / 512 * 512
	if strings.HasPrefix(string(footer[28:32]), "tap") {
		n += 512 + (entries/8+511)/512*512
	}
	w.ask(Header, be.Uint64(h[16:]), min(n, maxTable))
	if be.Uint32(footer[60:]) == vhdDiffering {
		w.vhdParent(h)
	}
}

// vhdParent finds the name of the parent: relative locators first, then the name that
// it had when the disk was made.
func (w *walk) vhdParent(h []byte) {
	const locators, count, size = 576, 8, 24
	for i := range count {
		l := h[locators+i*size:]
		kind, n, off := string(l[:4]), uint64(be.Uint32(l[8:])), be.Uint64(l[16:])
		if n == 0 || n > 4*maxName {
			continue
		}
		switch kind {
		case "W2ru": // relative, as Windows writes paths
			w.windowsSibling(utf16Text(w.get(Header, off, n), le.Uint16))
		case "MacX": // a URI, which blktap uses for relative paths
			uri := string(w.get(Header, off, n))
			w.sibling(strings.TrimRight(strings.TrimPrefix(uri, "file://"), "\x00"))
		}
	}
	w.windowsSibling(utf16Text(h[64:64+512], be.Uint16))
}

// isFixedVHD says whether the file ends with the footer of a fixed disk; what is
// before it is a raw image.
func (w *walk) isFixedVHD() bool {
	if w.plan.size < vhdFooter || !endsMatter(w.plan.name) {
		return false
	}
	footer := w.get(Header, uint64(w.plan.size-vhdFooter), vhdFooter)
	return footer != nil && string(footer[:8]) == vhdCookie && be.Uint32(footer[60:]) == vhdFixed
}
