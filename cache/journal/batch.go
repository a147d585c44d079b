package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

const (
	// Format is the version of the format of batches that this package writes.
	Format = 1
	// MaxBatch bounds a batch, in bytes.
	MaxBatch = 1 << 20
	// MaxRecords bounds the records of a batch.
	MaxRecords = 4096

	// MaxSeen bounds the zones that a header says to have been heard.
	MaxSeen = 64

	maxEpoch  = 64
	maxHeader = 512 + MaxSeen*(MaxZone+24) // a name, quotes and colon, and up to 20 digits
	// frame is what a line has beside its JSON: checksum, space, newline.
	frame = 8 + 1 + 1
)

// Header says which batch it is.
type Header struct {
	Zone  string // that wrote it
	Seq   uint64 // counts the zone's batches from 1, without gaps
	Made  int64  // ns since 1970 by the store's clock
	Epoch string // of the zone's state directory: another one may have numbered anew
	// Seen is the last batch that the zone had heard of each other zone when it made this one:
	// what is in it may have been done knowing of those. At most MaxSeen; nil = of none.
	Seen map[string]uint64
}

// header is a Header as JSON.
type header struct {
	Format  int    `json:"format"`
	Zone    string `json:"zone"`
	Seq     uint64 `json:"seq"`
	Made    int64  `json:"made"`
	Epoch   string `json:"epoch"`
	Records int    `json:"records"`

	Seen map[string]uint64 `json:"seen,omitempty"`
}

func (h *header) validate() error {
	switch {
	case !ValidZone(h.Zone):
		return fmt.Errorf("zone %q: %w", clip(h.Zone), ErrInvalid)
	case h.Seq == 0:
		return fmt.Errorf("number 0: %w", ErrInvalid)
	case !validEpoch(h.Epoch):
		return fmt.Errorf("epoch %q: %w", clip(h.Epoch), ErrInvalid)
	case h.Records < 1:
		return fmt.Errorf("%d records: %w", h.Records, ErrInvalid)
	case h.Records > MaxRecords:
		return fmt.Errorf("%d records: %w", h.Records, ErrTooLarge)
	case len(h.Seen) > MaxSeen:
		return fmt.Errorf("%d zones seen: %w", len(h.Seen), ErrTooLarge)
	}
	for zone, seq := range h.Seen {
		if !ValidZone(zone) || seq == 0 {
			return fmt.Errorf("batch %d of zone %q seen: %w", seq, clip(zone), ErrInvalid)
		}
	}
	return nil
}

func (h *header) public() Header {
	return Header{Zone: h.Zone, Seq: h.Seq, Made: h.Made, Epoch: h.Epoch, Seen: h.Seen}
}

// validEpoch: letters and digits, so that it can stand anywhere.
func validEpoch(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxEpoch
}

// Fits says whether one batch can have so many records whose Encodes have so many bytes
// together.
func Fits(records, bytes int) bool {
	return records <= MaxRecords && bytes+(records+1)*frame+maxHeader <= MaxBatch
}

// EncodeBatch returns a batch as its object's bytes. It is ErrTooLarge where Fits says no.
func EncodeBatch(h Header, records []Record) ([]byte, error) {
	hd := header{Format: Format, Zone: h.Zone, Seq: h.Seq, Made: h.Made, Epoch: h.Epoch, Records: len(records), Seen: h.Seen}
	b, err := hd.encode()
	for i := 0; i < len(records) && err == nil; i++ {
		var one []byte
		one, err = Encode(records[i])
		b = appendLine(b, one)
		if len(b) > MaxBatch {
			err = fmt.Errorf("more than %d bytes: %w", MaxBatch, ErrTooLarge)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("encode batch %d of zone %q: %w", h.Seq, clip(h.Zone), err)
	}
	return b, nil
}

func (h *header) encode() ([]byte, error) {
	if err := h.validate(); err != nil {
		return nil, err
	}
	b, err := marshal(h)
	return appendLine(nil, b), err
}

// DecodeBatch reads a batch that others may have written. What is damaged or not known in
// it is in bad, with the number of its line, and the rest in records. err says that
// nothing could be read: it wraps ErrNewer where a newer depotfs wrote it, else ErrInvalid
// or ErrTooLarge.
func DecodeBatch(b []byte) (h Header, records []Record, bad []error, err error) {
	if len(b) > MaxBatch {
		return Header{}, nil, nil, fmt.Errorf("batch of %d bytes: %w", len(b), ErrTooLarge)
	}
	first, rest, _ := bytes.Cut(b, []byte("\n"))
	hd, err := decodeHeader(first)
	if err != nil {
		return Header{}, nil, nil, fmt.Errorf("header of a batch: %w", err)
	}
	h = hd.public()
	number := 1
	for ; len(rest) > 0; number++ {
		if number > hd.Records {
			bad = append(bad, fmt.Errorf("lines after the last of %d records: %w", hd.Records, ErrInvalid))
			break
		}
		var one []byte
		one, rest, _ = bytes.Cut(rest, []byte("\n"))
		r, err := decodeLine(one)
		if err != nil {
			bad = append(bad, fmt.Errorf("line %d: %w", number+1, err))
			continue
		}
		records = append(records, r)
	}
	if missing := hd.Records - (number - 1); missing > 0 {
		bad = append(bad, fmt.Errorf("line %d: %d of %d records are missing: %w", number+1, missing, hd.Records, ErrInvalid))
	}
	return h, records, bad, nil
}

func decodeHeader(b []byte) (header, error) {
	var h header
	text, err := unframe(b)
	if err != nil {
		return h, err
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return h, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if version.Format > Format {
		return h, fmt.Errorf("format %d, this depotfs knows up to %d: %w", version.Format, Format, ErrNewer)
	}
	if version.Format < 1 {
		return h, fmt.Errorf("format %d: %w", version.Format, ErrInvalid)
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return h, h.validate()
}

func decodeLine(b []byte) (Record, error) {
	text, err := unframe(b)
	if err != nil {
		return Record{}, err
	}
	return Decode(text)
}

// castagnoli is the polynomial of CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(text []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli))
}

func appendLine(b, text []byte) []byte {
	b = append(append(b, checksum(text)...), ' ')
	return append(append(b, text...), '\n')
}

// unframe returns a line's text if it is what was written.
func unframe(b []byte) ([]byte, error) {
	if len(b) < frame-1 || b[frame-2] != ' ' {
		return nil, fmt.Errorf("no checksum: %w", ErrInvalid)
	}
	if text := b[frame-1:]; string(b[:frame-2]) == checksum(text) {
		return text, nil
	}
	return nil, fmt.Errorf("the checksum does not hold: %w", ErrInvalid)
}

// HeaderSize is how many of a batch's first bytes have its header.
const HeaderSize = maxHeader + frame

// DecodeHeader reads the header alone, from the first HeaderSize bytes of a batch or all of
// it; records is how many follow. Its errors are those of DecodeBatch.
func DecodeHeader(b []byte) (h Header, records int, err error) {
	first, _, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return Header{}, 0, fmt.Errorf("header of a batch: no end: %w", ErrInvalid)
	}
	hd, err := decodeHeader(first)
	if err != nil {
		return Header{}, 0, fmt.Errorf("header of a batch: %w", err)
	}
	return hd.public(), hd.Records, nil
}
