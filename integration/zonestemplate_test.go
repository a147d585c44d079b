package integration

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// templateSize is the size of the image of the template that is installed.
func templateSize(t testing.TB) int64 {
	text := os.Getenv("DEPOTFS_TEMPLATE_SIZE")
	if text == "" {
		return 256 << 20
	}
	n, err := humanize.ParseBytes(text)
	if err != nil {
		t.Fatalf("DEPOTFS_TEMPLATE_SIZE: %v", err)
	}
	return int64(n)
}

// template is one that CloudStack's SSVM downloads.
type template struct {
	dir, image string // image: its final name in dir
	size       int64
	seed       [32]byte
	sum        [sha256.Size]byte // of the image, once it is installed
	text       string            // of the properties, once it is installed
}

// install does what the SSVM does to register a template from a URL: an empty properties
// file first, the download under a name of its own beside it, the move to the final name,
// and the properties rewritten in place.
func (w *template) install(z *zone) error {
	dir := z.path(w.dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	properties := filepath.Join(dir, "template.properties")
	if err := os.Remove(properties); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the old properties: %w", err)
	}
	f, err := os.OpenFile(properties, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	download := filepath.Join(dir, "dnld4711tmp_")
	if err := w.download(download); err != nil {
		return err
	}
	final := dir + "//" + w.image
	steps := []func() error{
		func() error { return os.Chmod(download, 0o666) },
		func() error {
			return unix.Renameat2(unix.AT_FDCWD, download, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE)
		},
		func() error { return os.Chmod(final, 0o666) },
		func() error {
			w.text = w.properties()
			return os.WriteFile(properties, []byte(w.text), 0o644)
		},
		func() error { return os.Chmod(properties, 0o666) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if err := os.Remove(download); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete the download, which was moved: %w", err)
	}
	if err := unix.Rmdir(dir); !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("delete the directory, which is not empty: %w", err)
	}
	return nil
}

// download writes in pieces of 1 MiB, looking at the first one now and then through
// another handle, as the check of the format does.
func (w *template) download(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	from, all, piece := rand.NewChaCha8(w.seed), sha256.New(), make([]byte, 1<<20)
	for off := int64(0); off < w.size; off += int64(len(piece)) {
		piece = piece[:min(int64(len(piece)), w.size-off)]
		from.Read(piece)
		all.Write(piece)
		if _, err := f.WriteAt(piece, off); err != nil {
			return err
		}
		if off == 0 || off == 50<<20 {
			other, err := os.Open(path)
			if err != nil {
				return err
			}
			_, err = io.CopyN(io.Discard, other, 1<<20)
			if err := errors.Join(err, other.Close()); err != nil {
				return fmt.Errorf("read back the first MiB: %w", err)
			}
		}
	}
	w.sum = [sha256.Size]byte(all.Sum(nil))
	return f.Sync()
}

func (w *template) properties() string {
	return fmt.Sprintf("#\n#%s\nfilename=%s\nid=201\nqcow2=true\nqcow2.filename=%[2]s\nqcow2.size=%[3]d\nqcow2.virtualsize=%[3]d\npublic=true\nsize=%[3]d\nphysicalSize=%[3]d\nuniquename=201-2-%[4]s\nvirtualsize=%[3]d\n",
		time.Now().Format(time.UnixDate), w.image, w.size, "f1c0")
}

// look reads the template as CloudStack in another zone does: a properties file that is
// complete names an image. complete says whether it was; then the image must be there,
// with its whole length, and its last bytes must be right.
func (w *template) look(z *zone, whole bool) (complete bool, err error) {
	text, err := os.ReadFile(z.path(path.Join(w.dir, "template.properties")))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the properties: %w", err)
	}
	if !bytes.Contains(text, []byte("uniquename=")) || !bytes.Contains(text, []byte("\nvirtualsize=")) {
		if len(text) > 0 {
			return false, fmt.Errorf("half of the properties is shown: %q", text)
		}
		return false, nil
	}
	_, after, _ := strings.Cut(string(text), "\nqcow2.filename=")
	image, _, _ := strings.Cut(after, "\n")
	f, err := os.Open(z.path(path.Join(w.dir, image)))
	if err != nil {
		return true, fmt.Errorf("the properties are complete, and the image: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() != w.size {
		return true, fmt.Errorf("the properties are complete, and the image has %d bytes of %d (%v)", st.Size(), w.size, err)
	}
	last := make([]byte, 4096)
	if _, err := f.ReadAt(last, w.size-int64(len(last))); err != nil {
		return true, fmt.Errorf("the properties are complete, and the end of the image: %w", err)
	}
	if !whole {
		return true, nil
	}
	all := sha256.New()
	if _, err := io.Copy(all, f); err != nil {
		return true, fmt.Errorf("the properties are complete, and the image: %w", err)
	}
	if [sha256.Size]byte(all.Sum(nil)) != w.sum {
		return true, errors.New("the properties are complete, and the image has other bytes")
	}
	return true, nil
}

// A template that is installed in one zone as CloudStack does it comes to the others by
// itself, and none of them ever shows a complete properties file without the image.
// DEPOTFS_TEMPLATE_SIZE=2GiB installs a larger one.
func TestZonesTemplate(t *testing.T) {
	b := newZones(t, 3, polled(200*time.Millisecond), with("--settle", "1s"))
	a, watched, alone := b.all[0], b.all[1], b.all[2]
	w := &template{dir: "template/tmpl/2/201", image: "0f8d6a0e-6a3c-3c5e-9a44-0f6f6d1f1b52.qcow2", size: templateSize(t), seed: [32]byte{7}}

	// Zone b is looked at all the time from before the first byte.
	stop, wg := make(chan struct{}), sync.WaitGroup{}
	var looks, completes int
	var fault error
	wg.Go(func() {
		for fault == nil {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			var complete bool
			looks++
			if complete, fault = w.look(watched, completes == 0); complete {
				completes++
			}
		}
	})
	ended := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer ended()

	begun := time.Now()
	if err := w.install(a); err != nil {
		t.Fatal(err)
	}
	installed := time.Now()
	image := path.Join(w.dir, w.image)
	for _, z := range []*zone{alone, watched} { // nobody has asked for it in the zone that is left alone
		z.follows(func() error {
			for _, name := range []string{image, path.Join(w.dir, "template.properties")} {
				if state := z.states()[name]; state != "clean" {
					return fmt.Errorf("zone %s: %s is %q", z.name, name, state)
				}
			}
			// The empty properties come first when the download takes longer than a file is
			// left to settle; those at the plain path are looked at without asking for them.
			text, err := os.ReadFile(filepath.Join(z.share, w.dir, "template.properties"))
			if err != nil || string(text) != w.text {
				return fmt.Errorf("zone %s: the properties are still %q (%v)", z.name, text, err)
			}
			return nil
		})
	}
	arrived := time.Since(installed)
	ended()
	if fault != nil {
		t.Fatalf("look %d of zone b: %v%s", looks, fault, watched.logTail())
	}
	t.Logf("%d looks, %d of them saw complete properties", looks, completes)
	t.Logf("%d bytes: installed in %v, whole in all zones %v later", w.size, installed.Sub(begun), arrived)
	for i, z := range b.all {
		sent, received := b.seen[i].ofFiles()
		t.Logf("zone %s sent %d bytes of files and received %d", z.name, sent, received)
	}
	if completes == 0 {
		if complete, err := w.look(watched, true); !complete || err != nil {
			t.Fatalf("it is here, and a look says complete: %v, %v", complete, err)
		}
	}
	for _, z := range []*zone{watched, alone} {
		plain := filepath.Join(z.share, image)
		if got := sumOf(t, plain); got != fmt.Sprintf("%x", w.sum) {
			t.Errorf("zone %s: the file at the plain path has other bytes", z.name)
		}
		if st, err := os.Stat(z.path(image)); err != nil || st.Mode().Perm() != 0o666 {
			t.Errorf("zone %s: the image has the mode %v (%v), want 0666", z.name, st.Mode(), err)
		}
		if z == alone {
			for name := range z.states() {
				if strings.Contains(name, "dnld") {
					t.Errorf("zone %s shows %q", z.name, name)
				}
			}
		}
	}
	b.agree()
}
