package catalog

import (
	"encoding/binary"
	"fmt"
)

// recordVersion is the first byte of every record. A change that only appends
// fields keeps it: readers ignore what follows the fields they know, and
// missing fields of older records are zero. Anything else increments it.
const recordVersion = 1

// maxRecord bounds one encoded value. Badger keeps values below its threshold
// (1 MiB, see badgerOptions) inside the LSM tree; larger ones would go to a
// value log, which this package deletes at every Open.
const maxRecord = 512 << 10

// encoder appends fields to buf: unsigned integers as uvarint, signed ones
// zigzag, strings and lists behind their length.
type encoder struct{ buf []byte }

func newEncoder(size int) encoder {
	return encoder{buf: append(make([]byte, 0, size), recordVersion)}
}

func (e *encoder) uint(v uint64) { e.buf = binary.AppendUvarint(e.buf, v) }
func (e *encoder) int(v int64)   { e.buf = binary.AppendVarint(e.buf, v) }
func (e *encoder) byte(v byte)   { e.buf = append(e.buf, v) }

// fixed is for numbers that are random, so that a varint would be longer.
func (e *encoder) fixed(v uint64) { e.buf = binary.BigEndian.AppendUint64(e.buf, v) }

func (e *encoder) bool(v bool) {
	if v {
		e.byte(1)
	} else {
		e.byte(0)
	}
}

func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	e.buf = append(e.buf, s...)
}

// decoder takes fields off buf. The first failure sticks in err and all later
// fields are zero; nothing is ever allocated that buf does not pay for.
// A record that ends before a field begins is an older one: the field is zero.
type decoder struct {
	buf []byte
	err error
}

func newDecoder(buf []byte) decoder {
	if len(buf) == 0 {
		return decoder{err: damagedf("an empty record")}
	}
	if v := buf[0]; v != recordVersion {
		return decoder{err: fmt.Errorf("record version %d: %w", v, ErrNewer)}
	}
	return decoder{buf: buf[1:]}
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = damagedf("%s", what)
	}
	d.buf = nil
}

func (d *decoder) uint() uint64 {
	if len(d.buf) == 0 {
		return 0
	}
	v, n := binary.Uvarint(d.buf)
	if n <= 0 {
		d.fail("a broken number in a record")
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

func (d *decoder) int() int64 {
	if len(d.buf) == 0 {
		return 0
	}
	v, n := binary.Varint(d.buf)
	if n <= 0 {
		d.fail("a broken number in a record")
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > 1<<32-1 {
		d.fail("a number beyond 32 bits in a record")
		return 0
	}
	return uint32(v)
}

func (d *decoder) byte() byte {
	if len(d.buf) == 0 {
		return 0
	}
	v := d.buf[0]
	d.buf = d.buf[1:]
	return v
}

func (d *decoder) bool() bool { return d.byte() != 0 }

func (d *decoder) fixed() uint64 {
	if len(d.buf) == 0 {
		return 0
	}
	if len(d.buf) < 8 {
		d.fail("a record cut short")
		return 0
	}
	v := binary.BigEndian.Uint64(d.buf)
	d.buf = d.buf[8:]
	return v
}

func (d *decoder) string() string {
	n := d.uint()
	if n > uint64(len(d.buf)) {
		d.fail("a record cut short")
		return ""
	}
	s := string(d.buf[:n])
	d.buf = d.buf[n:]
	return s
}

// count is the length of a list whose elements take at least min bytes each.
func (d *decoder) count(min int) int {
	n := d.uint()
	if n > uint64(len(d.buf)/min) {
		d.fail("a list longer than its record")
		return 0
	}
	return int(n)
}
