package share

import (
	"encoding/binary"

	"depotfs/cache/catalog"
)

// CleanRecord says that the file at Path, when it had this Stamp, was the version
// that the depot has at Key.
type CleanRecord struct {
	Path    string
	Stamp   catalog.Stamp
	Version catalog.Version
	ETag    string
	Key     string
}

// appendClean encodes a record: strings with their length, numbers as varints.
func appendClean(b []byte, r CleanRecord) []byte {
	for _, s := range []string{r.Path, r.ETag, r.Key} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, r.Stamp.Ino)
	for _, n := range []int64{r.Stamp.Size, r.Stamp.Mtime, r.Stamp.Ctime, r.Version.Size} {
		b = binary.AppendVarint(b, n)
	}
	b = binary.AppendUvarint(b, r.Version.Gen)
	if r.Version.HasCRC {
		b = binary.LittleEndian.AppendUint64(b, r.Version.CRC64)
	}
	return b
}

func parseClean(b []byte) (r CleanRecord, ok bool) {
	for _, s := range []*string{&r.Path, &r.ETag, &r.Key} {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return CleanRecord{}, false
		}
		*s = string(b[n : n+int(size)])
		b = b[n+int(size):]
	}
	unsigned := func(p *uint64) bool {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		*p, b = v, b[n:]
		return true
	}
	if !unsigned(&r.Stamp.Ino) {
		return CleanRecord{}, false
	}
	for _, p := range []*int64{&r.Stamp.Size, &r.Stamp.Mtime, &r.Stamp.Ctime, &r.Version.Size} {
		v, n := binary.Varint(b)
		if n <= 0 {
			return CleanRecord{}, false
		}
		*p, b = v, b[n:]
	}
	if !unsigned(&r.Version.Gen) {
		return CleanRecord{}, false
	}
	switch len(b) {
	case 0:
	case 8:
		r.Version.HasCRC, r.Version.CRC64 = true, binary.LittleEndian.Uint64(b)
	default:
		return CleanRecord{}, false
	}
	return r, true
}
