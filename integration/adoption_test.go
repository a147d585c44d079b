package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// makeSecondaryStorage fills a directory as CloudStack leaves one: a properties file
// with each image, ids as names, chains of snapshots. It returns the files' paths.
func makeSecondaryStorage(t testing.TB, root string, r *rand.Rand, templates, volumes int) []string {
	t.Helper()
	var files []string
	file := func(path string, size int) {
		put(t, filepath.Join(root, path), bytesOf(r.Uint64(), size))
		files = append(files, path)
	}
	for id := range templates {
		dir := fmt.Sprintf("template/tmpl/%d/%d", 2+id%7, 200+id)
		image := fmt.Sprintf("%08x-%04x.qcow2", r.Uint32(), r.Uint32N(1<<16))
		file(dir+"/"+image, 10_000+r.IntN(90_000))
		put(t, filepath.Join(root, dir, "template.properties"), []byte(fmt.Sprintf("id=%d\nfilename=%s\nsize=1\n", id, image)))
		files = append(files, dir+"/template.properties")
	}
	for id := range volumes {
		file(fmt.Sprintf("volumes/%d/%d/%08x.qcow2", 2+id%5, 1000+id, r.Uint32()), r.IntN(30_000))
		for range 3 {
			file(fmt.Sprintf("snapshots/%d/%d/%08x", 2+id%5, 1000+id, r.Uint32()), r.IntN(20_000))
		}
	}
	for i := range 3 { // large enough to be read by the comparer
		file(fmt.Sprintf("template/tmpl/1/%d/big.vhd", 1+i), 4<<20+i)
	}
	if err := os.MkdirAll(filepath.Join(root, "systemvm"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../template/tmpl/1/1/big.vhd", filepath.Join(root, "systemvm/current")); err != nil {
		t.Fatal(err)
	}
	for i, path := range files { // long finished
		at := unix.NsecToTimespec(1_500_000_000_000_000_000 + int64(i)*1_000_000_007)
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, path), []unix.Timespec{at, at}, 0); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// metadataOf is what depotfs, DataSync and others write with an object.
func metadataOf(t testing.TB, path string) map[string]string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"file-permissions": fmt.Sprintf("%07o", st.Mode), "file-owner": fmt.Sprint(st.Uid),
		"file-group": fmt.Sprint(st.Gid), "file-mtime": fmt.Sprintf("%dns", st.Mtim.Nano())}
}

// The first mount over a secondary storage of which the bucket has a part already,
// killed three times on its way: it answers at once, sends what is missing and nothing
// else, and in the end the bucket is the share.
func TestAdoptAnExistingStorage(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newUnmounted(t, on(d), with("--settle", "50ms", "--compare-limit", "20MiB/s"))
	r := rand.New(rand.NewPCG(5, 5))
	files := makeSecondaryStorage(t, z.share, r, 300, 200)
	before := treeOf(t, z.share)
	missing := map[string]bool{}
	for i, path := range files {
		if i%3 == 0 {
			missing[path] = true
			continue
		}
		body, err := os.ReadFile(filepath.Join(z.share, path))
		if err != nil {
			t.Fatal(err)
		}
		d.Put(t, path, body, metadataOf(t, filepath.Join(z.share, path)))
	}
	z.mount()
	z.kill() // in the middle of the walk, most likely
	z.mount()
	// At once: a deep path, a listing, and a new file.
	late := files[len(files)-1]
	body, err := os.ReadFile(filepath.Join(z.share, late))
	if err != nil {
		t.Fatal(err)
	}
	holds(t, z.path(late), body)
	if names, err := os.ReadDir(z.path("template/tmpl")); err != nil || len(names) != 8 {
		t.Errorf("template/tmpl lists %d names, want 8 (%v)", len(names), err)
	}
	for kills := range 2 {
		done := z.status().Adoption.Compared
		eventually(t, 2*time.Minute, func() error {
			if a := z.status().Adoption; a.Compared <= done+int64(100*kills) && a.Compared < int64(len(files)) {
				return fmt.Errorf("adoption %+v", a)
			}
			return nil
		})
		z.kill()
		z.mount()
	}
	put(t, z.path("volumes/9/9/new"), bytesOf(77, 5000))
	eventually(t, 3*time.Minute, func() error {
		if a := z.status().Adoption; a.State != "done" || a.DirsLeft != 0 {
			return fmt.Errorf("adoption %+v", a)
		}
		return listed(z)
	})
	z.flush()
	depotHolds(t, d, z.share)
	after := treeOf(t, z.share)
	for _, name := range []string{"volumes/9", "volumes/9/9", "volumes/9/9/new"} {
		delete(after, name)
	}
	if diff := mapDifference(after, before); diff != "" {
		t.Errorf("adoption changed the share:%s", diff)
	}
	if diff := treeDifference(t, z.mnt, z.share); diff != "" {
		t.Errorf("mount and share differ:%s", diff)
	}
	sent := uploaded(t, z.log())
	delete(sent, "volumes/9/9/new")
	if !maps.Equal(sent, missing) {
		t.Errorf("%d files were uploaded, %d were missing; among those sent for nothing: %q", len(sent), len(missing), needless(sent, missing))
	}
	if s := z.status(); len(s.Problems) > 0 || s.Adoption.Conflicts != 0 {
		t.Errorf("in the end: %+v", s)
	}
	if log := z.log(); strings.Contains(log, "conflict") {
		t.Errorf("conflicts:\n%s", grep(log, "conflict"))
	}
}

// needless are some files that were sent although the depot had them.
func needless(sent, missing map[string]bool) []string {
	var names []string
	for path := range sent {
		if !missing[path] {
			names = append(names, path)
		}
	}
	slices.Sort(names)
	return names[:min(len(names), 5)]
}
