package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cloudFile is a file as CloudStack writes it.
type cloudFile struct {
	path string
	body []byte
	mode os.FileMode
	uid  int
}

// cloudFiles are a little secondary storage: parts are smaller, larger and exactly
// as large as those of a multipart upload.
func cloudFiles() []cloudFile {
	return []cloudFile{
		{"template/tmpl/1/201/6b2e6a9c-5f0e-4a51-9f0c-6e3d1f7f0001.qcow2", bytesOf(1, 23<<20+511), 0o644, 0},
		{"template/tmpl/1/201/template.properties", []byte("id=201\nfilename=6b2e6a9c-5f0e-4a51-9f0c-6e3d1f7f0001.qcow2\nsize=24117759\n"), 0o666, 0},
		{"template/tmpl/2/202/debian-12.iso", bytesOf(2, 10<<20), 0o644, 107},
		{"snapshots/2/17/4d1b2f9e-0d3c-4d57-8c53-1d8f6a5b0002", bytesOf(3, 5<<20), 0o600, 107},
		{"volumes/2/33/e7a1c1de-77e4-4a29-9bd4-0e5b9c1d0003.vhd", bytesOf(4, 5<<20+1), 0o640, 107},
		{"systemvm/empty", nil, 0o444, 0},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set, with("--part-size", "5MiB"))
			files := cloudFiles()
			mtime := time.Date(2024, 2, 29, 12, 34, 56, 789012345, time.UTC)
			for _, f := range files {
				put(t, z.path(f.path), f.body)
				if err := os.Chmod(z.path(f.path), f.mode); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(z.path(f.path), f.uid, f.uid); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(z.path(f.path), mtime, mtime); err != nil {
					t.Fatal(err)
				}
				if state := xattr(t, z.path(f.path), "user.depotfs.state"); state != "dirty" && state != "uploading" {
					t.Errorf("%s has the state %q after it was written", f.path, state)
				}
			}
			for _, f := range files { // promise 2: written through at once
				holds(t, filepath.Join(z.share, f.path), f.body)
			}
			z.flush()
			if p := z.status().Pending; p.Files != 0 || p.Bytes != 0 || p.Moves != 0 || p.Removals != 0 {
				t.Errorf("after flush there still waits %+v", p)
			}
			for _, f := range files {
				body, found := d.Get(t, d.prefix+f.path)
				if !found {
					t.Errorf("%s is not in the bucket", f.path)
					continue
				}
				if diff := difference(body, f.body); diff != "" {
					t.Errorf("object %s: %s", f.path, diff)
				}
				o, _ := d.Head(t, d.prefix+f.path)
				checkMetadata(t, f, o.Metadata, mtime)
			}
			for name := range d.keys(t) {
				if !strings.HasSuffix(name, "/") && !hasFile(files, name) {
					t.Errorf("object %q belongs to no file", name)
				}
			}
			z.evict()
			states := z.states()
			for _, f := range files {
				const want = "remote"
				if got := xattr(t, z.path(f.path), "user.depotfs.state"); got != want {
					t.Errorf("%s has the state %q after evict, want %q", f.path, got, want)
				}
				if got := states[f.path]; got != want {
					t.Errorf("ls shows %s as %q, want %q", f.path, got, want)
				}
				if st := z.stat(f.path); st.State != want || st.Here != 0 || st.Size != int64(len(f.body)) {
					t.Errorf("stat shows %+v after evict", st)
				}
				if _, err := os.Stat(filepath.Join(z.share, f.path)); !os.IsNotExist(err) {
					t.Errorf("%s is still in the cache directory: %v", f.path, err)
				}
			}
			checkStat(t, z, files, mtime)
			readBack(t, z, files)
			checkStat(t, z, files, mtime)
		})
	}
}

func hasFile(files []cloudFile, name string) bool {
	for _, f := range files {
		if f.path == name {
			return true
		}
	}
	return false
}

