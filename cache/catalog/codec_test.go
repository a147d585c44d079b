package catalog

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"
)

// A codec as the tests see it: decode, and encode what was decoded.
type codec struct {
	name   string
	decode func([]byte) (any, error)
	encode func(any) []byte
	sample any // something in every field
}

var codecs = []codec{
	{"inode", func(b []byte) (any, error) { return decodeInode(7, b) }, func(v any) []byte { return encodeInode(v.(*Inode)) },
		&Inode{Ino: 7, Mode: math.MaxUint32, UID: 1, GID: 2, Rdev: 3, Nlink: 4, Size: math.MinInt64, Blocks: 5, Atime: math.MaxInt64, Mtime: -1, Ctime: 6,
			Target: "t\x00\xff", Links: []Link{{Parent: 1, Name: "m"}, {Parent: math.MaxUint64}}, State: 255, Gen: math.MaxUint64, Stamp: Stamp{Ino: 1, Size: -2, Mtime: 3, Ctime: -4},
			Base: Version{Gen: 1, Size: 2, CRC64: 3, HasCRC: true}, BaseLimit: 4, Objects: []Object{{Key: "k", ETag: "e", VersionID: "v", Gen: 5}, {}}, Flags: math.MaxUint32, DirtySince: 1, FinishedAt: 2, LastUsed: 3, Zeros: "z", MadeAt: -4, Origin: "o", MovedAt: 5, AttrAt: 6, AttrBy: "a", KnownAt: 7}},
	{"dirent", func(b []byte) (any, error) { return decodeDirent(1, "n", b) }, func(v any) []byte { return encodeDirent(v.(Dirent)) },
		Dirent{Parent: 1, Name: "n", Ino: 2, Type: 3, Cookie: math.MaxUint64}},
	{"cookie", func(b []byte) (any, error) { return decodeCookie(1, 9, b) }, func(v any) []byte { return encodeCookie(v.(Dirent)) },
		Dirent{Parent: 1, Name: "n\xff", Ino: 2, Type: 3, Cookie: 9}},
	{"queue item", func(b []byte) (any, error) { return decodeQueueItem(1, b) }, func(v any) []byte { return encodeQueueItem(v.(*QueueItem)) },
		&QueueItem{Ino: 1, Subtree: true, NotBefore: 2, Since: 3, Attempts: 4, LastError: "e"}},
	{"removal", func(b []byte) (any, error) { return decodeRemoval("k", b) }, func(v any) []byte { return encodeRemoval(v.(*Removal)) },
		&Removal{Key: "k", ETag: "e", Path: "p", Since: 1, NotBefore: 2, Attempts: 3, LastError: "l", Version: "v", UploadID: "u", Trash: "t", Size: -1, Mode: 5, UID: 6, GID: 7, Mtime: -8, Replaced: 9, Untold: true, Former: []Removed{{ETag: "e", Trash: "t", Path: "p", Size: 3, Untold: true}, {}}}},
	{"tombstone", func(b []byte) (any, error) { return decodeTombstone("p", b) }, func(v any) []byte { return encodeTombstone(v.(*Tombstone)) },
		&Tombstone{Path: "p", Time: -1, Zone: "z", Key: "k", To: "t", RmdirAt: 7, RmdirBy: "r", RmdirTo: "t", MadeAt: 8, MadeBy: "m", AttrAt: 9, AttrBy: "a", TakenAt: 10}},
	{"upload", func(b []byte) (any, error) { return decodeUpload(1, b) }, func(v any) []byte { return encodeUpload(v.(*Upload)) },
		&Upload{Ino: 1, Key: "k", UploadID: "u", PartSize: 2, Size: 3, Gen: 4, Stamp: Stamp{Ino: 5, Size: 6, Mtime: 7, Ctime: 8}, Created: 9, CRC64: 10, HasCRC: true, Replaced: 11}},
	{"part", func(b []byte) (any, error) { return decodePart(1, b) }, func(v any) []byte { return encodePart(v.(UploadPart)) },
		UploadPart{Number: 1, Off: 3, Size: 2, CRC64: math.MaxUint64, ETag: "e"}},
	{"sums", func(b []byte) (any, error) { return decodeSums(b) }, func(v any) []byte { return encodeSums(v.(*Sums)) },
		&Sums{Gen: 1, Size: 2, Grain: 3, CRC64: []uint64{math.MaxUint64, 4}, Known: []bool{true, false}}},
	{"intent", func(b []byte) (any, error) { return decodeIntent(1, b) }, func(v any) []byte { return encodeIntent(v.(*Intent)) },
		&Intent{Seq: 1, Kind: IntentOrphan, Ino: 2, From: "f", To: "t", Victim: 3, NewParent: 4, NewName: "n", OldParent: 5, OldName: "o", ShareIno: 6, Time: 7, Zone: "z", Remade: true}},
	{"extents", func(b []byte) (any, error) { return decodeExtents(b) }, func(v any) []byte { b, _ := encodeExtents(v.(Extents)); return b },
		Extents{[]Range{{0, 1}, {2, 3}, {math.MaxInt64 - 1, math.MaxInt64}}, []Range{{2, 3}}}},
	{"bytes", func(b []byte) (any, error) { return decodeBytes(b) }, func(v any) []byte { return encodeBytes(v.([]byte)) },
		[]byte("v\x00")},
	{"totals", func(b []byte) (any, error) { return decodeTotals(b) }, func(v any) []byte { return encodeTotals(v.(Totals)) },
		Totals{1, 2, 3, map[State]int64{4: 5}, map[State]int64{4: -6}}},
	{"held delete", func(b []byte) (any, error) { return decodeHeldDelete("p", b) }, func(v any) []byte { return encodeHeldDelete(v.(*HeldDelete)) },
		&HeldDelete{Path: "p", Kind: DeleteHidden, Burst: 1, Time: 2, Told: true, Trash: "t", Saved: true, Inode: sampleOf(9)}},
	{"number", func(b []byte) (any, error) { return decodeNumber(b) }, func(v any) []byte { return encodeNumber(v.(uint64)) },
		uint64(math.MaxUint64)},
}

