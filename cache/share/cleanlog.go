package share

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// cleanMagic begins every segment; its last digit is the format.
	cleanMagic  = "depotfs clean 1\n"
	cleanPrefix = "depotfs clean "

	// cleanBuffer is how many bytes of records wait in memory. Losing them costs
	// a comparison by checksum, so they need not hurry.
	cleanBuffer = 64 << 10
	// cleanSegment is the size at which a new segment begins, so that damage in
	// one costs at most so much.
	cleanSegment = 8 << 20
	// cleanSmall is the size below which compaction is not worth it.
	cleanSmall = 1 << 20
)

// CleanLog outlives the state directory: it lets a new catalog tell what the
// depot already has from what it must get, without reading the files. Of several
// records of a path the last counts, and it counts only while the file still has
// its stamp, so nothing needs to be taken back when a file changes. All methods
// may be called concurrently.
type CleanLog struct {
	share *Share

	mu       sync.Mutex
	f        *os.File // the segment that grows; nil before its first record
	buf      []byte   // records not written yet
	segments []uint64 // numbers, ascending, the growing one included
	next     uint64   // number of the next segment
	size     int64    // bytes in f
	total    int64    // bytes in all segments
	base     int64    // bytes after the last Rewrite
}

// OpenCleanLog opens the log, which may be empty. Segments of a newer format give
// ErrNewer.
func OpenCleanLog(s *Share) (*CleanLog, error) {
	if err := s.MkdirAll(CleanDir, privateMode); err != nil {
		return nil, err
	}
	l := &CleanLog{share: s}
	err := s.ReadDir(CleanDir, func(name string, _ uint64, _ uint32) error {
		if strings.HasSuffix(name, TempSuffix) { // of a Rewrite that a crash ended
			return ignoreNotExist(s.Unlink(CleanDir + "/" + name))
		}
		digits, ok := strings.CutSuffix(name, ".log")
		n, err := strconv.ParseUint(digits, 10, 63)
		if !ok || err != nil {
			return nil
		}
		l.segments = append(l.segments, n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(l.segments)
	for i, n := range l.segments {
		size, err := l.examine(n)
		if err != nil {
			return nil, err
		}
		l.total += size
		if i == 0 {
			l.base = size
		}
		l.next = n + 1
	}
	return l, nil
}

// examine returns the size of a segment and refuses newer formats.
func (l *CleanLog) examine(n uint64) (int64, error) {
	f, err := l.share.OpenFile(segmentPath(n), unix.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	magic := make([]byte, len(cleanMagic))
	read, _ := io.ReadFull(f, magic)
	if newerClean(magic[:read]) {
		return 0, fmt.Errorf("open %s: %w", segmentPath(n), ErrNewer)
	}
	st, err := l.share.StatFile(f, false)
	return st.Size, err
}

func newerClean(magic []byte) bool {
	return len(magic) == len(cleanMagic) && bytes.HasPrefix(magic, []byte(cleanPrefix)) && string(magic) > cleanMagic
}

func segmentPath(n uint64) string { return fmt.Sprintf("%s/%020d.log", CleanDir, n) }

// Append adds a record. It is in the share after a Flush, or when enough came
// together; an error may be one of earlier records, which are then kept for the
// next try as long as they are few.
func (l *CleanLog) Append(r CleanRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = appendFrame(l.buf, appendClean(nil, r))
	if len(l.buf) < cleanBuffer {
		return nil
	}
	err := l.flushLocked()
	if err != nil && len(l.buf) > 16*cleanBuffer {
		l.buf = nil // the share takes no writes: forget rather than grow
	}
	return err
}

// Flush writes what Append collected; it does not wait for the disk.
func (l *CleanLog) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushLocked()
}

func (l *CleanLog) flushLocked() error {
	if len(l.buf) == 0 {
		return nil
	}
	if l.f != nil && l.size >= cleanSegment {
		if err := l.endSegmentLocked(); err != nil {
			return err
		}
	}
	if l.f == nil {
		// Never the segment of an earlier run: its end may be torn.
		f, err := l.share.OpenFile(segmentPath(l.next), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		l.f, l.size = f, 0
		l.segments = append(l.segments, l.next)
		l.next++
		if err := l.writeLocked([]byte(cleanMagic)); err != nil {
			return errors.Join(err, l.endSegmentLocked())
		}
	}
	if err := l.writeLocked(l.buf); err != nil {
		// What is torn now must not hide what comes later: go on in a new segment.
		return errors.Join(err, l.endSegmentLocked())
	}
	l.buf = l.buf[:0]
	return nil
}

func (l *CleanLog) writeLocked(b []byte) error {
	if err := l.share.check("write", segmentPath(l.next-1)); err != nil {
		return err
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	l.total += int64(n)
	return err
}

func (l *CleanLog) endSegmentLocked() error {
	f := l.f
	l.f = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

// Grown says whether the log is more than twice as long as it was after its last
// Rewrite, so that another is worth it.
func (l *CleanLog) Grown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total > 2*max(l.base, cleanSmall)
}

// Load calls fn for every record, oldest first, so that a later one of a path
// replaces an earlier one. A damaged segment ends at its damage.
func (l *CleanLog) Load(fn func(CleanRecord)) error {
	l.mu.Lock()
	err := l.flushLocked()
	segments := slices.Clone(l.segments)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	for _, n := range segments {
		if err := l.loadSegment(n, fn); err != nil {
			return fmt.Errorf("load %s: %w", segmentPath(n), err)
		}
	}
	return nil
}

func (l *CleanLog) loadSegment(n uint64, fn func(CleanRecord)) error {
	f, err := l.share.OpenFile(segmentPath(n), unix.O_RDONLY, 0)
	if err != nil {
		return ignoreNotExist(err) // a Rewrite was faster
	}
	defer f.Close()
	in := newFrames(f)
	magic := make([]byte, len(cleanMagic))
	if err := readFull(in.r, magic); err != nil || string(magic) != cleanMagic {
		if newerClean(magic) {
			return ErrNewer
		}
		return ignoreEOF(err)
	}
	for {
		payload, ok, err := in.next()
		if err != nil || !ok {
			return err
		}
		r, ok := parseClean(payload)
		if !ok {
			return nil
		}
		fn(r)
	}
}

// Rewrite replaces everything in the log by records: what the catalog knows now.
// What is appended meanwhile stays, in a segment behind. A crash leaves the old
// records, the new ones or both.
func (l *CleanLog) Rewrite(records iter.Seq[CleanRecord]) error {
	l.mu.Lock()
	err := errors.Join(l.flushLocked(), l.endSegmentLocked())
	old := slices.Clone(l.segments)
	number, before := l.next, l.total
	if err == nil {
		l.next++
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}

	size := int64(0)
	err = l.share.ReplaceFile(segmentPath(number), 0o600, func(w io.Writer) error {
		buf := []byte(cleanMagic)
		flush := func() error {
			n, err := w.Write(buf)
			size += int64(n)
			buf = buf[:0]
			return err
		}
		for r := range records {
			buf = appendFrame(buf, appendClean(nil, r))
			if len(buf) >= cleanBuffer {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return flush()
	})
	if err != nil {
		return fmt.Errorf("rewrite clean log: %w", err)
	}

	var failed []error
	left := []uint64{number}
	for _, n := range old {
		if err := ignoreNotExist(l.share.Unlink(segmentPath(n))); err != nil {
			failed = append(failed, err)
			left = append(left, n)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.segments {
		if n > number {
			left = append(left, n)
		}
	}
	slices.Sort(left)
	l.segments, l.base = left, size
	l.total += size - before
	return errors.Join(failed...)
}

// Close flushes and closes.
func (l *CleanLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.flushLocked(), l.endSegmentLocked())
}