// checkMetadata holds promise 3: attributes as AWS DataSync writes them.
func checkMetadata(t *testing.T, f cloudFile, got map[string]string, mtime time.Time) {
	t.Helper()
	perm, err := strconv.ParseUint(got["file-permissions"], 8, 32)
	if err != nil || os.FileMode(perm&0o777) != f.mode {
		t.Errorf("object %s: file-permissions %q, want %#o", f.path, got["file-permissions"], f.mode)
	}
	for _, key := range []string{"file-owner", "file-group"} {
		if got[key] != strconv.Itoa(f.uid) {
			t.Errorf("object %s: %s %q, want %d", f.path, key, got[key], f.uid)
		}
	}
	if digits := strings.TrimSuffix(got["file-mtime"], "ns"); digits != strconv.FormatInt(mtime.UnixNano(), 10) {
		t.Errorf("object %s: file-mtime %q, want %d", f.path, got["file-mtime"], mtime.UnixNano())
	}
}

// checkStat compares what stat says, wherever the bytes are.
func checkStat(t *testing.T, z *zone, files []cloudFile, mtime time.Time) {
	t.Helper()
	for _, f := range files {
		var st unix.Stat_t
		if err := unix.Lstat(z.path(f.path), &st); err != nil {
			t.Fatal(err)
		}
		if st.Size != int64(len(f.body)) || os.FileMode(st.Mode&0o7777) != f.mode || int(st.Uid) != f.uid || st.Mtim.Nano() != mtime.UnixNano() {
			t.Errorf("%s: size %d mode %#o uid %d mtime %d, want %d %#o %d %d", f.path, st.Size, st.Mode&0o7777, st.Uid, st.Mtim.Nano(),
				len(f.body), f.mode, f.uid, mtime.UnixNano())
		}
	}
}

// readBack reads evicted files at random offsets, by mmap and whole.
func readBack(t *testing.T, z *zone, files []cloudFile) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for i, f := range files {
		if len(f.body) == 0 {
			continue
		}
		file, err := os.Open(z.path(f.path))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			off := random.IntN(len(f.body))
			n := min(1+random.IntN(200_000), len(f.body)-off)
			buf := make([]byte, n)
			if _, err := file.ReadAt(buf, int64(off)); err != nil {
				t.Fatalf("%s: read %d bytes at %d: %v", f.path, n, off, err)
			}
			if diff := difference(buf, f.body[off:off+n]); diff != "" {
				t.Fatalf("%s at %d: %s", f.path, off, diff)
			}
		}
		if i%2 == 0 {
			mapped, err := unix.Mmap(int(file.Fd()), 0, len(f.body), unix.PROT_READ, unix.MAP_PRIVATE)
			if err != nil {
				t.Fatalf("%s: mmap: %v", f.path, err)
			}
			if diff := difference(mapped, f.body); diff != "" {
				t.Errorf("%s by mmap: %s", f.path, diff)
			}
			if err := unix.Munmap(mapped); err != nil {
				t.Fatal(err)
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		holds(t, z.path(f.path), f.body)
	}
}

// What is read whole comes home: the plain path is the whole truth again.
func TestReadFillsThePlainPath(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d))
	body := bytesOf(7, 3<<20+17)
	const name = "template/tmpl/1/203/a.qcow2"
	put(t, z.path(name), body)
	z.flush()
	z.evict()
	before := z.status().Store
	holds(t, z.path(name), body)
	eventually(t, 20*time.Second, func() error {
		if st := z.stat(name); st.State != "clean" || st.Here != st.Size {
			return fmt.Errorf("state %s, %d of %d bytes here", st.State, st.Here, st.Size)
		}
		return nil
	})
	holds(t, filepath.Join(z.share, name), body)
	after := z.status().Store
	if got := after.Received - before.Received; got < int64(len(body)) || got > int64(len(body))+1<<20 {
		t.Errorf("%d bytes were fetched for a file of %d", got, len(body))
	}
	if after.Sent != before.Sent {
		t.Errorf("reading sent %d bytes", after.Sent-before.Sent)
	}
}

