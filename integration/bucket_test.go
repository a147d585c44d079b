package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

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
