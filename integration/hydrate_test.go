package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// qemuImg runs qemu-img in a directory and returns what it says of an image, without
// how much of it is on this disk.
func qemuImg(t testing.TB, dir string, args ...string) any {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("qemu-img", args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, &stderr)
	}
	var v any
	if len(out) > 0 {
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatalf("qemu-img %q: %v in %s", args, err, out)
		}
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

// TestColdImages holds what it costs to look at images of which nothing is here, in
// classes that do not fill: requests, bytes and answers waited for one after the other,
// as a proxy counts them.
func TestColdImages(t *testing.T) {
	need(t, "qemu-img", "qemu-utils")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "seed"), bytesOf(4, 72<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, dir, "convert", "-f", "raw", "-O", "qcow2", "seed", "large.qcow2")
	if err := os.Truncate(filepath.Join(dir, "seed"), 9<<20); err != nil {
		t.Fatal(err)
	}
	for format, name := range map[string]string{"qcow2": "grown.qcow2", "vpc": "disk.vhd", "vmdk": "disk.vmdk", "vhdx": "disk.vhdx", "raw": "disk.raw"} {
		qemuImg(t, dir, "convert", "-f", "raw", "-O", format, "seed", name)
	}
	qemuImg(t, dir, "resize", "-q", "grown.qcow2", "20T")
	qemuImg(t, dir, "convert", "-f", "raw", "-O", "qcow2", "seed", "snapshot")
	qemuImg(t, dir, "create", "-q", "-f", "qcow2", "-b", "snapshot", "-F", "qcow2", "delta")
	qemuImg(t, dir, "convert", "-f", "raw", "-O", "qcow2", "-B", "delta", "-F", "qcow2", "seed", "second")

	d := newDepot(t)
	p := d.throughHTTP(t)
	z := newZone(t, on(d))
	const away = "snapshots/2/7"
	if err := os.MkdirAll(z.path(away), 0o755); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if n.Name() == "seed" {
			continue
		}
		if out, err := exec.Command("cp", filepath.Join(dir, n.Name()), z.path(away)).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v\n%s", err, out)
		}
	}
	z.flush()
	z.evict()
	key := func(name string) string { return away + "/" + name }

	for _, test := range []struct {
		name, format    string
		waits, requests int
		bytes           int64
	}{
		{"large.qcow2", "qcow2", 1, 1, 512 << 10},
		{"grown.qcow2", "qcow2", 2, 2, 1 << 20},
		{"disk.vhd", "vpc", 1, 2, 512<<10 + 32<<10}, // the footer's 256 KiB begin within a block
		// qemu looks for a descriptor in the first MiB, in one read, as a copy begins: so
		// some of what follows is read ahead.
		{"disk.vmdk", "vmdk", 1, 6, 8 << 20},
		// On a busy machine qemu may ask for a region before its table was understood here.
		{"disk.vhdx", "vhdx", 2, 4, 2 << 20},
		{"disk.raw", "raw", 1, 2, 512 << 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			z := z.as(t)
			if here := z.stat(key(test.name)).Here; here != 0 {
				t.Fatalf("%d bytes are here before", here)
			}
			p.forget()
			p.late(answerLate)
			args := []string{"info", "--output=json", "-f", test.format, test.name}
			if want, got := qemuImg(t, dir, args...), qemuImg(t, z.path(away), args...); !reflect.DeepEqual(got, want) {
				t.Errorf("info of the cold image:\n%v\nof the local one:\n%v", got, want)
			}
			waits := p.of(key(test.name)).waits
			p.late(0)
			p.quiet()
			if got := p.of(key(test.name)); waits > test.waits || got.requests > test.requests || got.received > test.bytes {
				t.Errorf("info waited for %d answers one after the other, and took %+v; want at most %d, %d requests and %d bytes",
					waits, got, test.waits, test.requests, test.bytes)
			}
			if test.format == "raw" {
				return // its map reads it all
			}
			args[0] = "map"
			if want, got := qemuImg(t, dir, args...), qemuImg(t, z.path(away), args...); !reflect.DeepEqual(got, want) {
				t.Errorf("map of the cold image:\n%.500v\nof the local one:\n%.500v", got, want)
			}
		})
	}

	t.Run("chain", func(t *testing.T) {
		z := z.as(t)
		// Looking at the child alone brings the headers of its parents.
		p.forget()
		qemuImg(t, z.path(away), "info", "--output=json", "second")
		eventually(t, time.Minute, func() error {
			if here, want := z.stat(key("snapshot")).Here, int64(512<<10); here < want {
				return fmt.Errorf("%d bytes of the last parent are here, want %d", here, want)
			}
			return nil
		})
		p.quiet()
		chain := []string{"second", "delta", "snapshot"}
		for _, name := range chain {
			if got := p.of(key(name)); got.requests > 2 || got.received > 512<<10 {
				t.Errorf("%s took %+v", name, got)
			}
		}
		p.forget()
		args := []string{"info", "--output=json", "--backing-chain", "second"}
		if want, got := qemuImg(t, dir, args...), qemuImg(t, z.path(away), args...); !reflect.DeepEqual(got, want) {
			t.Errorf("info of the cold chain:\n%v\nof the local one:\n%v", got, want)
		}
		p.quiet()
		for _, name := range chain {
			if got := p.of(key(name)); got.requests > 0 {
				t.Errorf("%s took %+v more", name, got)
			}
		}
	})
}
