package catalog_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"depotfs/cache/catalog"
)

// The directories testdata/format* are what releases of depotfs wrote. They are
// opened forever and never written again; a new format gets a new one:
//
//	go test -run TestGolden -write-golden ./cache/catalog
//
// and then its boot_id is set to zeros, which no machine has.
var writeGolden = flag.Bool("write-golden", false, "write testdata/format1, which must not exist")

// goldenPut stores one of everything; goldenCheck expects it.
func goldenPut(tx *catalog.Tx) error {
	return errors.Join(
		tx.PutInode(sampleInode(70000)),
		tx.PutInode(&catalog.Inode{Ino: catalog.Root, Mode: 0o040755, Nlink: 2}),
		tx.PutDirent(goldenDirent),
		tx.PutXattr(70000, "user.x", []byte("value")),
		tx.PutExtents(70000, goldenExtents),
		tx.PutQueue(&goldenQueue), tx.PutRemoval(&goldenRemoval),
		tx.PutUpload(&goldenUpload), tx.PutPart(70000, goldenPart),
		tx.PutIntent(&goldenIntent),
		tx.SetKeyOwner("k", 70000), tx.PutSetting("s", []byte("setting")))
}

var (
	goldenDirent  = catalog.Dirent{Parent: catalog.Root, Name: "a", Ino: 70000, Type: 0o100000, Cookie: 1 << 40}
	goldenExtents = catalog.Extents{Here: []catalog.Range{{Off: 0, End: 1}, {Off: 1 << 40, End: 1<<40 + 1}}, Written: []catalog.Range{{Off: 0, End: 1}}}
	goldenQueue   = catalog.QueueItem{Ino: 70000, Subtree: true, NotBefore: 1, Since: 2, Attempts: 3, LastError: "e"}
	goldenRemoval = catalog.Removal{Key: "k", ETag: "e", Path: "p", Since: 1, NotBefore: 2, Attempts: 3, LastError: "l", Version: "v"}
	goldenUpload  = catalog.Upload{Ino: 70000, Key: "k", UploadID: "u", PartSize: 1, Size: 2, Gen: 3, Stamp: catalog.Stamp{Ino: 4, Size: 5, Mtime: 6, Ctime: 7}, Created: 8}
	goldenPart    = catalog.UploadPart{Number: 1, Size: 2, CRC64: 3, ETag: "e"}
	goldenIntent  = catalog.Intent{
		Seq: 9, Kind: catalog.IntentRename, Ino: 70000, From: "f", To: "t", Victim: 1, NewParent: 2, NewName: "n",
		OldParent: 3, OldName: "o", ShareIno: 4, Time: 5,
	}
)

func TestGolden(t *testing.T) {
	const golden = "testdata/format1"
	if *writeGolden {
		if err := os.Mkdir(golden, 0o755); err != nil {
			t.Fatal(err)
		}
		c := open(t, golden, catalog.Options{FirstIno: 65000})
		update(t, c, goldenPut)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"DISCARD", "KEYREGISTRY", "000001.vlog", "catalog.lock"} { // made anew anyway
			if err := os.Remove(filepath.Join(golden, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir, catalog.Options{})
	if c.New() || c.Unclean() || c.SameBoot() && !*writeGolden || c.Epoch() == 0 {
		t.Errorf("New %v, Unclean %v, SameBoot %v, Epoch %d", c.New(), c.Unclean(), c.SameBoot(), c.Epoch())
	}
	same := func(what string, got any, err error, want any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", what, got, err, want)
		}
	}
	view(t, c, func(tx *catalog.Tx) error {
		inode, err := tx.Inode(70000)
		same("inode", inode, err, sampleInode(70000))
		dirent, err := tx.Lookup(catalog.Root, "a")
		same("dirent", dirent, err, goldenDirent)
		err = tx.ReadDir(catalog.Root, 0, func(d catalog.Dirent) bool { dirent = d; return true })
		same("listing", dirent, err, goldenDirent)
		value, err := tx.Xattr(70000, "user.x")
		same("xattr", value, err, []byte("value"))
		extents, err := tx.Extents(70000)
		same("extents", extents, err, goldenExtents)
		queue, err := tx.QueueItem(70000)
		same("queue item", queue, err, &goldenQueue)
		removal, err := tx.Removal("k")
		same("removal", removal, err, &goldenRemoval)
		upload, err := tx.Upload(70000)
		same("upload", upload, err, &goldenUpload)
		parts, err := tx.Parts(70000)
		same("parts", parts, err, []catalog.UploadPart{goldenPart})
		owner, err := tx.KeyOwner("k")
		same("owner", owner, err, catalog.Ino(70000))
		setting, err := tx.Setting("s")
		same("setting", setting, err, []byte("setting"))
		var intents []*catalog.Intent
		err = tx.EachIntent(func(i *catalog.Intent) bool { intents = append(intents, i); return true })
		same("intents", intents, err, []*catalog.Intent{&goldenIntent})
		return nil
	})
	ino, err := c.NextIno()
	same("next number", ino, err, catalog.Ino(65001)) // none was reserved
	totals := c.Totals()
	same("totals", totals, nil, catalog.Totals{Files: 1, Dirs: 1, ByState: map[catalog.State]int64{3: 1}, BytesByState: map[catalog.State]int64{3: 4}})
}
