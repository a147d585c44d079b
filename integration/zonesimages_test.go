package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// qemuIO changes an image in a directory.
func qemuIO(t testing.TB, dir, image string, commands ...string) {
	t.Helper()
	args := []string{"-f", "qcow2"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	cmd := exec.Command("qemu-io", append(args, image)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("qemu-io %q: %v\n%s", args, err, out)
	}
}

// A chain of snapshots that qemu-img makes in one zone is listed in the other at once, and
// converts there on demand; what the chain hides, and what lies beside it, is not fetched.
func TestZonesSnapshotChain(t *testing.T) {
	t.Parallel()
	need(t, "qemu-img", "qemu-utils")
	need(t, "qemu-io", "qemu-utils")
	const (
		dir    = "snapshots/2/7"
		mib    = 1 << 20
		size   = 64
		needed = (size - 32 + 16 + 16) * mib // of 112 MiB in three images
		// Tables, ends of images, and what is read ahead of where an image ends being needed:
		// of 48 MiB that the chain hides, half.
		more = 24 * mib
	)
	b := newZones(t, 2, with("--settle", "200ms", "--poll-interval", "1h")) // who asks at once need not wait
	from, to := b.all[0], b.all[1]
	if err := os.MkdirAll(from.path(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, bytesOf(11, size*mib), 0o644); err != nil {
		t.Fatal(err)
	}
	where := from.path(dir)
	qemuImg(t, where, "convert", "-f", "raw", "-O", "qcow2", raw, "full")
	for _, delta := range []struct {
		name, parent string
		mib          int
	}{{"second", "full", 32}, {"third", "second", 16}} {
		qemuImg(t, where, "create", "-q", "-f", "qcow2", "-b", delta.parent, "-F", "qcow2", delta.name)
		fill := filepath.Join(t.TempDir(), "fill")
		if err := os.WriteFile(fill, bytesOf(uint64(delta.mib), delta.mib*mib), 0o644); err != nil {
			t.Fatal(err)
		}
		qemuIO(t, where, delta.name, fmt.Sprintf("write -s %s 0 %dM", fill, delta.mib))
	}
	put(t, from.path(dir+"/other"), bytesOf(12, 16*mib))
	local := filepath.Join(t.TempDir(), "local")
	qemuImg(t, where, "convert", "-U", "-O", "raw", "third", local)

	from.flush()
	to.refresh()
	names := []string{"full", "other", "second", "third"}
	entries, err := os.ReadDir(to.path(dir))
	if err != nil || len(entries) != len(names) {
		t.Fatalf("the other zone lists %v (%v), want %q", entries, err, names)
	}
	for i, e := range entries {
		in, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		was, err := os.Stat(filepath.Join(where, names[i]))
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() != names[i] || in.Size() != was.Size() || in.Mode() != was.Mode() {
			t.Errorf("the other zone lists %s with %d bytes, mode %v, want %s with %d, %v", e.Name(), in.Size(), in.Mode(), names[i], was.Size(), was.Mode())
		}
	}
	b.seen[1].filesQuiet()
	if _, received := b.seen[1].ofFiles(); received > 0 {
		t.Errorf("%d bytes of snapshots came unasked", received)
	}

	b.seen[1].forget()
	copied := filepath.Join(t.TempDir(), "copied")
	qemuImg(t, to.path(dir), "convert", "-U", "-O", "raw", "third", copied)
	if sumOf(t, copied) != sumOf(t, local) {
		t.Error("the chain converts to other bytes in the other zone")
	}
	b.seen[1].filesQuiet()
	if _, received := b.seen[1].ofFiles(); received > needed+more {
		t.Errorf("the chain took %d bytes, of which %d were needed", received, int64(needed))
	}
	if got := b.seen[1].of(dir + "/other"); got.received > 512<<10 {
		t.Errorf("a file beside the chain was fetched: %+v", got)
	}
}
