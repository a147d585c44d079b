package share

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Both logs are a magic string and then frames:
//
//	length 4 | CRC-32C of length and payload 4 | payload        (little endian)
//
// A reader stops at the first frame that is not whole and right. The length is
// part of the sum, and zero is no length, so neither a torn frame nor the zeros
// that a file system may leave after a power cut are ever read as a record.

const frameHeader = 8

// maxFrame bounds what a damaged length can make a reader allocate. The largest
// real payload is a header with a path of some PATH_MAX.
const maxFrame = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends payload as a frame.
func appendFrame(dst, payload []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(dst[len(dst)-4:], castagnoli), castagnoli, payload)
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	return append(dst, payload...)
}

// frames reads frames up to the first that is not whole.
type frames struct {
	r    *bufio.Reader
	buf  []byte
	good int64 // bytes of whole frames read so far
}

func newFrames(r io.Reader) *frames { return &frames{r: bufio.NewReaderSize(r, 64<<10)} }

// next returns the next payload, valid until the call after; ok is false at the
// end or the first damage. err is an error of reading, never of the content.
func (f *frames) next() (payload []byte, ok bool, err error) {
	var head [frameHeader]byte
	if err := readFull(f.r, head[:]); err != nil {
		return nil, false, ignoreEOF(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size == 0 || size > maxFrame {
		return nil, false, nil
	}
	if int(size) > cap(f.buf) {
		f.buf = make([]byte, size)
	}
	payload = f.buf[:size]
	if err := readFull(f.r, payload); err != nil {
		return nil, false, ignoreEOF(err)
	}
	sum := crc32.Update(crc32.Checksum(head[:4], castagnoli), castagnoli, payload)
	if sum != binary.LittleEndian.Uint32(head[4:]) {
		return nil, false, nil
	}
	f.good += frameHeader + int64(size)
	return payload, true, nil
}

func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	return err
}

// ignoreEOF makes an end in the middle the end that it is.
func ignoreEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}
