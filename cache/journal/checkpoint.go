package journal

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"depotfs/cache/layout"
)

// A checkpoint is what the journals up to some batches come to. Its pages are batches whose
// numbers are those of the pages; its index is written last, and makes it one.

const (
	// MaxIndex bounds the index of a checkpoint, in bytes.
	MaxIndex = 256 << 10
	// MaxPages bounds a checkpoint: some 400 million records.
	MaxPages = 100_000

	indexFormat     = 1
	maxIndexZones   = 2000
	checkpoints     = layout.Private + "/checkpoint/"
	checkpointIndex = "index.json"
	pageDigits      = 6
)

// Index says what a checkpoint has.
type Index struct {
	Zone  string // that wrote it
	Made  int64  // ns since 1970 by the store's clock, as in the headers of its pages
	Epoch string // as in the headers of its pages
	Pages int
	// Graves is how many of the first pages have what was deleted and renamed, in the order
	// of time. The others have what there is.
	Graves  int
	Cursors map[string]uint64 // zone -> number of the last batch that is part of it
}

type index struct {
	Format  int               `json:"format"`
	Zone    string            `json:"zone"`
	Made    int64             `json:"made"`
	Epoch   string            `json:"epoch"`
	Pages   int               `json:"pages"`
	Graves  int               `json:"graves"`
	Cursors map[string]uint64 `json:"cursors"`
}

// EncodeIndex returns an index as its object's bytes.
func EncodeIndex(x Index) ([]byte, error) {
	if err := x.validate(); err != nil {
		return nil, fmt.Errorf("encode the index of a checkpoint: %w", err)
	}
	b, err := marshal(index{Format: indexFormat, Zone: x.Zone, Made: x.Made, Epoch: x.Epoch, Pages: x.Pages, Graves: x.Graves, Cursors: x.Cursors})
	if err == nil && len(b) >= MaxIndex {
		err = fmt.Errorf("%d bytes: %w", len(b), ErrTooLarge)
	}
	if err != nil {
		return nil, fmt.Errorf("encode the index of a checkpoint: %w", err)
	}
	return append(b, '\n'), nil
}

// DecodeIndex reads an index that others may have written. Its errors wrap ErrNewer,
// ErrInvalid or ErrTooLarge.
func DecodeIndex(b []byte) (Index, error) {
	x, err := decodeIndex(b)
	if err != nil {
		return Index{}, fmt.Errorf("index of a checkpoint: %w", err)
	}
	return x, nil
}

func decodeIndex(b []byte) (Index, error) {
	if len(b) > MaxIndex {
		return Index{}, fmt.Errorf("%d bytes: %w", len(b), ErrTooLarge)
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return Index{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if version.Format > indexFormat {
		return Index{}, fmt.Errorf("format %d, this depotfs knows up to %d: %w", version.Format, indexFormat, ErrNewer)
	}
	var f index
	if err := json.Unmarshal(b, &f); err != nil {
		return Index{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	x := Index{Zone: f.Zone, Made: f.Made, Epoch: f.Epoch, Pages: f.Pages, Graves: f.Graves, Cursors: f.Cursors}
	if f.Format < 1 {
		return Index{}, fmt.Errorf("format %d: %w", f.Format, ErrInvalid)
	}
	return x, x.validate()
}

func (x *Index) validate() error {
	switch {
	case !ValidZone(x.Zone):
		return fmt.Errorf("zone %q: %w", clip(x.Zone), ErrInvalid)
	case !validEpoch(x.Epoch):
		return fmt.Errorf("epoch %q: %w", clip(x.Epoch), ErrInvalid)
	case x.Pages < 0 || x.Graves < 0 || x.Graves > x.Pages:
		return fmt.Errorf("%d of %d pages: %w", x.Graves, x.Pages, ErrInvalid)
	case x.Pages > MaxPages || len(x.Cursors) > maxIndexZones:
		return fmt.Errorf("%d pages, %d zones: %w", x.Pages, len(x.Cursors), ErrTooLarge)
	}
	for zone := range x.Cursors {
		if !ValidZone(zone) {
			return fmt.Errorf("zone %q: %w", clip(zone), ErrInvalid)
		}
	}
	return nil
}

// Has says whether a page's header is that of a page of this checkpoint.
func (x *Index) Has(h Header, page int) bool {
	return h.Zone == x.Zone && h.Made == x.Made && h.Epoch == x.Epoch && h.Seq == uint64(page)
}

// CheckpointRoot is what the keys of all checkpoints begin with.
func CheckpointRoot(prefix string) string { return prefix + checkpoints }

// CheckpointPrefix is what the keys of one checkpoint begin with.
func CheckpointPrefix(prefix string, number uint64) string {
	return fmt.Sprintf("%s%0*d/", prefix+checkpoints, digits, number)
}

// IndexKey is the key of a checkpoint's index.
func IndexKey(prefix string, number uint64) string {
	return CheckpointPrefix(prefix, number) + checkpointIndex
}

// PageKey is the key of a checkpoint's page; they are counted from 1.
func PageKey(prefix string, number uint64, page int) string {
	return fmt.Sprintf("%s%0*d", CheckpointPrefix(prefix, number), pageDigits, page)
}

// ParseCheckpointKey tells of which checkpoint a key is; page is 0 for its index.
func ParseCheckpointKey(prefix, key string) (number uint64, page int, ok bool) {
	rest, ok := strings.CutPrefix(key, prefix+checkpoints)
	if !ok {
		return 0, 0, false
	}
	dir, name, _ := strings.Cut(rest, "/")
	number, err := strconv.ParseUint(dir, 10, 64)
	if err != nil || len(dir) != digits || number == 0 || number > math.MaxInt64 {
		return 0, 0, false
	}
	if name == checkpointIndex {
		return number, 0, true
	}
	page, err = strconv.Atoi(name)
	return number, page, err == nil && len(name) == pageDigits && page > 0 && page <= MaxPages
}
