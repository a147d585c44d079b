package catalog

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Badger's write-ahead log (*.mem) is 20 bytes of header, then entries:
//
//	meta 1 | user meta 1 | len(key), len(value), expiry as uvarints | key | value | CRC-32C of all that
//
// A transaction is entries marked walTxn whose keys end in its version, and
// one marked walFin whose value is the version in decimal. The file is made
// full size and zero; Badger, replaying, stops silently at the first thing that
// is no entry. These logs are read here first to tell an end from a hole.
const (
	walHeader = 20
	walTxn    = 1 << 6
	walFin    = 1 << 7
	// walTorn is how far bytes of an entry may reach whose header was not
	// written yet when the process was killed: memory copies of up to 256 bytes
	// are not made front to back. Twice that, and something is wrong.
	walTorn = 512
	// walMaxEntry bounds what a header is believed to say about its entry.
	walMaxEntry = 2 << 20
)

// wal is what one log was found to hold.
type wal struct {
	size        int64
	first, last uint64 // versions of its transactions; 0 = none
	end         int64  // of the last whole transaction
	junk        bool   // more than a torn entry follows the last whole one
}

// repairLogs looks through the logs that an unclean stop left and cuts each
// behind its last whole transaction, as Badger would. While the machine has not
// been booted since (sameBoot), everything that was written is there, so a hole
// is damage. After a power cut it is what was never synced; logs behind a hole
// are removed then, so that no change survives which was built on a lost one.
func repairLogs(dir string, sameBoot bool) error {
	logs, err := logFiles(dir)
	if err != nil {
		return err
	}
	var before uint64 // last version of the log before
	var buf []byte
	lost := false
	for _, name := range logs {
		path := filepath.Join(dir, name)
		if buf, err = readInto(buf, path); err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		w := readLog(buf)
		hole := before != 0 && w.first != 0 && w.first != before+1
		if sameBoot && (w.junk || hole) {
			return damagedf("%s has a hole", name)
		}
		if lost = lost || hole; lost || w.size <= walHeader {
			// An empty log is what a kill leaves between making (or emptying) the
			// file and filling (or removing) it; Badger would refuse to open.
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		if w.end < w.size {
			if err := os.Truncate(path, w.end); err != nil {
				return err
			}
		}
		if w.last != 0 {
			before = w.last
		}
	}
	return nil
}

// logFiles lists the names of the logs, the oldest first.
func logFiles(dir string) ([]string, error) {
	names, err := dataFiles(dir)
	if err != nil {
		return nil, err
	}
	numbers := make(map[string]uint64)
	for _, name := range names {
		if number, isLog := strings.CutSuffix(name, ".mem"); isLog {
			if numbers[name], err = strconv.ParseUint(number, 10, 32); err != nil {
				return nil, damagedf("%s is no name of a log", name)
			}
		}
	}
	return slices.SortedFunc(maps.Keys(numbers), func(a, b string) int { return cmp.Compare(numbers[a], numbers[b]) }), nil
}

// readLog walks the entries of a log.
func readLog(b []byte) wal {
	w := wal{size: int64(len(b)), end: walHeader}
	if len(b) < walHeader {
		return w
	}
	at := int64(walHeader)
	var version uint64 // of the transaction that is under way
	torn := int64(walTorn)
	for {
		e, err := readEntry(b[at:])
		if err != nil {
			torn = max(torn, e.size)
			break
		}
		if e.meta&walTxn != 0 && len(e.key) >= 8 {
			// Badger keeps versions inverted, so that the newest sorts first.
			v := ^binary.BigEndian.Uint64(e.key[len(e.key)-8:])
			if version != 0 && v != version {
				break
			}
			version = v
		} else if e.meta&walFin != 0 {
			if v, err := strconv.ParseUint(string(e.value), 10, 64); err != nil || v != version {
				break
			}
			if w.first == 0 {
				w.first = version
			}
			w.last, w.end, version = version, at+e.size, 0
		} else {
			break
		}
		at += e.size
	}
	w.junk = at+torn < int64(len(b)) && !allZero(b[at+torn:])
	return w
}

// allZero compares page by page: most of a log is a hole.
func allZero(b []byte) bool {
	var zero [4096]byte
	for len(b) > 0 {
		n := min(len(b), len(zero))
		if !bytes.Equal(b[:n], zero[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

type walEntry struct {
	meta       byte
	key, value []byte
	size       int64 // of the whole entry
}

var errEntry = errors.New("no entry")

// readEntry reads the entry at the start of b. With errEntry size is what the
// header says, or 0 where that is beyond belief.
func readEntry(b []byte) (walEntry, error) {
	if len(b) < 2 {
		return walEntry{}, errEntry
	}
	e := walEntry{meta: b[0]}
	at := 2
	var fields [3]uint64 // key length, value length, expiry
	for i := range fields {
		v, n := binary.Uvarint(b[at:])
		if n <= 0 {
			return walEntry{}, errEntry
		}
		fields[i] = v
		at += n
	}
	if fields[0] > walMaxEntry || fields[1] > walMaxEntry {
		return walEntry{}, errEntry
	}
	klen, vlen := int(fields[0]), int(fields[1])
	e.size = int64(at + klen + vlen + crc32.Size)
	if e.size > int64(len(b)) || klen == 0 {
		return walEntry{size: e.size}, errEntry
	}
	sum := b[at+klen+vlen:]
	if crc32.Checksum(b[:at+klen+vlen], castagnoli) != binary.BigEndian.Uint32(sum) {
		return walEntry{size: e.size}, errEntry
	}
	e.key, e.value = b[at:at+klen], b[at+klen:at+klen+vlen]
	return e, nil
}
