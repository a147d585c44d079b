package integration

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// slow is how long a test waits for what has its own time in depotfs: settle times,
// looks of the scanner, on a machine that does much else.
const slow = 2 * time.Minute

// arrives waits until the depot has exactly these bytes under a key.
func arrives(t testing.TB, d *depot, key string, body []byte) {
	t.Helper()
	eventually(t, slow, func() error {
		got, ok := d.Get(t, key)
		if !ok {
			return fmt.Errorf("%s is not in the bucket", key)
		}
		if diff := difference(got, body); diff != "" {
			return fmt.Errorf("%s in the bucket: %s", key, diff)
		}
		return nil
	})
}

// localFile makes a file outside of the mount.
func localFile(t testing.TB, body []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	put(t, name, body)
	return name
}

// Hypervisors copy images in and out, list, and read what is only in the bucket; a
// subdirectory is the root of their mount.
func TestNFSCopiesAndListings(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set, with("--part-size", "5MiB"))
			const dir = "template/tmpl/2/201"
			if err := os.MkdirAll(z.path(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			g := newGanesha(t, z, nil)
			image := bytesOf(1, 12<<20)
			local := localFile(t, image)

			g.run("nfs-cp", local, g.url(3, dir+"/v3.raw"))
			c, err := g.nfs4("a host")
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			h, id, err := c.open(path.Join(export, dir, "v4.raw"), true)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.write(h, id, 0, image); err != nil {
				t.Fatal(err)
			}
			if err := c.closeFile(h, id); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"v3.raw", "v4.raw"} {
				holds(t, z.path(dir+"/"+name), image)
				arrives(t, d, dir+"/"+name, image)
			}
			eventually(t, slow, func() error { // the server closes what nobody uses
				if c := z.run("evict", z.path(dir)); c.code != 0 {
					return fmt.Errorf("%v", c)
				}
				return nil
			})
			if s := z.stat(dir + "/v3.raw"); s.State != "remote" {
				t.Fatalf("the image is %s, not remote", s.State)
			}
			for _, version := range []int{3, 4} {
				name := fmt.Sprintf("%s/v%d.raw", dir, version)
				if diff := difference([]byte(g.run("nfs-cat", g.url(version, name))), image); diff != "" {
					t.Errorf("read through NFSv%d from the bucket: %s", version, diff)
				}
				out := filepath.Join(t.TempDir(), "out")
				g.run("nfs-cp", g.url(version, name), out)
				holds(t, out, image)
				listed := g.run("nfs-ls", g.url(version, dir))
				for _, want := range []string{"v3.raw", "v4.raw"} {
					if !strings.Contains(listed, want) {
						t.Errorf("nfs-ls by NFSv%d does not list %s:\n%s", version, want, listed)
					}
				}
			}

			// A subdirectory as the root of a mount, as KVM and XenServer have it.
			root, err := g.nfs3().mount(export + "/" + dir)
			if err != nil {
				t.Fatalf("mount %s: %v", dir, err)
			}
			n := g.nfs3()
			file, err := n.lookup(root, "v3.raw")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := n.read(file, 5<<20, 4096); err != nil || !bytes.Equal(got, image[5<<20:5<<20+4096]) {
				t.Errorf("read below a mounted subdirectory: %d bytes, %v", len(got), err)
			}
		})
	}
}

