package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
)

// appendEntry writes an entry as Badger does.
func appendEntry(b []byte, meta byte, key, value []byte) []byte {
	at := len(b)
	b = append(b, meta, 0)
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = binary.AppendUvarint(b, uint64(len(value)))
	b = append(binary.AppendUvarint(b, 0), key...)
	b = append(b, value...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

func versioned(key string, v uint64) []byte { return binary.BigEndian.AppendUint64([]byte(key), ^v) }

// logOf makes a log of one transaction of two entries for each version.
func logOf(versions ...uint64) []byte {
	b := make([]byte, walHeader)
	for _, v := range versions {
		b = appendEntry(b, walTxn, versioned("key", v), []byte("a value"))
		b = appendEntry(b, walTxn, versioned("other key", v), nil)
		b = appendEntry(b, walFin, versioned("!badger!txn", v), fmt.Append(nil, v))
	}
	return b
}

func zeros(b []byte, n int) []byte { return append(b, make([]byte, n)...) }

func TestReadLog(t *testing.T) {
	three := logOf(5, 6, 7)
	two := int64(len(logOf(5, 6)))
	flipped := append([]byte(nil), three...)
	flipped[walHeader+12] ^= 1
	for _, tc := range []struct {
		name string
		log  []byte
		want wal
	}{
		{"nothing", nil, wal{end: walHeader}},
		{"header only", zeros(nil, walHeader), wal{end: walHeader}},
		{"whole", three, wal{first: 5, last: 7, end: int64(len(three))}},
		{"zeros behind", zeros(three, 5000), wal{first: 5, last: 7, end: int64(len(three))}},
		{"no end of the transaction", zeros(three[:len(three)-20], 5000), wal{first: 5, last: 6, end: two}},
		{"torn entry", zeros(three[:two+10], 5000), wal{first: 5, last: 6, end: two}},
		{"hole", append(zeros(logOf(5, 6), 1000), 1), wal{first: 5, last: 6, end: two, junk: true}},
		{"flip", append(zeros(flipped, walTorn), 1), wal{end: walHeader, junk: true}},
	} {
		got := readLog(tc.log)
		tc.want.size = int64(len(tc.log))
		if got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestRepairLogs(t *testing.T) {
	whole := int64(len(logOf(5, 6)))
	for _, tc := range []struct {
		name  string
		logs  [][]byte
		sizes []int64 // afterwards, -1 = removed
		boot  bool    // also after a kill; else it is damage then
	}{
		{"one after the other", [][]byte{logOf(5, 6), logOf(7)}, []int64{whole, int64(len(logOf(7)))}, true},
		{"zeros are cut off", [][]byte{zeros(logOf(5, 6), 100)}, []int64{whole}, true},
		{"empty files are removed", [][]byte{nil, logOf(5, 6), nil}, []int64{-1, whole, -1}, true},
		{"never filled", [][]byte{logOf(5, 6), zeros(nil, 4096)}, []int64{whole, walHeader}, true},
		{"end of the first lost", [][]byte{zeros(logOf(5, 6), 100), logOf(8), logOf(9)}, []int64{whole, -1, -1}, false},
	} {
		for _, boot := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/same boot %v", tc.name, boot), func(t *testing.T) {
				dir := t.TempDir()
				for i, b := range tc.logs {
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.mem", i)), b, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				err := repairLogs(dir, boot)
				if boot && !tc.boot {
					if !errors.Is(err, ErrDamaged) {
						t.Errorf("a hole after a kill: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				for i, want := range tc.sizes {
					got := int64(-1)
					if st, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%05d.mem", i))); err == nil {
						got = st.Size()
					}
					if got != want {
						t.Errorf("log %d has %d bytes, want %d", i, got, want)
					}
				}
			})
		}
	}
}
