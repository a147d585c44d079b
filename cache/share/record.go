package share

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"depotfs/cache/catalog"
	"depotfs/cache/extent"
)

// Header is the first record of a Sidecar: what the partial file is a part of.
type Header struct {
	Path   string          // when it was written; any bytes
	Key    string          // of the base in the depot
	ETag   string          // of the base
	Base   catalog.Version // what unwritten bytes belong to
	Size   int64           // of the file when the log began
	BootID string          // of the kernel that wrote the log (see BootID)
}

// Record is one entry of a Sidecar after its header.
type Record struct {
	Kind     RecordKind
	Off, End int64 // Off is 0 in all but a Write
}

// RecordKind says what a Record tells; a reader takes an unknown one for damage.
type RecordKind byte

// Kinds of records, as on disk.
const (
	KindWrite    RecordKind = 'W' // [Off, End) was written here
	KindTruncate RecordKind = 'T' // the file got the size End
	KindLimit    RecordKind = 'L' // of the base, only [0, End) is still part of the file
	KindMark     RecordKind = 'M' // the bytes named by the first End records are durable
)

// WriteRecord says that [off, end) was written here.
func WriteRecord(off, end int64) Record { return Record{Kind: KindWrite, Off: off, End: end} }

// TruncateRecord says that the file got this size.
func TruncateRecord(size int64) Record { return Record{Kind: KindTruncate, End: size} }

// LimitRecord says that of the base only [0, limit) is still part of the file;
// it stands for truncations that a shorter log no longer tells.
func LimitRecord(limit int64) Record { return Record{Kind: KindLimit, End: limit} }

func markRecord(covers int) Record { return Record{Kind: KindMark, End: int64(covers)} }

// recordSize is a record on disk: kind, Off, End.
const recordSize = 1 + 8 + 8

func (r Record) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(append(b, byte(r.Kind)), uint64(r.Off))
	return binary.LittleEndian.AppendUint64(b, uint64(r.End))
}

func (r Record) valid() bool {
	switch r.Kind {
	case KindWrite:
		return 0 <= r.Off && r.Off < r.End
	case KindTruncate, KindLimit, KindMark:
		return r.Off == 0 && r.End >= 0
	}
	return false
}

func parseRecord(b []byte) (r Record, ok bool) {
	if len(b) != recordSize {
		return Record{}, false
	}
	r = Record{
		Kind: RecordKind(b[0]),
		Off:  int64(binary.LittleEndian.Uint64(b[1:])),
		End:  int64(binary.LittleEndian.Uint64(b[9:])),
	}
	return r, r.valid()
}

// headerFormat is the newest format of a sidecar that this version knows.
const headerFormat = 1

// headerJSON is Header on disk: strings of any bytes go as []byte, which JSON
// keeps as they are.
type headerJSON struct {
	Format int    `json:"format"`
	Path   []byte `json:"path"`
	Key    []byte `json:"key,omitempty"`
	ETag   []byte `json:"etag,omitempty"`
	Gen    uint64 `json:"base_gen,omitempty"`
	Base   int64  `json:"base_size"`
	CRC64  uint64 `json:"base_crc64nvme,omitempty"`
	HasCRC bool   `json:"base_has_crc,omitempty"`
	Size   int64  `json:"size"`
	BootID string `json:"boot_id"`
}

func encodeHeader(h Header) ([]byte, error) {
	return json.Marshal(headerJSON{
		Format: headerFormat, Path: []byte(h.Path), Key: []byte(h.Key), ETag: []byte(h.ETag),
		Gen: h.Base.Gen, Base: h.Base.Size, CRC64: h.Base.CRC64, HasCRC: h.Base.HasCRC,
		Size: h.Size, BootID: h.BootID,
	})
}

func decodeHeader(b []byte) (Header, error) {
	var v struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if v.Format > headerFormat {
		return Header{}, fmt.Errorf("format %d: %w", v.Format, ErrNewer)
	}
	var j headerJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if j.Base < 0 || j.Size < 0 {
		return Header{}, fmt.Errorf("negative size: %w", ErrDamaged)
	}
	return Header{
		Path: string(j.Path), Key: string(j.Key), ETag: string(j.ETag),
		Base: catalog.Version{Gen: j.Gen, Size: j.Base, CRC64: j.CRC64, HasCRC: j.HasCRC},
		Size: j.Size, BootID: j.BootID,
	}, nil
}

// Replay tells what a log means: which bytes of the partial file were written
// here, how much of the base is still part of the file, and the file's size.
//
// With sameBoot (the kernel that took the writes is still running, so its page
// cache has them) every record counts. Otherwise those count that a Mark covers,
// and of the others the truncations that cut: the disk may have them already, and
// what they cut off must not be taken for bytes that are here.
func Replay(h Header, recs []Record, sameBoot bool) (written []catalog.Range, baseLimit, size int64) {
	counts := len(recs)
	if !sameBoot {
		counts = 0
		for i, r := range recs {
			if r.Kind == KindMark {
				counts = max(counts, int(min(r.End, int64(i))))
			}
		}
	}
	st := newReplay(h)
	for _, r := range recs[:counts] {
		st.apply(r)
	}
	for _, r := range recs[counts:] {
		if r.Kind == KindTruncate && r.End < st.size {
			st.apply(r)
		}
	}
	return st.written.Ranges(), st.limit, st.size
}

// replay is the state that records change.
type replay struct {
	written extent.Set
	limit   int64
	size    int64
}

func newReplay(h Header) replay {
	return replay{limit: min(h.Base.Size, h.Size), size: h.Size}
}

func (st *replay) apply(r Record) {
	switch r.Kind {
	case KindWrite:
		// A write past the end makes the gap zeros, which are not the base's.
		st.written.Add(min(r.Off, st.size), r.End)
		st.size = max(st.size, r.End)
	case KindTruncate:
		if r.End < st.size {
			st.written.Truncate(r.End)
			st.limit = min(st.limit, r.End)
		} else {
			st.written.Add(st.size, r.End)
		}
		st.size = r.End
	case KindLimit:
		st.limit = min(st.limit, r.End)
	}
}
