package share

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadSidecar reads the log of a partial file up to the first record that is not
// whole. The error is iofs.ErrNotExist without a log, ErrDamaged where not even
// its header can be read, ErrNewer where another version must.
func ReadSidecar(s *Share, ino uint64) (Header, []Record, error) {
	f, err := s.OpenFile(SidecarPath(ino), unix.O_RDONLY, 0)
	if err != nil {
		return Header{}, nil, err
	}
	defer f.Close()
	h, recs, err := readSidecar(f)
	if err != nil {
		return Header{}, nil, fmt.Errorf("read sidecar of inode %d: %w", ino, err)
	}
	return h, recs, nil
}

func readSidecar(r io.Reader) (Header, []Record, error) {
	in := newFrames(r)
	magic := make([]byte, len(sidecarMagic))
	if err := readFull(in.r, magic); err != nil || string(magic) != sidecarMagic {
		return Header{}, nil, errors.Join(ErrDamaged, ignoreEOF(err))
	}
	payload, ok, err := in.next()
	if err != nil || !ok {
		return Header{}, nil, errors.Join(ErrDamaged, err)
	}
	h, err := decodeHeader(payload)
	if err != nil {
		return Header{}, nil, err
	}
	var recs []Record
	for {
		payload, ok, err := in.next()
		if err != nil {
			return Header{}, nil, err
		}
		if !ok {
			return h, recs, nil
		}
		r, ok := parseRecord(payload)
		if !ok {
			return h, recs, nil
		}
		recs = append(recs, r)
	}
}

// BootID identifies this run of the kernel.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
