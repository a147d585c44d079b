package image

const (
	mbrEntry     = 446
	mbrCount     = 4
	mbrProtected = 0xee // covers a disk with GPT

	gptMaxEntries = 128 // what all partitioning tools make

	// superblocks is how much of a partition is fetched: boot sectors, the first
	// superblocks of ext4 (1 KiB), XFS, NTFS, LVM and LUKS, and that of btrfs at 64 KiB.
	superblocks = 68 << 10
	// maxPartitions bounds the requests for them; more than an image for a machine has.
	maxPartitions = 16
)

// raw plans what has no format of its own, and fixed VHD: a disk as the guest sees it.
func (w *walk) raw() {
	if w.isFixedVHD() {
		w.plan.format = "vhd"
	}
	mbr := w.get(Header, 0, 512)
	if mbr == nil || mbr[510] != 0x55 || mbr[511] != 0xaa {
		return
	}
	var starts []uint64
	for i := range mbrCount {
		e := mbr[mbrEntry+16*i:]
		start, n := uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
		switch {
		case e[4] == 0 || n == 0 || start == 0:
		case e[4] == mbrProtected:
			starts = append(starts, w.gpt()...)
		case start*512 < uint64(w.plan.size): // else it is the code of a boot sector
			starts = append(starts, start*512)
		}
	}
	if len(starts) > 0 && w.plan.format == "" {
		w.plan.format = "raw"
	}
	for _, at := range starts[:min(len(starts), maxPartitions)] {
		w.ask(Metadata, at, superblocks)
	}
}

// gpt returns where the partitions begin.
func (w *walk) gpt() (starts []uint64) {
	for _, sector := range []uint64{512, 4096} {
		h := w.get(Header, sector, 92)
		if h == nil || string(h[:8]) != "EFI PART" {
			continue
		}
		at, count, size := le.Uint64(h[72:]), le.Uint32(h[80:]), uint64(le.Uint32(h[84:]))
		if size < 128 || size > page || at > uint64(w.plan.size)/sector {
			return nil
		}
		table := w.prefix(Header, at*sector, uint64(min(count, gptMaxEntries))*size)
		for ; uint64(len(table)) >= size; table = table[size:] {
			used := string(table[:16]) != vhdxNoGUID
			if first := le.Uint64(table[32:]); used && first <= uint64(w.plan.size)/sector {
				starts = append(starts, first*sector)
			}
		}
		return starts
	}
	return nil
}
