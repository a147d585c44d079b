package integration

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An upload in parts that was killed in the middle goes on where it was: what was on
// its way is lost, at most, and both runs together send little more than the file.
func TestKilledUploadResumes(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	proxy := d.behindProxy(t)
	z := newZone(t, on(d), with("--settle", "0s", "--part-size", "5MiB", "--upload-parts", "2"))
	z.remount("--upload-limit", "32MiB/s")
	body := bytesOf(1, 256<<20+1)
	const name = "volumes/1/huge"
	before := proxy.Sent()
	put(t, z.path(name), body)
	eventually(t, 2*time.Minute, func() error {
		if sent := proxy.Sent() - before; sent < int64(len(body))/2 {
			return fmt.Errorf("%d bytes are sent, uploading %+v", sent, z.status().Pending.Uploading)
		}
		return nil
	})
	z.kill()
	if sent := proxy.Sent() - before; sent > int64(len(body))*9/10 {
		t.Errorf("the kill came after %d of %d bytes: nothing to resume", sent, len(body))
	}
	z.mount()
	z.flush()
	if total := proxy.Sent() - before; total > int64(len(body))*105/100 {
		t.Errorf("%d bytes were sent, for a file of %d", total, len(body))
	}
	got, _ := d.Get(t, name)
	if diff := difference(got, body); diff != "" {
		t.Errorf("the object: %s", diff)
	}
	// The kill may have met the daemon while it tried out what the store can, too.
	probe := func(key string) bool { return strings.Contains(key, ".depotfs/probe/") }
	if keys := slices.DeleteFunc(d.Uploads(t), probe); len(keys) > 0 {
		t.Errorf("unfinished multipart uploads stay: %q", keys)
	}
}

// Limits change while bytes move, and are kept over a restart.
func TestLimitsWhileRunning(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d), with("--settle", "0s", "--part-size", "5MiB", "--upload-limit", "256KiB/s"))
	z.flush()
	body := bytesOf(2, 40<<20)
	const name = "volumes/1/image"
	put(t, z.path(name), body) // 160 s at this rate
	eventually(t, time.Minute, func() error {
		if z.status().Store.Sent < 256<<10 {
			return fmt.Errorf("nothing is sent")
		}
		return nil
	})
	start, before := time.Now(), z.status().Store.Sent
	time.Sleep(3 * time.Second)
	sent := z.status().Store.Sent - before
	if most := int64(time.Since(start).Seconds() * (256 << 10)); sent > most+1<<20 {
		t.Errorf("%d bytes were sent where the limit allows %d", sent, most)
	}
	out := z.must("config", "set", "upload-limit=0", "upload-parts=3", "part-size=6MiB", z.mnt)
	if !strings.Contains(out, "upload-limit is 0, was 256KiB/s") {
		t.Errorf("config set says:\n%s", out)
	}
	z.flush()
	got, _ := d.Get(t, name)
	if diff := difference(got, body); diff != "" {
		t.Errorf("the object: %s", diff)
	}

	z.evict(name)
	z.must("config", "set", "download-limit=1MiB", z.mnt)
	start = time.Now()
	f, err := os.Open(z.path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(io.Discard, f, 4<<20); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("4 MiB came within %v at 1 MiB a second", took)
	}
	z.must("config", "set", "download-limit=0", z.mnt)
	f.Close()
	holds(t, z.path(name), body)

	for _, bad := range []struct{ word, says string }{
		{"part-size=1MiB", "5MiB to 5GiB; nothing was changed"},
		{"cache-size=1GiB", "edit the config file and mount again"},
		{"s3.access-key=AKIA", "set both or neither; nothing was changed"},
	} {
		if c := z.run("config", "set", "upload-limit=7MiB", bad.word, z.mnt); c.code == 0 || !strings.Contains(c.stderr, bad.says) {
			t.Errorf("want %q:\n%v", bad.says, c)
		}
	}
	z.must("config", "set", "upload-limit=9MiB", z.mnt)
	z.kill()
	z.mount()
	if l := z.status().Limits; l.Upload != 9<<20 || l.Download != 0 || l.Parts != 3 || l.PartSize != 6<<20 {
		t.Errorf("after a restart the limits are %+v", l)
	}
	if shown := z.must("config", "show", z.mnt); !strings.Contains(shown, "config set; was 256KiB/s") {
		t.Errorf("config show:\n%s", shown)
	}
	z.must("config", "set", "upload-limit=", z.mnt)
	if l := z.status().Limits; l.Upload != 256<<10 {
		t.Errorf("given up, the limit is %d", l.Upload)
	}
	z.must("config", "set", "upload-limit=0", z.mnt) // the unmount is to be quick
}

// The memory of the daemon does not depend on how much it sends.
func TestMemoryOfUploads(t *testing.T) {
	d := newDepot(t)
	z := newZone(t, on(d), with("--settle", "1h"))
	z.flush()
	block := bytesOf(3, 64<<20)
	put(t, z.path("volumes/1/first"), nil)
	f, err := os.Create(z.path("volumes/1/image"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 16 {
		block[i]++ // no two parts alike
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		put(t, z.path(fmt.Sprintf("volumes/1/small/%d/%d", i/10, i)), block[i:i+1<<20])
	}
	if c := z.run("flush", "--timeout", "110s", z.mnt); c.code != 0 {
		t.Fatalf("%v%s", c, z.logTail())
	}
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(z.pid()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	var peak int64
	for line := range strings.Lines(string(text)) {
		if word, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err := fmt.Sscanf(word, "%d kB", &peak); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("the daemon's memory was %d KiB at most", peak)
	if peak == 0 || peak > 256<<10 {
		t.Errorf("the daemon's memory was %d KiB at its peak", peak)
	}
	if puts := z.status().Store.Requests["put"]; puts < 200 || puts > 300 {
		t.Errorf("200 small files in 20 directories took %d puts", puts)
	}
}
