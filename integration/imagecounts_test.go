package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// qemu-img info of an image that is not here waits for two round trips and pulls its
// tables, not its data.
func TestImageInfoTakesTwoRoundTrips(t *testing.T) {
	t.Parallel()
	need(t, "qemu-img", "qemu-utils")
	const name = "snapshots/1/2/image.qcow2"
	dir := t.TempDir()
	raw, image := filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2")
	put(t, raw, bytesOf(1, 40<<20))
	if err := os.Truncate(raw, 200<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("qemu-img", "convert", "-O", "qcow2", raw, image).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img convert: %v\n%s", err, out)
	}
	body, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	p, z := remoteFile(t, name, body)
	p.late(answerLate)
	if out, err := exec.Command("qemu-img", "info", "-U", z.path(name)).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img info: %v\n%s", err, out)
	}
	asked := p.of(name)
	p.late(0)
	p.quiet()
	if asked.waits > 2 {
		t.Errorf("it waited for %d reads one after the other: %+v", asked.waits, asked)
	}
	if got := p.of(name); got.received > 2<<20 {
		t.Errorf("%d bytes were pulled in %+v", got.received, got.kinds)
	}
}