// A write into a file that is elsewhere loses nothing.
func TestWriteIntoRemoteFile(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set, with("--part-size", "5MiB"))
			body := bytesOf(8, 12<<20+3)
			names := []string{"volumes/1/1/patched", "volumes/1/1/shorter", "volumes/1/1/longer", "volumes/1/1/replaced", "volumes/1/1/appended"}
			for _, name := range names {
				put(t, z.path(name), body)
			}
			z.flush()
			z.evict()
			want := map[string][]byte{}

			want[names[0]] = append([]byte(nil), body...)
			copy(want[names[0]][7<<20+13:], "here and not elsewhere")
			f, err := os.OpenFile(z.path(names[0]), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("here and not elsewhere"), 7<<20+13); err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			want[names[1]] = body[:4<<20+1]
			if err := os.Truncate(z.path(names[1]), 4<<20+1); err != nil {
				t.Fatal(err)
			}
			want[names[2]] = append(append([]byte(nil), body...), make([]byte, 1<<20)...)
			if err := os.Truncate(z.path(names[2]), 13<<20+3); err != nil {
				t.Fatal(err)
			}
			want[names[3]] = bytesOf(9, 100_000)
			put(t, z.path(names[3]), want[names[3]])
			want[names[4]] = append(append([]byte(nil), body...), "the end"...)
			f, err = os.OpenFile(z.path(names[4]), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("the end"); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				holds(t, z.path(name), want[name])
			}
			z.flush()
			for _, name := range names {
				body, _ := d.Get(t, name)
				if diff := difference(body, want[name]); diff != "" {
					t.Errorf("object %s: %s", name, diff)
				}
			}
			z.evict()
			z.remount()
			for _, name := range names {
				holds(t, z.path(name), want[name])
			}
		})
	}
}

