package share

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"depotfs/cache/extent"
)

// NextData returns the first range within [off, end) of a file that may have bytes
// other than zeros; ok is false where none follows. Where the file system knows no
// holes (NFS before 4.2) all is data.
func NextData(f *os.File, off, end int64) (r extent.Range, ok bool, err error) {
	if off >= end {
		return extent.Range{}, false, nil
	}
	err = withFd(f, func(fd int) error {
		var err error
		r, ok, err = nextData(fd, off, end)
		return err
	})
	if err != nil {
		return extent.Range{}, false, &os.PathError{Op: "seek", Path: f.Name(), Err: err}
	}
	return r, ok, nil
}

func nextData(fd int, off, end int64) (extent.Range, bool, error) {
	data, err := seek(fd, off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // a hole up to the end of the file, or beyond it
		return extent.Range{}, false, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return extent.Range{Off: off, End: end}, true, nil
	case err != nil:
		return extent.Range{}, false, err
	}
	if data >= end {
		return extent.Range{}, false, nil
	}
	hole, err := seek(fd, data, unix.SEEK_HOLE)
	if errors.Is(err, unix.ENXIO) { // cut meanwhile: who reads on will notice
		return extent.Range{Off: data, End: end}, true, nil
	}
	if err != nil {
		return extent.Range{}, false, err
	}
	return extent.Range{Off: data, End: min(hole, end)}, true, nil
}

func seek(fd int, off int64, whence int) (pos int64, err error) {
	err = again(func() error {
		pos, err = unix.Seek(fd, off, whence)
		return err
	})
	return pos, err
}

// PunchHole makes [off, end) of a file zeros that take no room; its length stays.
// EOPNOTSUPP says that the file system cannot.
func PunchHole(f *os.File, off, end int64) error {
	if off >= end {
		return nil
	}
	err := withFd(f, func(fd int) error {
		return again(func() error {
			return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, end-off)
		})
	})
	if errors.Is(err, unix.ENOSYS) {
		err = unix.EOPNOTSUPP
	}
	if err != nil {
		return &os.PathError{Op: "punch a hole", Path: f.Name(), Err: err}
	}
	return nil
}
