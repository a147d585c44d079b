package image

import (
	"archive/tar"
	"testing"
)

// tiled is a file that has one piece of bytes at a place, and everywhere else copies of
// another, one after the other: small inputs that tables at any place are read from.
type tiled struct {
	head []byte
	at   int64
	tile []byte
}

func (f tiled) ReadAt(b []byte, off int64) (int, error) {
	if n := int64(len(f.tile)); n == 0 {
		clear(b)
	} else {
		for i := copy(b, f.tile[off%n:]); i < len(b); {
			i += copy(b[i:], f.tile)
		}
	}
	if lo, hi := max(off, f.at), min(off+int64(len(b)), f.at+int64(len(f.head))); lo < hi {
		copy(b[lo-off:hi-off], f.head[lo-f.at:])
	}
	return len(b), nil
}

// fuzzFormat feeds a parser: the format's magic is always there, the rest is anything.
// What is held are the promises of follow.
func fuzzFormat(f *testing.F, name string, at, magicAt int64, magic string) {
	f.Add([]byte{}, []byte{}, int64(1<<20))
	f.Fuzz(func(t *testing.T, head, tile []byte, size int64) {
		if grow := int(magicAt-at) + len(magic) - len(head); grow > 0 {
			head = append(head, make([]byte, grow)...)
		}
		copy(head[magicAt-at:], magic)
		if len(head) > 1<<20 || len(tile) > 1<<20 {
			t.Skip("large") // inputs that take long find nothing that small ones do not
		}
		r := &remote{data: tiled{head, at, tile}, size: size &^ (-1 << 63)}
		r.follow(t, New(name, r.size), Metadata)
	})
}

func FuzzQcow2(f *testing.F) {
	head := make([]byte, 512)
	copy(head, "QFI\xfb")
	be.PutUint32(head[4:], 3)
	be.PutUint64(head[8:], 400)
	be.PutUint32(head[16:], 9)
	be.PutUint32(head[20:], 16)
	be.PutUint64(head[24:], 10<<30)
	be.PutUint32(head[36:], 20)
	be.PutUint64(head[40:], 3<<16)
	be.PutUint64(head[48:], 1<<16)
	be.PutUint32(head[56:], 1)
	be.PutUint32(head[60:], 2)
	be.PutUint64(head[64:], 5<<16)
	be.PutUint32(head[96:], 4)
	be.PutUint32(head[100:], 104)
	be.PutUint32(head[104:], qcow2Bitmaps)
	be.PutUint32(head[108:], 24)
	be.PutUint32(head[112:], 1)
	be.PutUint64(head[120:], 64)
	be.PutUint64(head[128:], 6<<16)
	be.PutUint32(head[136:], qcow2DataFile)
	be.PutUint32(head[140:], 4)
	copy(head[144:], "data")
	copy(head[400:], "base.img\x00")
	tile := make([]byte, 64)
	be.PutUint64(tile, 1<<63|7<<16)
	be.PutUint32(tile[36:], 16)
	f.Add(head, tile, int64(1<<30))
	fuzzFormat(f, "image.qcow2", 0, 0, "QFI\xfb")
}

func FuzzVHD(f *testing.F) {
	f.Add(vhdOf(vhdDiffering, "tap\x00", 5000, "parent.vhd", map[string][]byte{"MacX": []byte("file://./p.vhd")})[:2100], []byte{1, 2, 3}, int64(1<<30))
	f.Add(vhdOf(3, "win ", 1<<31, "", nil)[:1600], []byte{}, int64(4<<20))
	fuzzFormat(f, "image.vhd", 0, 0, vhdCookie)
}

func FuzzVHDX(f *testing.F) {
	whole := vhdxOf(true, `.\parent.vhdx`)
	tile := make([]byte, 1<<10)
	copy(tile, whole[2<<20:2<<20+256])
	le.PutUint32(tile[48:], 64<<10+512)
	copy(tile[512:], whole[2<<20+64<<10:2<<20+65<<10])
	f.Add(whole[192<<10:192<<10+80], tile, int64(1<<30))
	f.Add(whole[192<<10:192<<10+80], whole[128<<10:128<<10+80], int64(1<<30))
	// The input is the region table; the file's own mark is in the tile.
	f.Fuzz(func(t *testing.T, head, tile []byte, size int64) {
		if len(head) > 1<<20 || len(tile) > 1<<20 {
			t.Skip("large") // inputs that take long find nothing that small ones do not
		}
		if len(tile) < 16 {
			tile = make([]byte, 16)
		}
		copy(tile, "vhdxfile")
		size &^= -1 << 63
		r := &remote{data: tiled{head, vhdxRegions, tile}, size: size}
		r.follow(t, New("image.vhdx", size), Metadata)
		if size > vhdxHeader1 {
			// The same items under the mark of a metadata table.
			copy(tile, "metadata")
			w := &walk{plan: New("image.vhdx", size), src: tiled{tile: tile}, upto: Metadata}
			w.vhdxItems(0, uint64(len(head))<<10)
			w.vhdxLocator(tile)
		}
	})
}

