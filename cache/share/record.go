package share

import (
	"encoding/binary"
	"encoding/json"
	"errors"
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

// Record is a Write, Truncate, Limit or Mark of a Sidecar.
type Record interface {
	appendTo(b []byte) []byte
}

// Write says that [Off, End) was written here.
type Write struct{ Off, End int64 }

// Truncate says that the file got this size.
type Truncate struct{ Size int64 }

// Limit says that of the base only [0, Base) is still part of the file. Compact
// writes it in place of the truncations that it drops.
type Limit struct{ Base int64 }

// Mark says that the bytes named by the first Covers records are durable.
type Mark struct{ Covers int }

// Kinds of records on disk. A reader takes an unknown one for damage.
const (
	kindWrite    = 'W'
	kindTruncate = 'T'
	kindLimit    = 'L'
	kindMark     = 'M'
)

func (w Write) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(append(b, kindWrite), uint64(w.Off))
	return binary.LittleEndian.AppendUint64(b, uint64(w.End))
}

func (t Truncate) appendTo(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(append(b, kindTruncate), uint64(t.Size))
}

func (l Limit) appendTo(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(append(b, kindLimit), uint64(l.Base))
}

func (m Mark) appendTo(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(append(b, kindMark), uint64(m.Covers))
}

var errRecord = errors.New("not a record")

func parseRecord(b []byte) (Record, error) {
	number := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[1+8*i:])) }
	switch {
	case len(b) == 17 && b[0] == kindWrite && 0 <= number(0) && number(0) < number(1):
		return Write{Off: number(0), End: number(1)}, nil
	case len(b) == 9 && number(0) < 0:
	case len(b) == 9 && b[0] == kindTruncate:
		return Truncate{Size: number(0)}, nil
	case len(b) == 9 && b[0] == kindLimit:
		return Limit{Base: number(0)}, nil
	case len(b) == 9 && b[0] == kindMark:
		return Mark{Covers: int(number(0))}, nil
	}
	return nil, errRecord
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
// here, how much of the base is still part of the file, and the file's size. With
// sameBoot (the kernel that took the writes is still running, so its page cache
// has them) every record counts, else those that a Mark covers.
func Replay(h Header, recs []Record, sameBoot bool) (written []catalog.Range, baseLimit, size int64) {
	counts := len(recs)
	if !sameBoot {
		counts = 0
		for i, r := range recs {
			if m, ok := r.(Mark); ok {
				counts = max(counts, min(m.Covers, i))
			}
		}
	}
	st := newReplay(h)
	for _, r := range recs[:counts] {
		st.apply(r)
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
	switch r := r.(type) {
	case Write:
		// A write past the end makes the gap zeros, which are not the base's.
		st.written.Add(min(r.Off, st.size), r.End)
		st.size = max(st.size, r.End)
	case Truncate:
		if r.Size < st.size {
			st.written.Truncate(r.Size)
			st.limit = min(st.limit, r.Size)
		} else {
			st.written.Add(st.size, r.Size)
		}
		st.size = r.Size
	case Limit:
		st.limit = min(st.limit, r.Base)
	}
}