// A whole tree is listed through both protocols as it is, and a listing shows at once
// what was made past the server.
func TestNFSTrees(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	want := map[string]bool{}
	for a := range 5 {
		for v := range 8 {
			for f := range 6 {
				name := fmt.Sprintf("snapshots/%d/%d/%d-%d-%d", a, v, a, v, f)
				put(t, z.path(name), []byte(name))
				want[name] = true
			}
		}
	}
	g := newGanesha(t, z, nil)
	tree := func(version int) map[string]bool {
		found := map[string]bool{}
		dirs := []string{"snapshots"}
		for len(dirs) > 0 {
			dir := dirs[0]
			dirs = dirs[1:]
			for line := range strings.Lines(g.run("nfs-ls", g.url(version, dir))) {
				fields := strings.Fields(line)
				name := dir + "/" + fields[len(fields)-1]
				if strings.HasPrefix(line, "d") {
					dirs = append(dirs, name)
				} else {
					found[name] = true
				}
			}
		}
		return found
	}
	for _, version := range []int{3, 4} {
		found := tree(version)
		if len(found) != len(want) {
			t.Errorf("NFSv%d lists %d files, want %d", version, len(found), len(want))
		}
		for name := range want {
			if !found[name] {
				t.Errorf("NFSv%d does not list %s", version, name)
			}
		}
	}
	put(t, z.path("snapshots/0/0/later"), []byte("later"))
	if got := g.run("nfs-cat", g.url(3, "snapshots/0/0/later")); got != "later" {
		t.Errorf("a new file reads %q", got)
	}
	eventually(t, slow, func() error { // within the attribute cache's time
		if !strings.Contains(g.run("nfs-ls", g.url(4, "snapshots/0/0")), "later") {
			return fmt.Errorf("a new file is not listed")
		}
		return nil
	})
}

// holdsOn has the server keep its descriptors, as its defaults do.
func holdsOn(conf string) string { return idleDescriptors.ReplaceAllString(conf, "") }

// Over NFS nobody closes: an upload starts from the settle time. What is written in
// several pieces, with pauses shorter than that, is uploaded once, and what is
// written later follows.
func TestNFSUploadsFromQuiet(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			z := newZone(t, on(d), way.set, with("--settle", "8s"))
			g := newGanesha(t, z, holdsOn)
			n := g.nfs3()
			root, err := n.mount(export)
			if err != nil {
				t.Fatal(err)
			}
			file, err := n.create(root, "image", true)
			if err != nil {
				t.Fatal(err)
			}
			body := bytesOf(1, 3<<20)
			last, longest := time.Now(), time.Duration(0)
			for i := range 3 {
				if i > 0 {
					<-time.After(time.Second) // a pause is what is tested
				}
				before := last
				last = time.Now()
				if err := n.write(file, uint64(i)<<20, body[i<<20:(i+1)<<20]); err != nil {
					t.Fatal(err)
				}
				longest = max(longest, time.Since(before))
			}
			arrives(t, d, "image", body)
			if !g.holds("image") {
				t.Error("the server has closed the file: this shows nothing")
			}
			uploads := func() int { return strings.Count(z.log(), "msg=uploaded path=image ") } // puts are of the journal's, too
			eventually(t, slow, func() error {
				if uploads() == 0 {
					return fmt.Errorf("the log names no upload")
				}
				return nil
			})
			if n := uploads(); n != 1 && longest < 7*time.Second {
				t.Errorf("%d uploads of a file that was written with pauses of at most %v", n, longest)
			}
			eventually(t, slow, func() error {
				if s := z.status(); s.Pending.Files != 0 {
					return fmt.Errorf("%d files are pending that the bucket has", s.Pending.Files)
				}
				return nil
			})
			if s := z.stat("image"); s.State != "clean" || !strings.Contains(s.Why, "open for writing") {
				t.Errorf("stat says %q, %q of a file that the bucket has and the server holds open", s.State, s.Why)
			}
			z.flush()

			copy(body[1<<20:], "written later through the same descriptor")
			if err := n.write(file, 1<<20, body[1<<20:1<<20+100]); err != nil {
				t.Fatal(err)
			}
			if err := n.commit(file); err != nil {
				t.Fatal(err)
			}
			if s := z.stat("image"); s.State != "dirty" && s.State != "uploading" {
				if got, _ := d.Get(t, "image"); !bytes.Equal(got, body) { // or this machine is slower than its settle time
					t.Errorf("stat says %q after another write", s.State)
				}
			}
			arrives(t, d, "image", body)

			// An operator need not wait.
			if err := n.write(file, 2<<20, body[:100]); err != nil {
				t.Fatal(err)
			}
			copy(body[2<<20:], body[:100])
			z.flush("image")
			if got, _ := d.Get(t, "image"); !bytes.Equal(got, body) {
				t.Errorf("after flush the object: %s", difference(got, body))
			}

			sent := z.status().Store.Sent
			g.stop() // closes
			eventually(t, slow, func() error {
				if s := z.stat("image"); s.State != "clean" || strings.Contains(s.Why, "open") {
					return fmt.Errorf("after the close it is %s: %s", s.State, s.Why)
				}
				return nil
			})
			if more := z.status().Store.Sent - sent; more > 1<<20 {
				t.Errorf("the close sent %d bytes again", more)
			}
			z.evict("image")
			holds(t, z.path("image"), body)
		})
	}
}

