package image

import (
	"archive/tar"
	"slices"
	"testing"
)

func TestVHDParents(t *testing.T) {
	locators := map[string][]byte{
		"W2ru": wide(`.\relative.vhd`, le.PutUint16),
		"MacX": []byte("file://./mac.vhd"),
		"W2ku": wide(`C:\somewhere\else.vhd`, le.PutUint16),
	}
	data := vhdOf(vhdDiffering, "tap\x00", 100_000, "at-creation.vhd", locators)
	p, r := followBytes(t, "child.vhd", data, 1<<30)
	got := slices.Clone(p.Siblings())
	slices.Sort(got)
	if want := []string{"at-creation.vhd", "mac.vhd", "relative.vhd"}; !slices.Equal(got, want) {
		t.Errorf("siblings %q, want %q", got, want)
	}
	// 400,000 bytes of table, then tapdisk's map: its header, and a bit for each entry.
	const end = 1<<20 + 400_384 + 512 + 12_800
	if !p.asked.Contains(1<<20, end) || p.asked.Contains(1<<20, end+page) || r.rounds != [classes]int{2, 0} {
		t.Errorf("the table is not asked for as it is: %v in %v rounds", r.here.Ranges(), r.rounds)
	}

	data = vhdOf(3, "qem2", 100_000, "not-a-parent.vhd", nil)
	p, _ = followBytes(t, "dynamic.qcow2", data, 1<<30)
	if len(p.Siblings()) > 0 || p.asked.Contains(1<<20, end) || !p.asked.Contains(1<<20, 1<<20+400_384) || !p.asked.Contains(1<<30-512, 1<<30) {
		t.Errorf("a dynamic disk with a wrong name: siblings %q", p.Siblings())
	}
}

func TestVHDXParentAndLog(t *testing.T) {
	for _, log := range []bool{false, true} {
		p, r := followBytes(t, "child.vhdx", vhdxOf(log, `.\parent.vhdx`), 1<<30)
		if want := []string{"parent.vhdx"}; !slices.Equal(p.Siblings(), want) {
			t.Errorf("siblings %q, want %q", p.Siblings(), want)
		}
		if got := p.asked.Contains(1<<20, 2<<20); got != log {
			t.Errorf("log %v, asked for: %v", log, got)
		}
		if !p.asked.Contains(3<<20, 4<<20) || r.rounds != [classes]int{2, 0} {
			t.Errorf("%v in %v rounds", r.here.Ranges(), r.rounds)
		}
	}
}

func TestVMDKDescriptors(t *testing.T) {
	text := "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentSparse\"\r\nparentFileNameHint=\"base.vmdk\"\n" +
		"RW 4192256 SPARSE \"d-s001.vmdk\"\r\nRDONLY 1 FLAT \"d-flat.vmdk\" 0\nRW 1 VMFS \"/vmfs/volumes/x/y.vmdk\"\nRW 1 ZERO\n" +
		"ddb.comment = \"no file.vmdk\"\nRW 7 SPARSE \"unfinished"
	p, _ := followBytes(t, "d.vmdk", []byte(text), int64(len(text)))
	if want := []string{"base.vmdk", "d-s001.vmdk", "d-flat.vmdk"}; !slices.Equal(p.Siblings(), want) || p.Format() != "vmdk" {
		t.Errorf("%s: siblings %q, want %q", p.Format(), p.Siblings(), want)
	}
}

func TestPartitions(t *testing.T) {
	const size = 10 << 30
	at := func(sector int64) Range { return Range{Off: sector * 512 / page * page, End: sector*512 + superblocks} }
	for _, test := range []struct {
		name   string
		data   []byte
		want   []Range
		format string
	}{
		{"MBR", mbrOf(2048, 4_000_000), []Range{at(2048), at(4_000_000)}, "raw"},
		{"GPT", gptOf(2048, 1_000_000, 18_000_000, 1<<40), []Range{at(2048), at(1_000_000), at(18_000_000)}, "raw"},
		{"boot sector", mbrOf(1<<31, 0), nil, ""},
	} {
		p, r := followBytes(t, "disk", test.data, size)
		for _, m := range test.want {
			if !p.asked.Contains(m.Off, m.End) {
				t.Errorf("%s: %v is not asked for", test.name, m)
			}
		}
		rounds := [classes]int{1, min(1, len(test.want))}
		if r.requests[Metadata] != len(test.want) || r.rounds != rounds || p.Format() != test.format {
			t.Errorf("%s: format %q, %d requests in %v rounds, want %d in %v", test.name, p.Format(), r.requests[Metadata], r.rounds, len(test.want), rounds)
		}
	}
	fixed := make([]byte, size>>10)
	copy(fixed, mbrOf(200))
	copy(fixed[len(fixed)-512:], vhdOf(vhdFixed, "qem2", 0, "", nil)[:512])
	if p, _ := followBytes(t, "disk", fixed, int64(len(fixed))); p.Format() != "vhd" {
		t.Errorf("a fixed VHD is taken for %q", p.Format())
	}
}

