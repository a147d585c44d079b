package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"depotfs/cache/catalog"
)

const benchFiles = 100_000

// benchCatalog has benchFiles files in directories of 1,000, most of them in tables.
func benchCatalog(b *testing.B) *catalog.Catalog {
	b.Helper()
	c := open(b, b.TempDir(), catalog.Options{})
	fill(b, c, benchFiles)
	return c
}

func fill(t testing.TB, c *catalog.Catalog, files int) {
	t.Helper()
	for at := 0; at < files; at += 1000 {
		update(t, c, func(tx *catalog.Tx) error {
			for i := at; i < at+1000; i++ {
				if err := putFile(tx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func fileName(i int) string { return fmt.Sprintf("a-file-with-a-usual-name-%07d.qcow2", i) }

// putFile is what making a file costs the catalog.
func putFile(tx *catalog.Tx, i int) error {
	ino, dir := catalog.Ino(2+i), catalog.Ino(1<<40+i/1000)
	key := "prefix/template/tmpl/2/" + fileName(i)
	n := &catalog.Inode{
		Ino: ino, Mode: 0o100644, Nlink: 1, Size: 1 << 30, Blocks: 1 << 21, Atime: 1700000000000000000, Mtime: 1700000000000000000, Ctime: 1700000000000000000,
		Links: []catalog.Link{{Parent: dir, Name: fileName(i)}}, State: 3, Gen: uint64(i), Stamp: catalog.Stamp{Ino: uint64(i), Size: 1 << 30, Mtime: 1700000000000000000, Ctime: 1700000000000000000},
		Base:    catalog.Version{Gen: uint64(i), Size: 1 << 30, CRC64: rand.Uint64(), HasCRC: true},
		Objects: []catalog.Object{{Key: key, ETag: "9b2cf535f27731c974343645a3985328-128", Gen: uint64(i)}},
	}
	return errors.Join(tx.PutInode(n), tx.PutDirent(catalog.Dirent{Parent: dir, Name: fileName(i), Ino: ino, Type: 0o100000}), tx.SetKeyOwner(key, ino))
}

func BenchmarkLookup(b *testing.B) {
	c := benchCatalog(b)
	b.ReportAllocs()
	for b.Loop() {
		i := rand.IntN(benchFiles)
		view(b, c, func(tx *catalog.Tx) error {
			_, err := tx.Lookup(catalog.Ino(1<<40+i/1000), fileName(i))
			return err
		})
	}
}

func BenchmarkInode(b *testing.B) {
	c := benchCatalog(b)
	b.ReportAllocs()
	for b.Loop() {
		view(b, c, func(tx *catalog.Tx) error {
			_, err := tx.Inode(catalog.Ino(2 + rand.IntN(benchFiles)))
			return err
		})
	}
}

func BenchmarkPutInode(b *testing.B) {
	c := benchCatalog(b)
	b.ReportAllocs()
	for b.Loop() {
		n := sampleInode(catalog.Ino(2 + rand.IntN(benchFiles)))
		update(b, c, func(tx *catalog.Tx) error { return tx.PutInode(n) })
	}
}

func BenchmarkPutDirent(b *testing.B) {
	c := benchCatalog(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		update(b, c, func(tx *catalog.Tx) error {
			return tx.PutDirent(catalog.Dirent{Parent: 1 << 41, Name: fileName(i), Ino: catalog.Ino(i)})
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	c := benchCatalog(b)
	b.ReportAllocs()
	i := benchFiles
	for b.Loop() {
		i++
		update(b, c, func(tx *catalog.Tx) error { return putFile(tx, i) })
	}
}

func BenchmarkDeleteInode(b *testing.B) {
	c := benchCatalog(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		update(b, c, func(tx *catalog.Tx) error { return tx.DeleteInode(catalog.Ino(1 + i%benchFiles)) })
	}
}

func BenchmarkReadDir1000(b *testing.B) {
	c := benchCatalog(b)
	b.ReportAllocs()
	for b.Loop() {
		view(b, c, func(tx *catalog.Tx) error {
			return tx.ReadDir(catalog.Ino(1<<40+rand.IntN(benchFiles/1000)), 0, func(catalog.Dirent) bool { return true })
		})
	}
}

func BenchmarkCommitAndSync(b *testing.B) {
	c := benchCatalog(b)
	b.ReportAllocs()
	for b.Loop() {
		update(b, c, func(tx *catalog.Tx) error { return tx.PutInode(sampleInode(5)) })
		if err := c.Sync(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen100k(b *testing.B) {
	dir := b.TempDir()
	c := open(b, dir, catalog.Options{})
	fill(b, c, benchFiles)
	for b.Loop() {
		c = reopen(b, c, dir)
	}
}
