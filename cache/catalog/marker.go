package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	badger "github.com/dgraph-io/badger/v4"
)

const (
	// markerName is a small text file beside Badger's: what Badger itself cannot know.
	markerName = "catalog.json"
	// floorName holds the floor.
	floorName = "catalog.floor"
)

// phase is how the last user left the catalog.
type phase string

const (
	phaseCreating phase = "creating" // not yet usable, nothing in it counts
	phaseOpen     phase = "open"     // in use, or its user did not Close it
	phaseClean    phase = "clean"    // closed: files lists exactly what there is
)

// marker is the content of the file markerName, replaced as a whole.
type marker struct {
	phase phase
	boot  string
	files []attested
}

// attested is what Close saw of one file.
type attested struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	// CRC is CRC-32C of the last attestedTail bytes: all of MANIFEST up to that
	// size, and of a table its index with its checksum, which names the rest.
	CRC uint32 `json:"crc32c"`
}

// attestedTail is more than MANIFEST grows to (a few ten bytes per table made, rewritten now and then).
const attestedTail = 4 << 20

type markerJSON struct {
	Format int        `json:"format"`
	About  string     `json:"about"`
	Phase  phase      `json:"phase"`
	Boot   string     `json:"boot_id"`
	Files  []attested `json:"files,omitempty"`
}

const aboutMarker = "depotfs catalog: the state of the mount's files. File contents are in the cache directory and the depot, not here."

// write replaces the marker and makes it durable.
func (m marker) write(dir string) error {
	b, err := json.MarshalIndent(markerJSON{formatVersion, aboutMarker, m.phase, m.boot, m.files}, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, markerName+".tmp")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write marker: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, markerName))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write marker: %w", err)
	}
	return nil
}

// readMarker returns os.ErrNotExist, ErrNewer or ErrDamaged among others.
func readMarker(dir string) (marker, error) {
	b, err := os.ReadFile(filepath.Join(dir, markerName))
	if err != nil {
		return marker{}, err
	}
	return parseMarker(b)
}

func parseMarker(b []byte) (marker, error) {
	var m markerJSON
	if err := json.Unmarshal(b, &m); err != nil {
		return marker{}, damagedf("%s: %v", markerName, err)
	}
	if m.Format > formatVersion {
		return marker{}, fmt.Errorf("format version %d: %w", m.Format, ErrNewer)
	}
	switch m.Phase {
	case phaseCreating, phaseOpen, phaseClean:
	default:
		return marker{}, damagedf("%s: unknown phase %q", markerName, m.Phase)
	}
	if m.Format < 1 {
		return marker{}, damagedf("%s: no format version", markerName)
	}
	return marker{m.Phase, m.Boot, m.Files}, nil
}

// dataFiles lists the names of the files that hold the catalog, sorted.
func dataFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if isData(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// attest describes the data files once Badger has closed them.
func attest(dir string) ([]attested, error) {
	names, err := dataFiles(dir)
	if err != nil {
		return nil, err
	}
	var files []attested
	for _, name := range names {
		a, err := attestFile(dir, name)
		if err != nil {
			return nil, err
		}
		files = append(files, a)
	}
	return files, nil
}

func attestFile(dir, name string) (attested, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return attested{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return attested{}, err
	}
	a := attested{Name: name, Size: st.Size()}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(f, max(0, a.Size-attestedTail), attestedTail)); err != nil {
		return attested{}, err
	}
	a.CRC = sum.Sum32()
	return a, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// isData says that a file holds records, or the list of files that do.
func isData(name string) bool {
	return name == badger.ManifestFilename || strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".mem")
}

// isByproduct says that a file of Badger's holds nothing of ours: statistics and files of
// the empty value log, the registry of encryption keys (there are none), a process number.
func isByproduct(name string) bool {
	return name == "DISCARD" || name == "KEYREGISTRY" || name == "LOCK" || strings.HasSuffix(name, ".vlog")
}

// discardByproducts removes files that Badger makes anew, so that damage in
// them cannot matter: it would exit the process over some of it.
func discardByproducts(dir string) error { return removeWhere(dir, isByproduct) }

// wipe removes what a creation left that was cut short.
func wipe(dir string) error {
	return removeWhere(dir, func(name string) bool {
		return isData(name) || isByproduct(name) || name == floorName || name == journalName
	})
}

func removeWhere(dir string, match func(string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if match(e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
