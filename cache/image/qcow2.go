package image

// Marks of qcow2's header extensions, and of its features.
const (
	qcow2EndOfExtensions = 0
	qcow2DataFile        = 0x44415441
	qcow2Bitmaps         = 0x23852875
	qcow2Encryption      = 0x0537be77

	qcow2ExtendedL2 = 1 << 4 // incompatible feature: entries of 128 bits

	// qcow2Offset masks the offset in an entry of an L1 table or a table of bitmaps.
	qcow2Offset = 0x00ff_ffff_ffff_fe00
	// qcow2Blocks masks the offset in an entry of a refcount table.
	qcow2Blocks = ^uint64(0x1ff)
)

// qcow2Header is what the header of a qcow2 image says, after a look at its sanity.
type qcow2Header struct {
	bits      uint32 // a cluster has 1<<bits bytes
	virtual   uint64 // size of the disk in bytes
	backing   uint64 // where the name of the backing file is
	nameLen   uint64
	length    uint64 // of the header itself: extensions follow
	entry     uint64 // bytes of an entry of an L2 table
	refBits   uint64 // bits of a refcount
	l1, l1Len uint64 // the active L1 table; the length in bytes
	refs      uint64 // the refcount table
	refsLen   uint64
	snapshots uint64
	snapCount uint64
}

func (h *qcow2Header) cluster() uint64 { return 1 << h.bits }

// qcow2 plans images of versions 2 and 3.
func (w *walk) qcow2() {
	h, ok := w.qcow2Header()
	if !ok {
		return
	}
	if h.nameLen > 0 && h.nameLen <= 1023 {
		if name := w.get(Header, h.backing, h.nameLen); name != nil {
			w.sibling(string(name))
		}
	}
	l1 := w.prefix(Header, h.l1, h.l1Len)
	refs := w.prefix(Header, h.refs, h.refsLen)
	snapshots := w.qcow2Snapshots(h)
	w.qcow2Extensions(h)

	w.qcow2L2(h, l1, h.virtual)
	for _, s := range snapshots {
		w.qcow2L2(h, w.prefix(Metadata, s.l1, s.l1Len), s.virtual)
	}
	w.qcow2RefBlocks(h, refs)
}

func (w *walk) qcow2Header() (*qcow2Header, bool) {
	b := w.get(Header, 0, 72)
	if b == nil {
		return nil, false
	}
	h := &qcow2Header{
		bits: be.Uint32(b[20:]), virtual: be.Uint64(b[24:]), backing: be.Uint64(b[8:]), nameLen: uint64(be.Uint32(b[16:])),
		l1: be.Uint64(b[40:]), l1Len: 8 * uint64(be.Uint32(b[36:])), refs: be.Uint64(b[48:]),
		snapshots: be.Uint64(b[64:]), snapCount: uint64(be.Uint32(b[60:])),
		length: 72, entry: 8, refBits: 16,
	}
	version := be.Uint32(b[4:])
	if version != 2 && version != 3 || h.bits < 9 || h.bits > 21 {
		return nil, false
	}
	h.refsLen = uint64(be.Uint32(b[56:])) << h.bits
	if version == 3 {
		if b = w.get(Header, 0, 104); b == nil {
			return nil, false
		}
		order := be.Uint32(b[96:])
		if order > 6 {
			return nil, false
		}
		h.refBits, h.length = 1<<order, uint64(be.Uint32(b[100:]))
		if be.Uint64(b[72:])&qcow2ExtendedL2 != 0 {
			h.entry = 16
		}
	}
	return h, true
}

// qcow2L2 asks for the L2 tables that an L1 table of a disk names: of the last ones
// only as much as the disk is large.
func (w *walk) qcow2L2(h *qcow2Header, l1 []byte, virtual uint64) {
	perTable := h.cluster() / h.entry
	clusters := virtual>>h.bits + 1
	for i := 0; i+8 <= len(l1) && !w.full(Metadata); i += 8 {
		first := uint64(i/8) * perTable
		if first >= clusters {
			return
		}
		if off := be.Uint64(l1[i:]) & qcow2Offset; off != 0 {
			w.ask(Metadata, off, min(perTable, clusters-first)*h.entry)
		}
	}
}

