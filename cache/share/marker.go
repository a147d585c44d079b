package share

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Errors of files that depotfs itself wrote in the share.
var (
	// ErrNewer: written by a newer depotfs. Nothing rewrites such a file.
	ErrNewer = errors.New("written by a newer version of depotfs: use that version or newer")
	// ErrDamaged: not what depotfs wrote.
	ErrDamaged = errors.New("damaged")
)

// markerFormat is the newest format of the marker that this version knows.
const markerFormat = 1

// maxMarker bounds a marker file; a real one has some hundred bytes.
const maxMarker = 64 << 10

// Marker says whose cache directory this is. Without it a share that was known
// is taken for one that is not mounted.
type Marker struct {
	Format       int    `json:"format"` // set by WriteMarker
	ShareID      string `json:"share_id"`
	DepotID      string `json:"depot_id,omitempty"` // "" = no store so far
	Zone         string `json:"zone"`
	InoHighWater uint64 `json:"inode_high_water"` // no inode number above it was ever handed out
}

// ReadMarker reads the marker: iofs.ErrNotExist when there is none, ErrNewer or
// ErrDamaged when it cannot be understood.
func ReadMarker(s *Share) (Marker, error) {
	b, err := s.ReadFile(MarkerPath, maxMarker)
	if err != nil {
		return Marker{}, err
	}
	var m Marker
	if err := json.Unmarshal(b, &struct {
		Format *int `json:"format"`
	}{&m.Format}); err != nil {
		return Marker{}, fmt.Errorf("read marker %s/%s: %w: %w", s.dir, MarkerPath, ErrDamaged, err)
	}
	if m.Format > markerFormat {
		return Marker{}, fmt.Errorf("read marker %s/%s of format %d: %w", s.dir, MarkerPath, m.Format, ErrNewer)
	}
	if err := json.Unmarshal(b, &m); err != nil || m.Format < 1 {
		return Marker{}, fmt.Errorf("read marker %s/%s: %w (%v)", s.dir, MarkerPath, ErrDamaged, err)
	}
	return m, nil
}

// WriteMarker replaces the marker durably, unless it is of a newer format.
func WriteMarker(s *Share, m Marker) error {
	if _, err := ReadMarker(s); errors.Is(err, ErrNewer) {
		return err
	}
	m.Format = markerFormat
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write marker: %w", err)
	}
	if err := s.MkdirAll(Private, privateMode); err != nil {
		return err
	}
	return s.ReplaceFile(MarkerPath, 0o600, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
}
