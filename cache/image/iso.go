package image

const (
	isoSector      = 2048
	isoFirst       = 16        // the sector of the first volume descriptor
	isoDescriptors = 32        // that are looked at; usual are four
	isoPathTable   = 1 << 20   // bytes of a path table that are read: 20,000 directories
	isoDirectory   = 256 << 10 // bytes of one directory that are asked for
	isoMaxDirs     = 8192      // that are looked at in one pass
	isoBootImage   = 64 << 10

	isoBoot          = 0
	isoPrimary       = 1
	isoSupplementary = 2 // Joliet
	isoEnd           = 255
)

// iso plans ISO 9660 volumes: both trees where there is a Joliet one, and what a
// machine boots from.
func (w *walk) iso() {
	for i := range uint64(isoDescriptors) {
		d := w.get(Header, (isoFirst+i)*isoSector, isoSector)
		if d == nil || string(d[1:6]) != "CD001" {
			return
		}
		switch d[0] {
		case isoBoot:
			w.elTorito(d)
		case isoPrimary, isoSupplementary:
			w.isoTree(d)
		case isoEnd:
			return
		}
	}
}

// isoTree asks for one volume's path table and directories. The table names all
// directories at once, so that the depth of the tree costs no round trips.
func (w *walk) isoTree(d []byte) {
	root := d[156:190]
	w.ask(Header, isoAt(le.Uint32(root[2:])), min(uint64(le.Uint32(root[10:])), isoDirectory))
	table := w.prefix(Header, isoAt(le.Uint32(d[140:])), min(uint64(le.Uint32(d[132:])), isoPathTable))
	for i := 0; i < isoMaxDirs && len(table) >= 8 && !w.full(Metadata); i++ {
		at := isoAt(le.Uint32(table[2:]) + uint32(table[1]))
		// A directory says in its first record how long it is.
		if dot := w.get(Metadata, at, isoSector); dot != nil && dot[0] >= 34 {
			w.ask(Metadata, at, min(uint64(le.Uint32(dot[10:])), isoDirectory))
		}
		n := 8 + (int(table[0])+1)/2*2
		table = table[min(n, len(table)):]
	}
}

// elTorito asks for the boot catalogue and for the first image that it names.
func (w *walk) elTorito(d []byte) {
	const id = "EL TORITO SPECIFICATION"
	if string(d[7:7+len(id)]) != id {
		return
	}
	catalogue := w.get(Header, isoAt(le.Uint32(d[71:])), isoSector)
	if catalogue == nil || catalogue[0] != 1 {
		return
	}
	entry := catalogue[32:64]
	w.ask(Metadata, isoAt(le.Uint32(entry[8:])), min(512*uint64(le.Uint16(entry[6:])), isoBootImage))
}

func isoAt(sector uint32) uint64 { return isoSector * uint64(sector) }
