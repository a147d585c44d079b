package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// journalName is the file of the journal. It is there from Open to Close.
const journalName = "catalog.journal"

// journal is the log of the commits that are in the overlay and not in Badger yet: what
// makes them survive a kill. It is written with write(2) and never synced: what a power
// cut shall not take, Sync brings into Badger. A record is
//
//	seq 8 | length of the writes 4 | CRC-32C of these twelve bytes 4 | CRC-32C of the writes 4 | writes
//	write: 0 deleted or 1 set | len(key) | key [| len(value) | value]
//
// where len is uvarint. The header has a checksum of its own so that a record that a kill
// cut short can be told from one whose length is wrong. The records have numbers without
// gaps; those up to metaFlushed are in Badger too.
type journal struct {
	f    *os.File
	size int64
	buf  []byte
	bad  error // a write that could not be taken back
}

const journalHeader = 8 + 4 + 4 + 4

func openJournal(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, journalName), os.O_RDWR|os.O_CREATE, 0o600)
}

// append writes a commit; on an error nothing of it is there.
func (j *journal) append(seq uint64, list []write) error {
	if j.bad != nil {
		return j.bad
	}
	j.buf = encodeCommit(j.buf[:0], seq, list)
	if _, err := j.f.WriteAt(j.buf, j.size); err != nil {
		if terr := j.f.Truncate(j.size); terr != nil {
			j.bad = fmt.Errorf("write %s: %w", journalName, errors.Join(err, terr))
			return j.bad
		}
		return fmt.Errorf("write %s: %w", journalName, err)
	}
	j.size += int64(len(j.buf))
	if cap(j.buf) > maxKeptBuffer {
		j.buf = nil
	}
	return nil
}

// maxKeptBuffer is above what a commit of the kernel's requests takes.
const maxKeptBuffer = 64 << 10

// reset forgets all commits: Badger has them.
func (j *journal) reset() error {
	if j.size == 0 {
		return nil
	}
	if err := j.f.Truncate(0); err != nil {
		return fmt.Errorf("empty %s: %w", journalName, err)
	}
	j.size = 0
	return nil
}

func encodeCommit(b []byte, seq uint64, list []write) []byte {
	b = append(b, make([]byte, journalHeader)...)
	for i := range list {
		w := &list[i]
		if w.val == nil {
			b = append(b, 0)
		} else {
			b = append(b, 1)
		}
		b = binary.AppendUvarint(b, uint64(len(w.key)))
		b = append(b, w.key...)
		if w.val != nil {
			b = binary.AppendUvarint(b, uint64(len(w.val)))
			b = append(b, w.val...)
		}
	}
	binary.BigEndian.PutUint64(b, seq)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-journalHeader))
	binary.BigEndian.PutUint32(b[12:], crc32.Checksum(b[:12], castagnoli))
	binary.BigEndian.PutUint32(b[16:], crc32.Checksum(b[journalHeader:], castagnoli))
	return b
}

// errTorn is the end of a journal within a record.
var errTorn = errors.New("a record cut short")

// decodeCommit takes the first record off b: errTorn where b ends within it, ErrDamaged
// where it is none.
func decodeCommit(b []byte) (seq uint64, list []write, rest []byte, err error) {
	if len(b) < journalHeader {
		return 0, nil, nil, errTorn
	}
	seq, length := binary.BigEndian.Uint64(b), int(binary.BigEndian.Uint32(b[8:]))
	if crc32.Checksum(b[:12], castagnoli) != binary.BigEndian.Uint32(b[12:]) {
		return 0, nil, nil, damagedf("%s: a record's header has a wrong checksum", journalName)
	}
	if len(b)-journalHeader < length {
		return 0, nil, nil, errTorn
	}
	body, rest := b[journalHeader:journalHeader+length], b[journalHeader+length:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[16:]) {
		return 0, nil, nil, damagedf("%s: a record has a wrong checksum", journalName)
	}
	for len(body) > 0 {
		set := body[0] == 1
		w := write{}
		if w.key, body, err = takeCounted(body[1:]); err == nil && set {
			w.val, body, err = takeCounted(body)
		}
		if err != nil || len(w.key) == 0 {
			return 0, nil, nil, damagedf("%s: a broken record", journalName)
		}
		list = append(list, w)
	}
	return seq, list, rest, nil
}

// takeCounted takes counted bytes off b; they are never nil.
func takeCounted(b []byte) (field, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, errTorn
	}
	return b[size : size+int(n) : size+int(n)], b[size+int(n):], nil
}

// replay puts the journal's commits that Badger lacks back into the overlay. While the
// machine has not been booted since (sameBoot) all of them must be there, but for one that
// was being written. After a power cut those count that follow what Badger has.
func (c *Catalog) replay(sameBoot bool) error {
	b, err := os.ReadFile(filepath.Join(c.dir, journalName))
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	c.journal.size = int64(len(b))
	replayed := 0
	for len(b) > 0 {
		seq, list, rest, err := decodeCommit(b)
		if errors.Is(err, errTorn) || err != nil && !sameBoot {
			break
		}
		if err != nil {
			return err
		}
		b = rest
		if seq <= c.seq {
			continue // a kill came between the flush and the reset
		}
		if seq != c.seq+1 {
			if sameBoot {
				return damagedf("%s: commit %d follows commit %d", journalName, seq, c.seq)
			}
			break
		}
		c.overlay.add(list, seq)
		c.seq = seq
		if replayed++; c.overlay.full() {
			if err := c.bring(); err != nil {
				return err
			}
		}
	}
	if err := c.flushLocked(); err != nil {
		return err
	}
	c.log.Debug("catalog journal", "replayed", replayed)
	return nil
}
