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
