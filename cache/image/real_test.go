package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// needs skips a test where a program is missing; CI has all and refuses skips.
func needs(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed", program) // see above
	}
}

// run runs a program in a directory and returns what it says.
func run(t testing.TB, dir, program string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// seedDisk makes a raw image of 48 MiB with random data here and there.
func seedDisk(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	random := rand.New(rand.NewPCG(4, 1))
	block := make([]byte, 192<<10)
	for off := int64(0); off < 45<<20; off += 3 << 20 {
		for i := range block {
			block[i] = byte(random.Uint32())
		}
		if _, err := f.WriteAt(block, off+random.Int64N(2<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(48 << 20); err != nil {
		t.Fatal(err)
	}
}

// noHoles fills the holes of files: for these qemu-img's map says where the file
// system has some.
func noHoles(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		run(t, dir, "cp", "--sparse=never", "--reflink=never", name, "dense")
		if err := os.Rename(filepath.Join(dir, "dense"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// fetched plans a file and those that go with it, and keeps what was fetched in dir.
func fetched(t testing.TB, from, dir, name string, upto Class) (*Plan, *remote) {
	t.Helper()
	data, err := os.Open(filepath.Join(from, name))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	st, err := data.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r := &remote{data: data, size: st.Size()}
	p := New(name, st.Size())
	r.follow(t, p, upto)
	r.keep(t, filepath.Join(dir, name))
	for _, other := range p.Siblings() {
		if _, err := os.Lstat(filepath.Join(dir, other)); err != nil {
			fetched(t, from, dir, other, upto)
		}
	}
	return p, r
}

// facts is the output of qemu-img without what only this file system knows.
func facts(t testing.TB, out string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	var strip func(any)
	strip = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			delete(v, "actual-size")
			for _, e := range v {
				strip(e)
			}
		case []any:
			for _, e := range v {
				strip(e)
			}
		}
	}
	strip(v)
	return v
}

// TestRealImages holds that qemu-img says the same of what a plan fetched as of the
// whole image: `info` of the header rounds, `map` of all.
func TestRealImages(t *testing.T) {
	needs(t, "qemu-img")
	from := t.TempDir()
	seedDisk(t, filepath.Join(from, "seed.raw"))
	img := func(args ...string) { t.Helper(); run(t, from, "qemu-img", args...) }
	convert := func(name, format string, options ...string) {
		t.Helper()
		img(append(append([]string{"convert", "-O", format}, options...), "seed.raw", name)...)
	}
	convert("v2.qcow2", "qcow2", "-o", "compat=0.10")
	convert("v3.qcow2", "qcow2")
	convert("clusters4k.qcow2", "qcow2", "-o", "cluster_size=4k")
	convert("clusters2m.qcow2", "qcow2", "-o", "cluster_size=2M")
	convert("extended.qcow2", "qcow2", "-o", "extended_l2=on")
	convert("packed.qcow2", "qcow2", "-c")
	convert("dataless.qcow2", "qcow2", "-o", "data_file=dataless.data")
	convert("uuid-without-extension", "qcow2")
	convert("bitmap.qcow2", "qcow2")
	img("bitmap", "--add", "bitmap.qcow2", "backup")
	convert("snapshots.qcow2", "qcow2")
	for i := range 40 {
		img("snapshot", "-c", fmt.Sprintf("snapshot number %d %s", i, strings.Repeat("x", 5*i)), "snapshots.qcow2")
	}
	img("create", "-q", "-f", "qcow2", "-b", "v3.qcow2", "-F", "qcow2", "child.qcow2")
	img("create", "-q", "-f", "qcow2", "-b", "./child.qcow2", "-F", "qcow2", "grandchild.qcow2")
	convert("huge.qcow2", "qcow2")
	img("resize", "-q", "huge.qcow2", "20T")
	convert("dynamic.vhd", "vpc")
	convert("fixed.vhd", "vpc", "-o", "subformat=fixed,force_size=on")
	img("create", "-q", "-f", "vpc", "huge.vhd", "1000G")
	convert("dynamic.vhdx", "vhdx")
	convert("fixed.vhdx", "vhdx", "-o", "subformat=fixed")
	convert("sparse.vmdk", "vmdk")
	convert("stream.vmdk", "vmdk", "-o", "subformat=streamOptimized")
	convert("split.vmdk", "vmdk", "-o", "subformat=twoGbMaxExtentSparse")
	convert("flat.vmdk", "vmdk", "-o", "subformat=monolithicFlat")

	noHoles(t, from, "snapshots.qcow2", "fixed.vhd", "flat-flat.vmdk")

	for _, test := range []struct {
		name, format string
		rounds       int   // for the header
		bytes        int64 // for the header
		noMap        bool  // its map is more than a plan asks for
	}{
		{name: "v2.qcow2", format: "qcow2", rounds: 1, bytes: headSize},
		{name: "v3.qcow2", format: "qcow2", rounds: 1, bytes: headSize},
		{name: "clusters4k.qcow2", format: "qcow2", rounds: 1, bytes: headSize},
		{name: "clusters2m.qcow2", format: "qcow2", rounds: 2, bytes: 5 << 20},
		{name: "extended.qcow2", format: "qcow2", rounds: 1, bytes: headSize},
		{name: "packed.qcow2", format: "qcow2", rounds: 1, bytes: headSize},
		{name: "dataless.qcow2", format: "qcow2", rounds: 1, bytes: headSize},
		{name: "uuid-without-extension", format: "qcow2", rounds: 1, bytes: headSize + tailSize},
		{name: "bitmap.qcow2", format: "qcow2", rounds: 3, bytes: 1 << 20},
		{name: "snapshots.qcow2", format: "qcow2", rounds: 3, bytes: 1 << 20},
		{name: "child.qcow2", format: "qcow2", rounds: 1, bytes: headSize},
		{name: "grandchild.qcow2", format: "qcow2", rounds: 1, bytes: headSize},
		{name: "huge.qcow2", format: "qcow2", rounds: 2, bytes: 1 << 20},
		{name: "dynamic.vhd", format: "vpc", rounds: 1, bytes: headSize + tailSize},
		{name: "fixed.vhd", format: "vpc", rounds: 1, bytes: headSize + tailSize},
		{name: "huge.vhd", format: "vpc", rounds: 2, bytes: 3 << 20},
		{name: "dynamic.vhdx", format: "vhdx", rounds: 2, bytes: 2 << 20},
		{name: "fixed.vhdx", format: "vhdx", rounds: 2, bytes: 2 << 20},
		{name: "sparse.vmdk", format: "vmdk", rounds: 1, bytes: headSize + tailSize},
		{name: "stream.vmdk", format: "vmdk", rounds: 1, bytes: headSize + tailSize},
		{name: "split.vmdk", format: "vmdk", rounds: 1, bytes: headSize + tailSize},
		{name: "flat.vmdk", format: "vmdk", rounds: 1, bytes: headSize + tailSize},
	} {
		t.Run(test.name, func(t *testing.T) {
			qemu := func(dir, command string) any {
				return facts(t, run(t, dir, "qemu-img", command, "--output=json", "-f", test.format, test.name))
			}
			dir := t.TempDir()
			p, r := fetched(t, from, dir, test.name, Header)
			if want := strings.Replace(test.format, "vpc", "vhd", 1); p.Format() != want {
				t.Errorf("format %q, want %q", p.Format(), want)
			}
			if want, got := qemu(from, "info"), qemu(dir, "info"); !reflect.DeepEqual(got, want) {
				t.Errorf("info of what was fetched:\n%v\nof the image:\n%v", got, want)
			}
			if r.rounds[Header] > test.rounds || r.here.Len() > test.bytes {
				t.Errorf("header: %d rounds, %d bytes; want at most %d, %d", r.rounds[Header], r.here.Len(), test.rounds, test.bytes)
			}
			dir = t.TempDir()
			_, r = fetched(t, from, dir, test.name, Metadata)
			if want, got := qemu(from, "map"), qemu(dir, "map"); !reflect.DeepEqual(got, want) {
				t.Errorf("map of what was fetched:\n%.300v\nof the image:\n%.300v", got, want)
			}
			t.Logf("%d bytes in %d and %d rounds, %d and %d requests", r.here.Len(), r.rounds[Header], r.rounds[Metadata], r.requests[Header], r.requests[Metadata])
		})
	}
}

// TestRealISO holds that all names, sizes and attributes of a volume can be listed
// from what a plan fetched, in a bounded number of rounds however deep the tree is.
func TestRealISO(t *testing.T) {
	needs(t, "xorriso")
	from, dir := t.TempDir(), t.TempDir()
	tree := filepath.Join(from, "tree")
	block := make([]byte, 24<<10)
	for i := range 12 {
		below := filepath.Join(tree, strings.Repeat("a directory/", i%6), fmt.Sprintf("directory number %d", i))
		if err := os.MkdirAll(below, 0o755); err != nil {
			t.Fatal(err)
		}
		for k := range 80 {
			name := filepath.Join(below, fmt.Sprintf("file number %d with a name of some length", k))
			if err := os.WriteFile(name, block[:k*300], 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "boot.img"), block[:8<<10], 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, from, "xorriso", "-as", "mkisofs", "-quiet", "-J", "-R", "-b", "boot.img", "-no-emul-boot", "-boot-load-size", "4", "-o", "volume.iso", "tree")
	p, r := fetched(t, from, dir, "volume.iso", Metadata)
	// What is printed before the names tells of free space as well.
	names := func(out string) string { return out[strings.Index(out, "'/'"):] }
	list := func(dir string) string {
		return names(run(t, dir, "xorriso", "-indev", "volume.iso", "-find", "/", "-exec", "lsdl", "--")) +
			names(run(t, dir, "xorriso", "-read_fs", "norock", "-indev", "volume.iso", "-find", "/", "-exec", "lsdl", "--"))
	}
	if want, got := list(from), list(dir); got != want || strings.Count(want, "file number 79") != 2*12 {
		t.Errorf("listed of what was fetched:\n%.2000s\nof the volume:\n%.2000s", got, want)
	}
	if p.Format() != "iso" || r.rounds[Header] > 2 || r.rounds[Metadata] > 2 || r.here.Len() > 1<<20 {
		t.Errorf("%s: %v rounds, %d of %d bytes", p.Format(), r.rounds, r.here.Len(), r.size)
	}
}

// TestRealOVA holds that tar can list an appliance from what a plan fetched.
func TestRealOVA(t *testing.T) {
	needs(t, "tar")
	from, dir := t.TempDir(), t.TempDir()
	files := []member{{name: "disk1.vmdk", size: 20<<20 + 5}, {name: "disk2.vmdk", size: 3 << 20}, {name: "disk3.vmdk", size: 7<<20 + 777}}
	args := []string{"-cf", "vm.ova", "vm.ovf"}
	for _, f := range files {
		args = append(args, f.name)
		if err := os.WriteFile(filepath.Join(from, f.name), make([]byte, f.size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(from, "vm.ovf"), ovfOf(files...), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, from, "tar", args...)
	_, r := fetched(t, from, dir, "vm.ova", Metadata)
	list := func(dir string) string { return run(t, dir, "tar", "-tvf", "vm.ova") }
	if want, got := list(from), list(dir); got != want {
		t.Errorf("listed of what was fetched:\n%s\nof the archive:\n%s", got, want)
	}
	if r.rounds != [classes]int{1, 1} || r.here.Len() > 512<<10 {
		t.Errorf("%v rounds, %d bytes", r.rounds, r.here.Len())
	}
}
