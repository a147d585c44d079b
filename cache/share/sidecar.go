package share

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"depotfs/cache/catalog"
)

// sidecarMagic begins every sidecar.
const sidecarMagic = "depotfs sidecar\n"

// Sidecar is the append log beside a partial file that says which of its bytes
// were written here, so that they are not lost with the catalog.
//
// A write is recorded before it is acknowledged: a killed daemon loses none, for
// the kernel has both file and log. After a power cut only what a Sync covered
// counts. The owner excludes Compact, Close and Remove from everything else;
// Append and Sync may run concurrently.
type Sidecar struct {
	share *Share
	ino   uint64

	mu     sync.Mutex // SyncAfter does not hold it while data runs
	f      *os.File
	header Header
	end    int64  // of the last whole record
	count  int    // records in the log
	state  replay // what the records say
	last   Record // the last one, where it may still be extended in place
	lastAt int64  // its offset; 0 = the last record is to stay as it is
	named  bool   // the log's own name is durable
	broken error  // a failed write could not be taken back
}

// CreateSidecar begins the log of a partial file. One that exists is EEXIST: it
// may be the only record of somebody's bytes (see ReadSidecar, ReplaceSidecar).
func CreateSidecar(s *Share, ino uint64, h Header) (*Sidecar, error) {
	return writeSidecar(s, ino, h, nil, NoReplace)
}

// ReplaceSidecar begins the log of a partial file with what Replay found in the
// one before it, which it replaces durably and at once. What written names must
// be durable in the partial file.
func ReplaceSidecar(s *Share, ino uint64, h Header, written []catalog.Range, baseLimit, size int64) (*Sidecar, error) {
	h.Size = size
	recs := []Record{LimitRecord(baseLimit)}
	for _, r := range written {
		recs = append(recs, WriteRecord(r.Off, r.End))
	}
	recs = append(recs, markRecord(len(recs)))
	return writeSidecar(s, ino, h, recs, 0)
}