// Names travel: directories, renames, symlinks and removals reach the bucket, and a
// zone that has lost everything shows the same tree.
func TestTreeInTheBucket(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	d.prefix = "cloud/zone tree/"
	z := newZone(t, on(d))
	put(t, z.path("a/b/kept"), []byte("kept"))
	put(t, z.path("a/b/gone"), []byte("gone"))
	put(t, z.path("a/old name"), []byte("moved"))
	put(t, z.path("dir/one"), bytesOf(1, 2<<20))
	put(t, z.path("dir/two"), []byte("two"))
	if err := os.MkdirAll(z.path("empty/deep"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../b/kept", z.path("a/link")); err != nil {
		t.Fatal(err)
	}
	z.flush()
	for _, do := range []error{
		os.Remove(z.path("a/b/gone")), os.Rename(z.path("a/old name"), z.path("a/neuer Name ä")), os.Rename(z.path("dir"), z.path("a/dir2")),
	} {
		if do != nil {
			t.Fatal(do)
		}
	}
	z.flush()
	got := d.keys(t)
	for name, body := range map[string]string{"a/b/kept": "kept", "a/neuer Name ä": "moved", "a/dir2/two": "two", "a/link": "../b/kept"} {
		if o, found := d.Get(t, d.prefix+name); !found || string(o) != body {
			t.Errorf("object %q is %q (found: %v), want %q", name, o, found, body)
		}
	}
	if _, found := got["empty/deep/"]; !found {
		t.Errorf("the empty directory is not in the bucket: %v", got)
	}
	for _, gone := range []string{"a/b/gone", "a/old name", "dir/one", "dir/two", "dir/"} {
		if _, found := got[gone]; found {
			t.Errorf("object %q is still there", gone)
		}
	}
	other := newZone(t, on(d))
	eventually(t, 20*time.Second, func() error {
		if s := other.status().Store; s.Listing != "done" {
			return fmt.Errorf("listing %s", s.Listing)
		}
		return nil
	})
	if diff := treeDifference(t, other.mnt, z.mnt); diff != "" {
		t.Errorf("a second zone shows another tree: %s", diff)
	}
}

// ownTraffic is more than depotfs sends to a store for itself: the depot's identity
// and a probe of what the store can do.
const ownTraffic = 64 << 10

// What others put into the bucket is there, whatever they called it.
func TestForeignObjects(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	want := map[string][]byte{
		"plain.txt":                       []byte("plain"),
		"with space/and more/näme 漢字.bin": bytesOf(1, 300_000),
		"big/image.raw":                   bytesOf(2, 9<<20),
		"odd/q?u=e&r+y%20#x;'\"*":         []byte("odd"),
		"-rf":                             []byte("-rf"),
		"tab\tand\nnewline":               []byte("control"),
		"empty":                           {},
	}
	for key, body := range want {
		d.Put(t, key, body, nil)
	}
	d.Put(t, "folder/marker/", nil, nil)
	d.Put(t, strings.Repeat("n", 250)+"/"+strings.Repeat("m", 250), []byte("long"), nil)
	z := newZone(t, on(d))
	eventually(t, 20*time.Second, func() error {
		if s := z.status().Store; s.Listing != "done" {
			return fmt.Errorf("listing %s %s", s.Listing, s.Error)
		}
		return nil
	})
	for key, body := range want {
		got, err := os.ReadFile(z.path(key))
		if err != nil {
			t.Errorf("read %q: %v", key, err)
		} else if diff := difference(got, body); diff != "" {
			t.Errorf("%q: %s", key, diff)
		}
	}
	if info, err := os.Stat(z.path("folder/marker")); err != nil || !info.IsDir() {
		t.Errorf("the folder object is no directory: %v", err)
	}
	var names []string
	entries, err := os.ReadDir(z.mnt)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != 9 {
		t.Errorf("the root shows %q", names)
	}
	if s := z.status(); s.Store.Sent > ownTraffic || s.Pending.Files != 0 {
		t.Errorf("foreign objects are uploaded: %+v", s)
	}
}

// Every name of a file has its object, and attributes reach all of them.
func TestHardLinks(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d), with("--settle", "100ms"))
	body := bytesOf(1, 2<<20)
	put(t, z.path("dir/one"), body)
	z.flush()
	if err := os.Link(z.path("dir/one"), z.path("two")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("dir/one", z.path("soft")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(z.path("soft"), z.path("dir/soft")); err != nil {
		t.Fatal(err)
	}
	z.flush()
	check := func(step string, mode os.FileMode, names ...string) {
		t.Helper()
		for _, name := range names {
			got, _ := d.Get(t, name)
			if diff := difference(got, body); diff != "" {
				t.Errorf("%s: object %s: %s", step, name, diff)
			}
			if o, _ := d.Head(t, name); !strings.HasSuffix(o.Metadata["file-permissions"], fmt.Sprintf("%o", mode)) {
				t.Errorf("%s: object %s has the mode %s, want %o", step, name, o.Metadata["file-permissions"], mode)
			}
		}
		for _, name := range []string{"soft", "dir/soft"} {
			if got, _ := d.Get(t, name); string(got) != "dir/one" {
				t.Errorf("%s: object %s is %q", step, name, got)
			}
		}
	}
	check("linked", 0o644, "dir/one", "two")
	if err := os.Chmod(z.path("two"), 0o640); err != nil {
		t.Fatal(err)
	}
	z.flush()
	check("chmod", 0o640, "dir/one", "two")
	if err := os.Lchown(z.path("soft"), 5, 6); err != nil {
		t.Fatal(err)
	}
	z.flush()
	if o, _ := d.Head(t, "dir/soft"); o.Metadata["file-owner"] != "5" {
		t.Errorf("the symlink's other name has the owner %q", o.Metadata["file-owner"])
	}
	copy(body[100:], "changed")
	f, err := os.OpenFile(z.path("dir/one"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("changed"), 100); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	z.flush()
	check("written", 0o640, "dir/one", "two")
	if err := os.Remove(z.path("dir/one")); err != nil {
		t.Fatal(err)
	}
	z.flush()
	check("unlinked", 0o640, "two")
	if _, found := d.Get(t, "dir/one"); found {
		t.Error("the object of the removed name is still there")
	}
	if p := z.status().Pending; p.Files+p.Moves+p.Removals != 0 {
		t.Errorf("there waits %+v", p)
	}
}
