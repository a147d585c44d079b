package integration

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"sync"
	"testing"
	"time"
)

// renamedFiles is how many files the directory has that is renamed.
func renamedFiles(t testing.TB) int {
	text := os.Getenv("DEPOTFS_RENAME_FILES")
	if text == "" {
		return 1000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("DEPOTFS_RENAME_FILES: %v", err)
	}
	return n
}

// The rename of a directory of remote files is one instant where it is done, soon seen in
// the other zone, and its bytes pass no line.
// DEPOTFS_RENAME_FILES=10000 renames more of them.
func TestZonesRenameDirectory(t *testing.T) {
	t.Parallel()
	// Up to 4 MiB a store that does not guard copies has the file fetched and stored again.
	const old, next, large, largeFile = "volumes/9/old", "volumes/10/new", 3, 5 << 20
	files := renamedFiles(t)
	body := func(i int) []byte { return bytesOf(uint64(i), largeFile) }
	b := &zones{t: t, depot: newDepot(t)}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < files; i += 8 {
				text := []byte(strconv.Itoa(i))
				if i < large {
					text = body(i)
				}
				b.depot.Put(t, fmt.Sprintf("%s/%d/%d", old, i%10, i), text, nil)
			}
		})
	}
	wg.Wait()
	from, to := b.join(polled(200*time.Millisecond)), b.join(polled(200*time.Millisecond))
	if err := os.MkdirAll(from.path(path.Dir(next)), 0o755); err != nil {
		t.Fatal(err)
	}
	from.flush()
	to.refresh()
	for _, z := range b.all {
		if n := countFiles(t, z.path(old)); n != files {
			t.Fatalf("zone %s shows %d files, want %d", z.name, n, files)
		}
	}
	for _, seen := range b.seen {
		seen.filesQuiet()
		seen.forget()
	}

	start := time.Now()
	if err := os.Rename(from.path(old), from.path(next)); err != nil {
		t.Fatal(err)
	}
	instant := time.Since(start)
	if n := countFiles(t, from.path(next)); n != files || absent(from.path(old)) != nil {
		t.Fatalf("renamed, and zone %s shows %d files, want %d; the old name: %v", from.name, n, files, absent(from.path(old)))
	}
	// The other zone never shows a part of it: all names have the old parent, or the new one.
	to.follows(func() error { return absent(to.path(old)) })
	t.Logf("%d files: renamed in %v, seen in the other zone after %v", files, instant, time.Since(start))
	for i, z := range b.all { // the objects follow meanwhile
		sent, received := b.seen[i].all()
		ofFiles, toFiles := b.seen[i].ofFiles()
		t.Logf("zone %s until then: sent %d bytes and received %d in bodies, %d and %d of them of files", z.name, sent, received, ofFiles, toFiles)
	}
	if n := countFiles(t, to.path(next)); n != files {
		t.Errorf("the old name is gone, and zone %s shows %d files under the new one, want %d", to.name, n, files)
	}
	// While the objects follow, a file is read in the other zone.
	holds(t, to.path(fmt.Sprintf("%s/0/0", next)), body(0))

	b.agree()
	for i, z := range b.all {
		sent, received := b.seen[i].ofFiles()
		t.Logf("zone %s in all, every file read: sent %d bytes of files and received %d", z.name, sent, received)
		small := int64(files * len(strconv.Itoa(files)))
		// agree has read every byte of the large files once, and some block perhaps twice.
		most := 2*small + large*largeFile + 1<<20
		if sent > small || received > most {
			t.Errorf("zone %s sent %d bytes of files and received %d, want at most %d and %d", z.name, sent, received, small, most)
		}
	}
	objects := b.depot.keys(t)
	for i := range files {
		if name := fmt.Sprintf("%s/%d/%d", next, i%10, i); objects[name].Key == "" {
			t.Fatalf("the object %s is not in the bucket; it has %d", name, len(objects))
		}
		if name := fmt.Sprintf("%s/%d/%d", old, i%10, i); objects[name].Key != "" {
			t.Fatalf("the object %s is still in the bucket", name)
		}
	}
}

// countFiles is how many files are below a directory.
func countFiles(t testing.TB, root string) int {
	t.Helper()
	n := 0
	dirs := []string{root}
	for len(dirs) > 0 {
		entries, err := os.ReadDir(dirs[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				dirs = append(dirs, path.Join(dirs[0], e.Name()))
			} else {
				n++
			}
		}
		dirs = dirs[1:]
	}
	return n
}
