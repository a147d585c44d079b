package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrUnknown: the record has an operation that this version does not know.
	ErrUnknown = errors.New("an operation that this version does not know")
	// ErrInvalid: what was written is no record, or says what cannot be.
	ErrInvalid = errors.New("not valid")
	// ErrNewer: the batch has a format that this version does not know.
	ErrNewer = errors.New("a newer format")
	// ErrTooLarge: more than a record or a batch may have.
	ErrTooLarge = errors.New("too large")
)

// MaxRecord bounds an encoded record, in bytes. One that is valid is smaller: its
// strings take at most twice their length.
const MaxRecord = 64 << 10

// line is a record as JSON. The names are the format: they never change. Strings that may
// hold any bytes have a second field, which has them in base64 where JSON cannot.
type line struct {
	Op     Op      `json:"op"`
	Path   string  `json:"path,omitempty"`
	Path64 []byte  `json:"path64,omitempty"`
	From   string  `json:"from,omitempty"`
	From64 []byte  `json:"from64,omitempty"`
	Time   int64   `json:"time,omitempty"`
	Zone   string  `json:"zone,omitempty"`
	Key    string  `json:"key,omitempty"`
	ETag   string  `json:"etag,omitempty"`
	Ver    string  `json:"ver,omitempty"`
	Size   int64   `json:"size,omitempty"`
	CRC64  *string `json:"crc64,omitempty"` // 16 hexadecimal digits
	Zeros  string  `json:"zeros,omitempty"`
	To     string  `json:"to,omitempty"`
	To64   []byte  `json:"to64,omitempty"`
	Trash  string  `json:"trash,omitempty"`
	Mode   string  `json:"mode,omitempty"` // octal
	UID    uint32  `json:"uid,omitempty"`
	GID    uint32  `json:"gid,omitempty"`
	Mtime  int64   `json:"mtime,omitempty"`

	Swapped string `json:"swapped,omitempty"` // octal

	AttrTime int64  `json:"attr_time,omitempty"`
	AttrZone string `json:"attr_zone,omitempty"`
}

// Encode returns a record as one JSON object without a newline. A checksum that the
// record does not have (HasCRC) is left out.
func Encode(r Record) ([]byte, error) {
	if err := validate(&r); err != nil {
		return nil, fmt.Errorf("encode a change record: %w", err)
	}
	l := line{
		Op: r.Op, Time: r.Time, Zone: r.Zone, Key: r.Key, ETag: r.ETag, Ver: r.VersionID, Size: r.Size,
		Zeros: r.Zeros, Trash: r.Trash, UID: r.UID, GID: r.GID, Mtime: r.Mtime, AttrTime: r.AttrTime, AttrZone: r.AttrZone,
	}
	l.Path, l.Path64 = toText(r.Path)
	l.From, l.From64 = toText(r.From)
	l.To, l.To64 = toText(r.Target)
	if r.HasCRC {
		crc := fmt.Sprintf("%016x", r.CRC64)
		l.CRC64 = &crc
	}
	if r.Mode != 0 {
		l.Mode = strconv.FormatUint(uint64(r.Mode), 8)
	}
	if r.Swapped != 0 {
		l.Swapped = strconv.FormatUint(uint64(r.Swapped), 8)
	}
	b, err := marshal(l)
	if err == nil && len(b) > MaxRecord {
		err = fmt.Errorf("%d bytes: %w", len(b), ErrTooLarge)
	}
	if err != nil {
		return nil, fmt.Errorf("encode a change record: %w", err)
	}
	return b, nil
}

// Decode reads a record that others may have written. The set-uid and set-gid bits of files
// are dropped: a bucket must not make programs of root's. Its errors wrap ErrUnknown where the
// operation is not known, else ErrInvalid or ErrTooLarge.
func Decode(b []byte) (Record, error) {
	r, err := decode(b)
	if err != nil {
		return Record{}, fmt.Errorf("change record: %w", err)
	}
	return r, nil
}

func decode(b []byte) (Record, error) {
	if len(b) > MaxRecord {
		return Record{}, fmt.Errorf("%d bytes: %w", len(b), ErrTooLarge)
	}
	// The operation first: what the fields of one that is not known mean is not known either.
	var op struct {
		Op Op `json:"op"`
	}
	if err := json.Unmarshal(b, &op); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if op.Op == "" {
		return Record{}, fmt.Errorf("no operation: %w", ErrInvalid)
	}
	if !op.Op.known() {
		return Record{}, fmt.Errorf("%q: %w", clip(string(op.Op)), ErrUnknown)
	}
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	r := Record{
		Op: l.Op, Time: l.Time, Zone: l.Zone, Key: l.Key, ETag: l.ETag, VersionID: l.Ver, Size: l.Size,
		Zeros: l.Zeros, Trash: l.Trash, UID: l.UID, GID: l.GID, Mtime: l.Mtime, AttrTime: l.AttrTime, AttrZone: l.AttrZone,
	}
	for _, s := range []struct {
		to   *string
		text string
		raw  []byte
	}{{&r.Path, l.Path, l.Path64}, {&r.From, l.From, l.From64}, {&r.Target, l.To, l.To64}} {
		if s.text != "" && len(s.raw) > 0 {
			return Record{}, fmt.Errorf("one name written twice: %w", ErrInvalid)
		}
		*s.to = s.text + string(s.raw)
	}
	var err error
	if l.CRC64 != nil {
		if r.CRC64, err = strconv.ParseUint(*l.CRC64, 16, 64); err != nil || len(*l.CRC64) != 16 {
			return Record{}, fmt.Errorf("checksum %q: %w", clip(*l.CRC64), ErrInvalid)
		}
		r.HasCRC = true
	}
	if l.Mode != "" {
		mode, err := strconv.ParseUint(l.Mode, 8, 32)
		if err != nil {
			return Record{}, fmt.Errorf("mode %q: %w", clip(l.Mode), ErrInvalid)
		}
		r.Mode = uint32(mode)
		if r.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			r.Mode &^= syscall.S_ISUID | syscall.S_ISGID
		}
	}
	if l.Swapped != "" {
		typ, err := strconv.ParseUint(l.Swapped, 8, 32)
		if err != nil {
			return Record{}, fmt.Errorf("type %q: %w", clip(l.Swapped), ErrInvalid)
		}
		r.Swapped = uint32(typ)
	}
	return r, validate(&r)
}

// marshal is json.Marshal that leaves < > & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// toText is a string that may hold any bytes as text, or where it is none raw. Control
// characters take six bytes each as text, so they go raw too.
func toText(s string) (text string, raw []byte) {
	if utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0 {
		return s, nil
	}
	return "", []byte(s)
}

// clip shortens what a stranger wrote before it goes into an error.
func clip(s string) string {
	const enough = 60
	if len(s) > enough {
		return s[:enough] + "…"
	}
	return s
}
