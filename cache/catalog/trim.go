package catalog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// defaultMapped is how much of the tables may stay mapped into the process. It is page cache,
// which the kernel takes back when it needs memory, but counts as ours until then: after a
// million files were made it was 400 MiB.
const defaultMapped = 96 << 20

// Trim gives the mapped pages of the tables back to the kernel where they are more than
// Options.MaxMapped. What is asked for again is read again. It is to be called every few
// seconds: a listing of the whole tree maps hundreds of MiB in a minute.
func (c *Catalog) Trim() error {
	dir, err := filepath.Abs(c.dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir) // as the kernel names it
	}
	if err != nil {
		return err
	}
	// The kernel walks over all of our pages to tell what is mapped. Tables that are smaller
	// than the bound altogether need no such question.
	if size, err := sizeOfTables(dir); err != nil || size <= c.o.MaxMapped {
		return err
	}
	tables, mapped, err := mappedTables(dir)
	if err != nil || mapped <= c.o.MaxMapped {
		return err
	}
	for _, t := range tables {
		// Not MADV_DONTNEED: Badger may have unmapped a table by now and something else
		// may be there, which this leaves as it is.
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, t.start, t.end-t.start, unix.MADV_PAGEOUT)
		if errno != 0 && errno != unix.ENOMEM { // ENOMEM: nothing is there any more
			return fmt.Errorf("page out a table of the catalog: %w", errno)
		}
	}
	return nil
}

// sizeOfTables adds up the tables in dir.
func sizeOfTables(dir string) (size int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != tableSuffix {
			continue
		}
		switch info, err := e.Info(); {
		case err == nil:
			size += info.Size()
		case !errors.Is(err, fs.ErrNotExist): // a compaction has removed it
			return 0, err
		}
	}
	return size, nil
}

// tableSuffix ends the names of Badger's tables.
const tableSuffix = ".sst"

// mapping is a range of the process's memory.
type mapping struct{ start, end uintptr }

// mappedTables lists where the tables in dir are mapped, and how many bytes of that are in
// memory.
func mappedTables(dir string) (tables []mapping, resident int64, err error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	table := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Bytes()
		if kib, isRss := bytes.CutPrefix(line, []byte("Rss:")); isRss && table {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(kib, []byte("kB")))), 10, 64)
			if err != nil {
				return nil, 0, fmt.Errorf("read smaps: %w", err)
			}
			resident += n << 10
		}
		if len(line) == 0 || !isHex(line[0]) {
			continue // a property of the mapping before, whose names are capitalized
		}
		var m mapping
		if n, _ := fmt.Sscanf(string(line), "%x-%x ", &m.start, &m.end); n != 2 {
			continue
		}
		at := bytes.IndexByte(line, '/')
		if table = at >= 0 && filepath.Dir(string(line[at:])) == dir && bytes.HasSuffix(line, []byte(tableSuffix)); table {
			tables = append(tables, m)
		}
	}
	return tables, resident, lines.Err()
}

// isHex tells whether an address in smaps begins with b.
func isHex(b byte) bool { return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' }
