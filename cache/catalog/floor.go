package catalog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
)

// floor is what a Sync has made durable, and so what must be there for ever
// after: a witness against logs and a MANIFEST that were cut. Its file,
// floorName, is written after the Sync and not synced itself: an older floor is
// a weaker witness, not a false one, and a torn one is none.
type floor struct {
	tick     uint64
	manifest prefix
}

// prefix describes the bytes that an append-only file begins with.
type prefix struct {
	size uint64
	crc  uint32 // CRC-32C of these bytes
	head uint32 // CRC-32C of the first manifestHead of them
}

// manifestHead covers MANIFEST's magic, and length and checksum of its first
// change set. Badger rewrites MANIFEST now and then into one change set that
// names all tables: then these bytes are others, and a prefix of before says nothing.
const manifestHead = 16

func prefixOf(b []byte) prefix {
	return prefix{uint64(len(b)), crc32.Checksum(b, castagnoli), crc32.Checksum(b[:min(len(b), manifestHead)], castagnoli)}
}

// begins says whether b may be the file that p was taken of, or what became of it.
func (p prefix) begins(b []byte) bool {
	if p.size < manifestHead || prefixOf(b).head != p.head {
		return true
	}
	return uint64(len(b)) >= p.size && prefixOf(b[:p.size]) == p
}

const floorSize = 8 + 8 + 4 + 4 + 4

func (f floor) write(to *os.File) error {
	b := make([]byte, 0, floorSize)
	b = binary.BigEndian.AppendUint64(b, f.tick)
	b = binary.BigEndian.AppendUint64(b, f.manifest.size)
	b = binary.BigEndian.AppendUint32(b, f.manifest.crc)
	b = binary.BigEndian.AppendUint32(b, f.manifest.head)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	_, err := to.WriteAt(b, 0)
	return err
}

// readFloor returns the zero floor when there is no credible one.
func readFloor(dir string) (floor, error) {
	b, err := os.ReadFile(filepath.Join(dir, floorName))
	if errors.Is(err, os.ErrNotExist) {
		return floor{}, nil
	}
	if err != nil {
		return floor{}, err
	}
	const sum = floorSize - 4
	if len(b) != floorSize || crc32.Checksum(b[:sum], castagnoli) != binary.BigEndian.Uint32(b[sum:]) {
		return floor{}, nil
	}
	return floor{
		tick:     binary.BigEndian.Uint64(b),
		manifest: prefix{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])},
	}, nil
}
