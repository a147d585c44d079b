package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/minio/crc64nvme"
	"golang.org/x/sys/unix"

	"depotfs/cache/extent"
	"depotfs/cache/share"
)

const (
	// zeroPiece is the least that is looked at for being zeros, and the unit of zero
	// maps: what is not worth a request of its own.
	zeroPiece = 64 << 10
	// diskBlock is the usual block of a file system: smaller holes free nothing.
	diskBlock = 4 << 10
	// leastHole is from how many zeros on a hole is made of what was fetched: a call
	// costs about as much as writing that much.
	leastHole = 16 << 10
	// maxZeroRanges bounds the memory for the zeros of one file.
	maxZeroRanges = 1 << 20
)

// appendZeros is the CRC of bytes with n zeros behind them, from the CRC of the bytes.
func appendZeros(crc uint64, n int64) uint64 {
	if n == 0 {
		return crc
	}
	return combineCRC(^crc, ^uint64(0), n)
}

// zeroCRC is the CRC of n zeros.
func zeroCRC(n int64) uint64 { return appendZeros(0, n) }

// allZero says whether b has zeros only.
func allZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// readSparse reads [off, end): data is called for what was read, in pieces that end
// where a zeroPiece of the file does, and hole for what need not be read.
func readSparse(r io.ReaderAt, off, end int64, data func(off int64, b []byte) error, hole func(off, end int64)) error {
	f, isFile := r.(*os.File)
	buf := chunkPool.Get().(*[]byte)
	defer chunkPool.Put(buf)
	for at := off; at < end; {
		next := extent.Range{Off: at, End: end}
		if isFile {
			var ok bool
			var err error
			if next, ok, err = share.NextData(f, at, end); err != nil {
				return err
			}
			if !ok {
				next = extent.Range{Off: end, End: end}
			}
		}
		if next.Off > at {
			hole(at, next.Off)
		}
		for at = next.Off; at < next.End; {
			n := min(int64(len(*buf)), next.End-at)
			if over := (at + n) % zeroPiece; at+n < next.End && over < n {
				n -= over
			}
			m, err := r.ReadAt((*buf)[:n], at)
			if int64(m) < n {
				if err == nil || errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return fmt.Errorf("%d of %d bytes at %d: %w", m, n, at, err)
			}
			if err := data(at, (*buf)[:n]); err != nil {
				return err
			}
			at += n
		}
	}
	if !isFile {
		return nil
	}
	// What lies beyond the end of a file looks like a hole.
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Size() < end {
		return fmt.Errorf("%d of %d bytes: %w", st.Size(), end, io.ErrUnexpectedEOF)
	}
	return nil
}

// sumCRC is the CRC-64/NVME of a section; holes of a file are not read.
func sumCRC(r io.ReaderAt, off, length int64) (uint64, error) {
	var crc uint64
	err := readSparse(r, off, off+length, func(_ int64, b []byte) error {
		crc = crc64nvme.Update(crc, b)
		return nil
	}, func(off, end int64) { crc = appendZeros(crc, end-off) })
	return crc, err
}

// scanRange reads [off, end) of a file, but for its holes, and returns its CRC and
// where it is zeros.
func scanRange(f *os.File, off, end int64) (crc uint64, zeros extent.Set, err error) {
	err = readSparse(f, off, end, func(off int64, b []byte) error {
		crc = crc64nvme.Update(crc, b)
		addZeros(&zeros, off, b)
		return nil
	}, func(off, end int64) {
		crc = appendZeros(crc, end-off)
		zeros.Add(off, end)
	})
	return crc, zeros, err
}

// addZeros adds the pieces of b, read at off, that are zeros.
func addZeros(zeros *extent.Set, off int64, b []byte) {
	for len(b) > 0 && zeros.Count() < maxZeroRanges {
		n := min(zeroPiece-off%zeroPiece, int64(len(b)))
		if allZero(b[:n]) {
			zeros.Add(off, off+n)
		}
		off, b = off+n, b[n:]
	}
}

// holesOf is where a file has holes, without reading it.
func holesOf(f *os.File, size int64) (holes extent.Set, err error) {
	for at := int64(0); at < size && holes.Count() < maxZeroRanges; {
		next, ok, err := share.NextData(f, at, size)
		if err != nil {
			return extent.Set{}, err
		}
		if !ok {
			next = extent.Range{Off: size, End: size}
		}
		holes.Add(at, next.Off)
		at = next.End
	}
	return holes, nil
}

// writeSparse writes b at off, with holes for what of it is zeros.
func writeSparse(f *os.File, b []byte, off int64) error {
	for len(b) > 0 {
		zeros, n := nextPiece(b, off)
		if zeros {
			err := share.PunchHole(f, off, off+n)
			if err == nil {
				off, b = off+n, b[n:]
				continue
			}
			if !errors.Is(err, unix.EOPNOTSUPP) {
				return err
			}
		}
		if _, err := f.WriteAt(b[:n], off); err != nil {
			return err
		}
		off, b = off+n, b[n:]
	}
	return nil
}

// nextPiece is how much of b, which belongs at off, is to become a hole, or bytes.
func nextPiece(b []byte, off int64) (zeros bool, n int64) {
	total := int64(len(b))
	run := int64(0) // zeros before n
	for n < total {
		block := min(diskBlock-(off+n)%diskBlock, total-n)
		if !allZero(b[n : n+block]) {
			if run >= leastHole {
				break
			}
			run = 0
		} else {
			run += block
		}
		n += block
	}
	switch {
	case run < leastHole:
		return false, n
	case run < n:
		return false, n - run // the bytes before them first
	}
	return true, n
}
