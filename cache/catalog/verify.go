package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// verify looks for damage before Badger opens the files, because Badger is
// lenient where we must not be (it skips tables with a wrong checksum, forgets
// tables that a cut MANIFEST no longer lists, cuts its log at the first bad
// entry) and harsh where we cannot be (it exits the process over a bad footer).
func verify(dir string, m marker) error {
	if m.phase == phaseClean {
		if err := verifyAttested(dir, m.files); err != nil {
			return err
		}
	}
	ids, err := manifestTables(dir)
	if err != nil {
		return err
	}
	f, err := readFloor(dir)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return err
	}
	if !f.manifest.begins(b) {
		return damagedf("%s was cut or changed", badger.ManifestFilename)
	}
	var buf []byte
	for _, id := range ids {
		name := table.IDToFilename(id)
		if buf, err = readInto(buf, filepath.Join(dir, name)); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return damagedf("the file %s is missing", name)
			}
			return fmt.Errorf("read table: %w", err)
		}
		if err := verifyTable(buf); err != nil {
			return damagedf("%s: %v", name, err)
		}
	}
	return nil
}

// verifyAttested compares the files with what Close saw.
func verifyAttested(dir string, want []attested) error {
	if len(want) == 0 {
		return damagedf("%s lists no files", markerName)
	}
	for _, w := range want {
		got, err := attestFile(dir, w.Name)
		if errors.Is(err, os.ErrNotExist) {
			return damagedf("the file %s is missing", w.Name)
		}
		if err != nil {
			return err
		}
		if got != w {
			return damagedf("%s is not as it was at the last clean stop", w.Name)
		}
	}
	return nil
}

// manifestTables lists the tables that Badger's MANIFEST names.
func manifestTables(dir string) (ids []uint64, err error) {
	defer guard(&err)
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return nil, damagedf("the file %s is missing", badger.ManifestFilename)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.Options{})
	if err != nil {
		return nil, damagedf("%s: %v", badger.ManifestFilename, err)
	}
	for id := range m.Tables {
		ids = append(ids, id)
	}
	return ids, nil
}

// readInto reads a whole file into buf, which grows where needed. Reading, not
// mapping: a bad sector must be an error here, not a fault.
func readInto(buf []byte, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return buf, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return buf, err
	}
	n := int(st.Size())
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := f.ReadAt(buf, 0); err != nil {
		return buf, err
	}
	return buf, nil
}

var errTable = errors.New("not a table, or cut short")

// verifyTable checks every checksum of an uncompressed, unencrypted table:
//
//	block... | index | len(index) 4 | checksum of index | len(checksum) 4
func verifyTable(b []byte) (err error) {
	defer guard(&err)
	rest, sum, err := cutChecksum(b)
	if err != nil {
		return err
	}
	index, rest, err := cutTail(rest)
	if err != nil {
		return err
	}
	if err := y.VerifyChecksum(index, sum); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	// The index is as Badger wrote it, so what it says may be believed.
	ti := fb.GetRootAsTableIndex(index, 0)
	if ti.OffsetsLength() == 0 {
		return errTable
	}
	var at uint64
	var o fb.BlockOffset
	for i := range ti.OffsetsLength() {
		if !ti.Offsets(&o, i) || uint64(o.Offset()) != at || at+uint64(o.Len()) > uint64(len(rest)) {
			return errTable
		}
		block := rest[at : at+uint64(o.Len())]
		data, sum, err := cutChecksum(block)
		if err != nil {
			return err
		}
		if err := y.VerifyChecksum(data, sum); err != nil {
			return fmt.Errorf("block at %d: %w", at, err)
		}
		at += uint64(o.Len())
	}
	if at != uint64(len(rest)) {
		return errTable
	}
	return nil
}

// cutTail takes a length and that many bytes before it off the end of b.
func cutTail(b []byte) (tail, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errTable
	}
	b, l := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if uint64(l) > uint64(len(b)) {
		return nil, nil, errTable
	}
	cut := len(b) - int(l)
	return b[cut:], b[:cut], nil
}

func cutChecksum(b []byte) (rest []byte, sum *pb.Checksum, err error) {
	tail, rest, err := cutTail(b)
	if err != nil {
		return nil, nil, err
	}
	sum = new(pb.Checksum)
	if err := proto.Unmarshal(tail, sum); err != nil || sum.Algo != pb.Checksum_CRC32C {
		return nil, nil, errTable
	}
	return rest, sum, nil
}