// AppendSidecar goes on with the log of an earlier run, made by this kernel or
// one before. What Replay found in it becomes durable and the log is compacted,
// so that from now on it belongs to this boot.
func AppendSidecar(s *Share, ino uint64) (*Sidecar, error) {
	h, recs, err := ReadSidecar(s, ino)
	if err != nil {
		return nil, err
	}
	boot, err := BootID()
	if err != nil {
		return nil, err
	}
	written, limit, size := Replay(h, recs, h.BootID == boot)
	f, err := s.OpenFile(PartialPath(ino), unix.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	err = errors.Join(s.fsync(f, PartialPath(ino)), f.Close())
	if err != nil {
		return nil, err
	}
	h.BootID = boot
	return ReplaceSidecar(s, ino, h, written, limit, size)
}

// writeSidecar makes a log under a temporary name and moves it into place whole,
// so that no log is ever without its header.
func writeSidecar(s *Share, ino uint64, h Header, recs []Record, rename uint) (*Sidecar, error) {
	head, err := encodeHeader(h)
	if err != nil {
		return nil, fmt.Errorf("write sidecar of inode %d: %w", ino, err)
	}
	content := appendFrame([]byte(sidecarMagic), head)
	sc := &Sidecar{share: s, ino: ino, header: h, state: newReplay(h), count: len(recs)}
	for _, r := range recs {
		content = appendFrame(content, r.appendTo(nil))
		sc.state.apply(r)
	}
	sc.end = int64(len(content))

	path := SidecarPath(ino)
	temp := path + TempSuffix
	if sc.f, err = s.OpenFile(temp, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	if err = s.ask("write", temp); err == nil {
		_, err = sc.f.WriteAt(content, 0)
	}
	durable := rename != NoReplace // a new log becomes durable with its first Sync
	if err == nil && durable {
		err = s.fsync(sc.f, temp)
	}
	if err == nil {
		err = s.Rename(temp, path, rename)
	}
	if err == nil && durable {
		err = s.SyncDir(PartialDir)
		sc.named = true
	}
	if err != nil {
		sc.f.Close()
		return nil, errors.Join(err, ignoreNotExist(s.Unlink(temp)))
	}
	return sc, nil
}

// Append records a write, truncation or limit before it is acknowledged. When it
// fails the log is as it was.
//
// It costs one small write, or none where the log already says the same. A write
// that goes on where the last one ended makes that record longer, as long as
// nothing could tear it: no Mark covers it, and it lies within one page. A
// truncation that cuts is durable on return and must be recorded before it is
// made: a power cut could otherwise leave the cut and not the record, and holes
// would pass for bytes.
func (sc *Sidecar) Append(r Record) error {
	if !r.valid() || r.Kind == KindMark {
		return fmt.Errorf("record %c [%d, %d): %w", r.Kind, r.Off, r.End, unix.EINVAL)
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.broken != nil {
		return sc.broken
	}
	if r.Kind == KindWrite {
		if sc.state.written.Contains(r.Off, r.End) {
			return nil
		}
		if sc.lastAt != 0 && sc.last.Off <= r.Off && r.Off <= sc.last.End {
			longer := WriteRecord(sc.last.Off, max(sc.last.End, r.End))
			if err := sc.writeLocked(longer, sc.lastAt); err != nil {
				return err
			}
			sc.last = longer
			sc.state.apply(r)
			return nil
		}
	}
	at, cuts := sc.end, r.Kind == KindTruncate && r.End < sc.state.size
	if err := sc.writeLocked(r, at); err != nil {
		return err
	}
	sc.count++
	sc.state.apply(r)
	sc.lastAt = 0
	if r.Kind == KindWrite && samePage(at, sc.end) {
		sc.last, sc.lastAt = r, at
	}
	if cuts {
		return sc.durableLocked()
	}
	return nil
}

// samePage says whether a record lies within one page: the kernel copies a page
// at a time, and a kill can only come between two.
func samePage(from, to int64) bool {
	const page = 4096 // the smallest there is
	return from/page == (to-1)/page
}

// writeLocked writes a record at an offset and moves the end behind it.
func (sc *Sidecar) writeLocked(r Record, at int64) error {
	path := SidecarPath(sc.ino)
	if err := sc.share.check("write", path); err != nil {
		return err
	}
	frame := appendFrame(make([]byte, 0, frameHeader+recordSize), r.appendTo(nil))
	if _, err := sc.f.WriteAt(frame, at); err != nil {
		err = fmt.Errorf("write sidecar of inode %d: %w", sc.ino, err)
		if terr := sc.takeBackLocked(at); terr != nil {
			sc.broken = errors.Join(err, terr)
		}
		return err
	}
	sc.end = at + int64(len(frame))
	return nil
}

// takeBackLocked restores the log after a failed write, for a torn record in the
// middle would hide all that follow.
func (sc *Sidecar) takeBackLocked(at int64) error {
	if at < sc.end { // the last record was being extended
		if _, err := sc.f.WriteAt(appendFrame(nil, sc.last.appendTo(nil)), at); err != nil {
			return err
		}
	}
	return sc.f.Truncate(sc.end)
}

// Sync makes the log durable and says in it that the bytes are durable which it
// names so far. The caller made them so (fdatasync of the partial file) and let
// nobody write since; SyncAfter is for where others may write.
func (sc *Sidecar) Sync() error { return sc.SyncAfter(nil) }

// SyncAfter is Sync with data called first, to make the bytes durable: what is
// appended while it runs is not covered.
func (sc *Sidecar) SyncAfter(data func() error) error {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.broken != nil {
		return sc.broken
	}
	covers := sc.count
	sc.lastAt = 0 // a covered record must not grow
	if data != nil {
		sc.mu.Unlock()
		err := data()
		sc.mu.Lock()
		if err != nil {
			return err
		}
	}
	if err := sc.writeLocked(markRecord(covers), sc.end); err != nil {
		return err
	}
	sc.count++
	sc.lastAt = 0
	return sc.durableLocked()
}

// durableLocked syncs the log, and its name once.
func (sc *Sidecar) durableLocked() error {
	if err := sc.share.check("fsync", SidecarPath(sc.ino)); err != nil {
		return err
	}
	err := withFd(sc.f, func(fd int) error { return again(func() error { return unix.Fdatasync(fd) }) })
	if err != nil {
		return fmt.Errorf("sync sidecar of inode %d: %w", sc.ino, err)
	}
	if !sc.named {
		if err := sc.share.SyncDir(PartialDir); err != nil {
			return err
		}
		sc.named = true
	}
	return nil
}

// Len is the size of the log in bytes: what tells when Compact is worth it.
func (sc *Sidecar) Len() int64 {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.end
}

// Compact replaces the log by a shorter one that says the same. The caller lets
// nobody write meanwhile and made what written names durable. When it fails the
// log goes on as before.
func (sc *Sidecar) Compact(written []catalog.Range, baseLimit, size int64) error {
	fresh, err := ReplaceSidecar(sc.share, sc.ino, sc.header, written, baseLimit, size)
	if err != nil {
		return err
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	old := sc.f
	sc.f, sc.header, sc.end, sc.count, sc.state = fresh.f, fresh.header, fresh.end, fresh.count, fresh.state
	sc.lastAt, sc.named, sc.broken = 0, true, nil
	return old.Close()
}

// Close leaves the log where it is.
func (sc *Sidecar) Close() error { return sc.f.Close() }

// Remove closes the log and removes it: the file is complete or gone.
func (sc *Sidecar) Remove() error {
	return errors.Join(sc.f.Close(), RemoveSidecar(sc.share, sc.ino))
}

// RemoveSidecar removes the log of a partial file; none is no error.
func RemoveSidecar(s *Share, ino uint64) error {
	return ignoreNotExist(s.Unlink(SidecarPath(ino)))
}