// The headers of an appliance's members come in one round where the descriptor tells
// the truth, and one after the other where it does not.
func TestAppliances(t *testing.T) {
	disks := []member{{name: "disk1.vmdk", size: 3<<30 + 123}, {name: "disk2.vmdk", size: 20 << 30}, {name: "cd.iso", size: 700 << 20}}
	manifest := member{name: "vm.mf", body: []byte("SHA1(vm.ovf)= 00\n")}
	lies := slices.Clone(disks)
	for i := range lies {
		lies[i].size++
		lies[i].size *= 2
	}
	for _, test := range []struct {
		name    string
		members []member
		format  tar.Format
		rounds  int
	}{
		{"manifest second", append([]member{{name: "vm.ovf", body: ovfOf(disks...)}, manifest}, disks...), tar.FormatGNU, 1},
		{"manifest last", append(append([]member{{name: "vm.ovf", body: ovfOf(disks...)}}, disks...), manifest), tar.FormatGNU, 2},
		{"pax", append([]member{{name: "vm.ovf", body: ovfOf(disks...)}}, disks...), tar.FormatPAX, 2},
		{"lies", append([]member{{name: "VM.OVF", body: ovfOf(lies...)}, manifest}, disks...), tar.FormatGNU, 4},
	} {
		a := archiveOf(t, test.format, test.members...)
		r := &remote{data: a, size: a.size}
		p := New("vm.ova", a.size)
		r.follow(t, p, Metadata)
		for i, piece := range a.pieces {
			if !p.asked.Contains(piece.off, piece.off+512) {
				t.Errorf("%s: the header of %q at %d is not asked for", test.name, test.members[i].name, piece.off)
			}
		}
		if !p.asked.Contains(a.size-1024, a.size) || p.Format() != "ova" {
			t.Errorf("%s: the end is not asked for; format %q", test.name, p.Format())
		}
		if r.rounds[Header] != 1 || r.rounds[Metadata] > test.rounds || r.here.Len() > headSize+40*page {
			t.Errorf("%s: %v rounds, want %d; %d bytes", test.name, r.rounds, test.rounds, r.here.Len())
		}
	}
	a := archiveOf(t, tar.FormatPAX, member{name: "bin/sh", size: 1 << 30}, member{name: "etc/passwd", size: 1 << 30})
	r := &remote{data: a, size: a.size}
	r.follow(t, New("root.tar", a.size), Metadata)
	if r.here.Len() != headSize {
		t.Errorf("of a plain archive %d bytes are asked for", r.here.Len())
	}
}

// An image that says that its tables are huge does not get more than the bounds.
func TestHugeTablesAreBounded(t *testing.T) {
	qcow2 := make([]byte, 1<<20)
	copy(qcow2, "QFI\xfb")
	be.PutUint32(qcow2[4:], 2)
	be.PutUint32(qcow2[20:], 16)
	be.PutUint64(qcow2[24:], 1<<62)
	be.PutUint32(qcow2[36:], 1<<31)  // entries of the L1 table
	be.PutUint64(qcow2[40:], 64<<10) // its place
	be.PutUint64(qcow2[48:], 10<<30)
	be.PutUint32(qcow2[56:], 1<<30) // clusters of the refcount table
	be.PutUint32(qcow2[60:], 1<<31) // snapshots
	be.PutUint64(qcow2[64:], 11<<30)
	for i := 64 << 10; i < len(qcow2); i += 8 {
		be.PutUint64(qcow2[i:], uint64(i)<<20)
	}
	p, r := followBytes(t, "liar", qcow2, 1<<40)
	if p.Format() != "qcow2" || r.here.Len() != maxHeader+maxMetadata {
		t.Errorf("%s: %d bytes", p.Format(), r.here.Len())
	}
}

// Many snapshots and bitmaps with the same large table cost no more than one.
func TestSharedTablesAreBounded(t *testing.T) {
	const tables = 8 << 20
	qcow2 := make([]byte, tables+maxTable)
	copy(qcow2, "QFI\xfb")
	be.PutUint32(qcow2[4:], 2)
	be.PutUint32(qcow2[20:], 16)
	be.PutUint64(qcow2[24:], 1<<50)
	be.PutUint32(qcow2[60:], 10_000)
	be.PutUint64(qcow2[64:], 1<<20)
	for i := range 10_000 {
		s := qcow2[1<<20+40*i:]
		be.PutUint64(s, tables)
		be.PutUint32(s[8:], maxTable/8)
	}
	be.PutUint32(qcow2[72:], qcow2Bitmaps)
	be.PutUint32(qcow2[76:], 24)
	be.PutUint32(qcow2[80:], 10_000)
	be.PutUint64(qcow2[88:], 24*10_000)
	be.PutUint64(qcow2[96:], 2<<20)
	for i := range 10_000 {
		b := qcow2[2<<20+24*i:]
		be.PutUint64(b, tables)
		be.PutUint32(b[8:], maxTable/8)
	}
	p, r := followBytes(t, "image.qcow2", qcow2, 1<<40) // follow counts what is read
	if !p.asked.Contains(tables, tables+maxTable) || !p.asked.Contains(1<<20, 1<<20+400_000) || !p.asked.Contains(2<<20, 2<<20+240_000) {
		t.Errorf("not asked for: %v", r.here.Ranges())
	}
}