// sampleOf is an inode with something in every field.
func sampleOf(ino Ino) *Inode {
	return &Inode{Ino: ino, Mode: 1, UID: 2, GID: 3, Rdev: 4, Nlink: 5, Size: 6, Blocks: 7, Atime: 8, Mtime: 9, Ctime: 10, Target: "t", Links: []Link{{Parent: 1, Name: "n"}},
		State: 1, Gen: 11, Stamp: Stamp{Ino: 1, Size: 2, Mtime: 3, Ctime: 4}, Base: Version{Gen: 1, Size: 2, CRC64: 3, HasCRC: true}, BaseLimit: 12,
		Objects: []Object{{Key: "k", ETag: "e", VersionID: "v", Gen: 1}}, Flags: FlagPinned, DirtySince: 13, FinishedAt: 14, LastUsed: 15, Zeros: "z", MadeAt: 16, Origin: "o", MovedAt: 17, AttrAt: 18, AttrBy: "a", KnownAt: 19}
}

func TestCodecsKeepEveryField(t *testing.T) {
	for _, c := range codecs {
		t.Run(c.name, func(t *testing.T) {
			b := c.encode(c.sample)
			got, err := c.decode(b)
			if err != nil || !reflect.DeepEqual(got, c.sample) {
				t.Fatalf("got %+v, %v\nwant %+v", got, err, c.sample)
			}
			if c.name != "bytes" {
				if got, err := c.decode(append(bytes.Clone(b), "of a later minor version"...)); err != nil || !reflect.DeepEqual(got, c.sample) {
					t.Errorf("with a longer tail: %+v, %v", got, err)
				}
			}
			if _, err := c.decode(append([]byte{recordVersion + 1}, b[1:]...)); !errors.Is(err, ErrNewer) {
				t.Errorf("a newer record: %v", err)
			}
			if _, err := c.decode(nil); !errors.Is(err, ErrDamaged) {
				t.Errorf("an empty record: %v", err)
			}
			if _, err := c.decode([]byte{recordVersion}); err != nil {
				t.Errorf("a record from before all fields: %v", err)
			}
		})
	}
}

// TestSamplesFillEveryField fails for a field that was added to a type and forgotten here, and
// so perhaps in its codec.
func TestSamplesFillEveryField(t *testing.T) {
	var check func(name string, v reflect.Value)
	check = func(name string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			check(name, v.Elem())
		case reflect.Struct:
			for i := range v.NumField() {
				check(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Slice:
			if v.Len() > 0 && v.Index(0).Kind() == reflect.Struct && v.Type().Elem() != reflect.TypeFor[Range]() {
				check(name, v.Index(0))
			}
			fallthrough
		default:
			if v.IsZero() {
				t.Errorf("%s is zero", name)
			}
		}
	}
	for _, c := range codecs {
		check(c.name, reflect.ValueOf(c.sample))
	}
}

func TestClassIsTheInodes(t *testing.T) {
	got, err := decodeClass(encodeInode(&Inode{Mode: 0o100600, State: 4, Size: 77, UID: 9}))
	if want := (class{0o100600, 4, 77}); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestExtentsOutOfOrderAreRefused(t *testing.T) {
	for name, list := range map[string][]Range{
		"empty": {{5, 5}}, "negative": {{-5, 5}}, "backwards": {{5, 4}}, "overlapping": {{0, 5}, {4, 6}}, "unsorted": {{5, 6}, {0, 1}},
	} {
		if _, err := encodeExtents(Extents{Here: list}); err == nil {
			t.Errorf("%s was taken", name)
		}
		if _, err := encodeExtents(Extents{Written: list}); err == nil {
			t.Errorf("%s was taken as written", name)
		}
	}
}

// FuzzCodecs feeds any bytes to every decoder: no panic, no allocation beyond
// a multiple of the input, and what is understood is kept by another round.
func FuzzCodecs(f *testing.F) {
	for i, c := range codecs {
		b := c.encode(c.sample)
		f.Add(byte(i), b)
		f.Add(byte(i), b[:len(b)/2])
		f.Add(byte(i), []byte{recordVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		c := codecs[int(which)%len(codecs)]
		v, err := c.decode(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Errorf("%s: error %v", c.name, err)
			}
			return
		}
		again, err := c.decode(c.encode(v))
		if err != nil || !reflect.DeepEqual(again, v) {
			t.Errorf("%s: %+v became %+v, %v", c.name, v, again, err)
		}
	})
}

func FuzzLog(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Add(append(make([]byte, walHeader), 0x40, 0, 9, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if w := readLog(b); w.end < walHeader || len(b) >= walHeader && w.end > int64(len(b)) {
			t.Errorf("end %d of %d bytes", w.end, len(b))
		}
	})
}

func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) { verifyTable(b) }) // must not panic or exit
}

func FuzzMarker(f *testing.F) {
	f.Add([]byte(`{"format":1,"phase":"clean","files":[{"name":"MANIFEST","size":1,"crc32c":2}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseMarker(b); err == nil && m.phase == "" {
			t.Error("a marker without a phase was taken")
		}
	})
}