func FuzzVMDK(f *testing.F) {
	head := make([]byte, 640)
	copy(head, "KDMV")
	le.PutUint64(head[12:], 1<<24)
	le.PutUint64(head[20:], 128)
	le.PutUint64(head[28:], 1)
	le.PutUint64(head[36:], 1)
	le.PutUint32(head[44:], 512)
	le.PutUint64(head[48:], 30)
	le.PutUint64(head[56:], 40)
	copy(head[512:], "# Disk DescriptorFile\nRW 100 SPARSE \"x.vmdk\"\nparentFileNameHint=\"p.vmdk\"\n")
	f.Add(head, []byte{100, 0, 0, 0, 200, 0, 0, 0}, int64(1<<30))
	le.PutUint64(head[56:], vmdkAtEnd)
	f.Add(head, []byte("KDMV\x03\x00\x00\x00"), int64(1<<30))
	fuzzFormat(f, "image.vmdk", 0, 0, "KDMV")
}

func FuzzVMDKDescriptor(f *testing.F) {
	f.Add([]byte("# Disk DescriptorFile\nRW 100 SPARSE \"x.vmdk\"\nparentFileNameHint=\"p.vmdk\"\n"), []byte{}, int64(1000))
	fuzzFormat(f, "image.vmdk", 0, 0, "# Disk DescriptorFile")
}

func FuzzRaw(f *testing.F) {
	f.Add(gptOf(2048, 1<<20, 1<<30)[:1400], []byte{}, int64(1<<40))
	f.Add(mbrOf(63, 2048, 1<<30, 1<<31), []byte{}, int64(1<<34))
	fuzzFormat(f, "image", 0, 510, "\x55\xaa")
}

func FuzzISO(f *testing.F) {
	head := make([]byte, 2*isoSector+8)
	for i, kind := range []byte{isoBoot, isoPrimary, isoEnd} {
		d := head[i*isoSector:]
		d[0] = kind
		copy(d[1:], "CD001")
	}
	copy(head[7:], "EL TORITO SPECIFICATION")
	le.PutUint32(head[71:], 40)
	d := head[isoSector:]
	le.PutUint32(d[132:], 2000)
	le.PutUint32(d[140:], 30)
	le.PutUint32(d[158:], 50)
	le.PutUint32(d[166:], 8192)
	f.Add(head, []byte{1, 0, 60, 0, 0, 0, 1, 0, 'x', 0, 3, 0, 70, 0, 0, 0, 1, 0, 'a', 'b', 'c', 0}, int64(1<<30))
	fuzzFormat(f, "image.iso", isoFirst*isoSector, isoFirst*isoSector+1, "CD001")
}

func FuzzTar(f *testing.F) {
	disks := []member{{name: "a", size: 10 << 30}, {name: "b", size: 1000}}
	a := archiveOf(f, tar.FormatPAX, append([]member{{name: "vm.ovf", body: ovfOf(disks...)}}, disks...)...)
	head := make([]byte, 3<<10)
	if _, err := a.ReadAt(head, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(head, []byte{}, a.size)
	fuzzFormat(f, "image.ova", 0, 257, "ustar")
}

// FuzzTarHeader gets past the checksum, which random bytes do not.
func FuzzTarHeader(f *testing.F) {
	f.Add("0000644", "vm.ovf", []byte("24 size=10737418240\n<References><File href='a' size='9'/>"))
	f.Add("\x80\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", "x", []byte{})
	f.Fuzz(func(t *testing.T, size, name string, body []byte) {
		h := make([]byte, tarBlock)
		copy(h[:100], name)
		copy(h[124:136], size)
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		for i := 153; i >= 148; i, sum = i-1, sum>>3 {
			h[i] = '0' + byte(sum&7)
		}
		h[154] = 0
		if _, _, ok := tarHeader(h); !ok {
			if _, number := tarNumber(h[124:136]); number {
				t.Fatalf("the checksum of %q is not what it was made to be", h[148:156])
			}
		}
		paxLength(body)
		r := &remote{data: padded(append(append(make([]byte, 0, tarBlock+len(body)), h...), body...)), size: 1 << 40}
		w := &walk{plan: New("x", r.size), src: r, upto: Metadata}
		r.here.Add(0, r.size)
		w.tar()
		if w.plan.bytes[Metadata] < 0 || w.plan.bytes[Header] < 0 || w.plan.requests[Header] < 0 {
			t.Fatal("more was asked for than may be")
		}
		ovfFiles(body)
	})
}