// qcow2RefBlocks asks for the refcount blocks of clusters that are in the file:
// only who writes or checks reads them, so they come last.
func (w *walk) qcow2RefBlocks(h *qcow2Header, table []byte) {
	perBlock := h.cluster() * 8 / h.refBits
	clusters := uint64(w.plan.size)>>h.bits + 1
	for i := 0; i+8 <= len(table) && !w.full(Metadata); i += 8 {
		first := uint64(i/8) * perBlock
		if first >= clusters {
			return
		}
		if off := be.Uint64(table[i:]) & qcow2Blocks; off != 0 {
			w.ask(Metadata, off, (min(perBlock, clusters-first)*h.refBits+7)/8)
		}
	}
}

// qcow2Snapshot is a disk as it was.
type qcow2Snapshot struct{ l1, l1Len, virtual uint64 }

const (
	// qcow2SnapshotGuess is what an entry of the snapshot table takes with the names
	// and numbers that people give to snapshots. Its length is only known at its end.
	qcow2SnapshotGuess = 128
	qcow2MaxSnapshots  = 1 << 20 // bytes of the table that are read
)

// qcow2Snapshots reads the snapshot table: more of it where it turns out longer.
func (w *walk) qcow2Snapshots(h *qcow2Header) []qcow2Snapshot {
	if h.snapCount == 0 {
		return nil
	}
	for n := min(h.snapCount*qcow2SnapshotGuess, qcow2MaxSnapshots); ; n = min(2*n, qcow2MaxSnapshots) {
		table := w.prefix(Header, h.snapshots, n)
		found, whole := parseSnapshots(table, h)
		if table == nil || whole || n == qcow2MaxSnapshots || n >= w.rest(h.snapshots) {
			return found
		}
	}
}

// parseSnapshots reads the entries that are wholly in b, and says whether that is all.
func parseSnapshots(b []byte, h *qcow2Header) (found []qcow2Snapshot, whole bool) {
	const fixed = 40
	for range h.snapCount {
		if len(b) < fixed {
			return found, false
		}
		extra := uint64(be.Uint32(b[36:]))
		n := fixed + extra + uint64(be.Uint16(b[12:])) + uint64(be.Uint16(b[14:]))
		s := qcow2Snapshot{l1: be.Uint64(b), l1Len: 8 * uint64(be.Uint32(b[8:])), virtual: h.virtual}
		n = (n + 7) / 8 * 8
		if n > uint64(len(b)) {
			return found, false
		}
		if extra >= 16 {
			s.virtual = be.Uint64(b[fixed+8:])
		}
		found, b = append(found, s), b[n:]
	}
	return found, true
}

// qcow2Extensions reads the header extensions: names of external data files, and
// where things are that tools read when they open the image.
func (w *walk) qcow2Extensions(h *qcow2Header) {
	end := h.cluster()
	if h.backing > 0 {
		end = min(end, h.backing)
	}
	end = min(end, headSize)
	for off := h.length; off+8 <= end; {
		b := w.get(Header, off, 8)
		if b == nil || be.Uint32(b) == qcow2EndOfExtensions {
			return
		}
		kind, n := be.Uint32(b), uint64(be.Uint32(b[4:]))
		off += 8
		if n > end-off {
			return
		}
		data := w.get(Header, off, n)
		switch {
		case kind == qcow2DataFile && data != nil:
			w.sibling(string(data))
		case kind == qcow2Bitmaps && len(data) >= 24:
			w.qcow2Bitmaps(h, be.Uint64(data[16:]), be.Uint64(data[8:]), be.Uint32(data))
		case kind == qcow2Encryption && len(data) >= 16:
			w.ask(Header, be.Uint64(data), min(be.Uint64(data[8:]), page))
		}
		off += (n + 7) / 8 * 8
	}
}

// qcow2Bitmaps reads the directory of bitmaps, their tables and what these name: all
// of it is loaded when the image is opened.
func (w *walk) qcow2Bitmaps(h *qcow2Header, off, n uint64, count uint32) {
	const fixed = 24
	dir := w.prefix(Header, off, n)
	for range count {
		if len(dir) < fixed {
			return
		}
		table := w.prefix(Header, be.Uint64(dir), 8*uint64(be.Uint32(dir[8:])))
		for ; len(table) >= 8 && !w.full(Header); table = table[8:] {
			if data := be.Uint64(table) & qcow2Offset; data != 0 {
				w.ask(Header, data, h.cluster())
			}
		}
		n := fixed + uint64(be.Uint16(dir[18:])) + uint64(be.Uint32(dir[20:]))
		if n = (n + 7) / 8 * 8; n > uint64(len(dir)) {
			return
		}
		dir = dir[n:]
	}
}
