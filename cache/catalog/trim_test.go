package catalog

import (
	"fmt"
	"testing"
)

// TestTrim: what a scan of all records mapped is given back, and can be read again.
func TestTrim(t *testing.T) {
	const inodes, perUpdate = 20_000, 1000
	dir := t.TempDir()
	c := openForTest(t, dir)
	for at := 0; at < inodes; at += perUpdate {
		if err := c.Update(func(tx *Tx) error {
			for i := at; i < at+perUpdate; i++ {
				if err := tx.NewInode(&Inode{Ino: Ino(2 + i), Mode: typeFile, Links: []Link{{Root, fmt.Sprintf("a name of the usual length %d", i)}}}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = openForTest(t, dir)
	count := func() (n int) {
		if err := c.View(func(tx *Tx) error {
			return tx.EachInode(0, func(*Inode) bool { n++; return true })
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	mapped := func() int64 {
		_, n, err := mappedTables(dir)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	count()
	before := mapped()
	if before < 1<<20 {
		t.Fatalf("a scan of all inodes mapped %d bytes", before)
	}
	if err := c.Trim(); err != nil || mapped() != before {
		t.Errorf("trimmed from %d to %d bytes, below the bound: %v", before, mapped(), err)
	}
	c.o.MaxMapped = before / 2 // less than the tables have, which end in the middle of a page
	if err := c.Trim(); err != nil || mapped() > before/2 {
		t.Errorf("trimmed from %d to %d bytes: %v", before, mapped(), err)
	}
	if n := count(); n != inodes {
		t.Errorf("%d inodes afterwards", n)
	}
}