// A v4 client may have an image open for days. It is uploaded, and stays readable
// and writable there.
func TestNFSHeldOpenByClient(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d), with("--settle", "3s"))
	if err := os.MkdirAll(z.path("volumes/1"), 0o755); err != nil {
		t.Fatal(err)
	}
	g := newGanesha(t, z, nil)
	c, err := g.nfs4("a host")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	h, id, err := c.open(export+"/volumes/1/disk.qcow2", true)
	if err != nil {
		t.Fatal(err)
	}
	body := bytesOf(1, 2<<20)
	if err := c.write(h, id, 0, body); err != nil {
		t.Fatal(err)
	}
	arrives(t, d, "volumes/1/disk.qcow2", body)
	copy(body[4096:], bytesOf(2, 4096))
	if err := c.write(h, id, 4096, body[4096:8192]); err != nil {
		t.Fatal(err)
	}
	arrives(t, d, "volumes/1/disk.qcow2", body)
	if got, err := c.read(h, id, 4000, 200); err != nil || !bytes.Equal(got, body[4000:4200]) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
	if err := c.closeFile(h, id); err != nil {
		t.Fatal(err)
	}
}

// What clients do to names reaches the bucket.
func TestNFSNames(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d), with("--settle", "1s"))
	g := newGanesha(t, z, nil)
	n := g.nfs3()
	root, err := n.mount(export)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := n.mkdir(root, "snapshots")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]handle{}
	for _, name := range []string{"a", "b", "c"} {
		if files[name], err = n.create(dir, name, false); err != nil {
			t.Fatal(err)
		}
		if err := n.write(files[name], 0, []byte("file "+name)); err != nil {
			t.Fatal(err)
		}
		arrives(t, d, "snapshots/"+name, []byte("file "+name))
	}
	if err := n.rename(dir, "a", root, "moved"); err != nil {
		t.Fatal(err)
	}
	if err := n.remove(dir, "b"); err != nil {
		t.Fatal(err)
	}
	if err := n.chmod(files["c"], 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := n.mkfifo(root, "fifo")
	if err != nil {
		t.Fatalf("mknod: %v", err)
	}
	if _, err := n.size(fifo); err != nil {
		t.Errorf("getattr of a fifo: %v", err)
	}
	if st, err := os.Lstat(z.path("fifo")); err != nil || st.Mode() != os.ModeNamedPipe|0o640 {
		t.Errorf("the fifo in the mount: %v, %v", st, err)
	}
	eventually(t, slow, func() error {
		var have []string
		for key := range d.keys(t) {
			if !strings.HasSuffix(key, "/") {
				have = append(have, key)
			}
		}
		slices.Sort(have)
		if want := []string{"moved", "snapshots/c"}; !slices.Equal(have, want) {
			return fmt.Errorf("the bucket has %q, want %q", have, want)
		}
		return nil
	})
	if got, err := n.read(files["a"], 0, 100); err != nil || string(got) != "file a" {
		t.Errorf("the handle of a renamed file reads %q, %v", got, err)
	}
	eventually(t, slow, func() error {
		if _, err := n.size(files["b"]); err != nfsStale {
			return fmt.Errorf("the handle of a removed file: %v, want %v", err, nfsStale)
		}
		return nil
	})
	eventually(t, slow, func() error {
		if mode := z.stat("snapshots/c"); mode.State != "clean" {
			return fmt.Errorf("it is %s: %s", mode.State, mode.Why)
		}
		if o, _ := d.Head(t, "snapshots/c"); !strings.HasSuffix(o.Metadata["file-permissions"], "600") {
			return fmt.Errorf("the object's permissions are %q after chmod 600", o.Metadata["file-permissions"])
		}
		return nil
	})
}
