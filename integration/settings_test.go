package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"depotfs/s3store/s3test"
)

// slowly has a zone upload in parts of 5 MiB, so slowly that a test can do something
// meanwhile.
var slowly = with("--settle", "0s", "--part-size", "5MiB", "--upload-parts", "2", "--upload-limit", "6MiB/s", "--max-error-retry", "1")

// The keys stop working in the middle of an upload: it waits, goes on when config set has
// set new ones, and no part is sent twice that had arrived. The secret shows nowhere, and
// counts after a restart, whatever keys the mount is given.
func TestKeysChangeInMidUpload(t *testing.T) {
	t.Parallel()
	for _, kind := range s3test.Kinds {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			d := depotOn(t, s3test.Start(t, kind))
			proxy := d.throughHTTP(t)
			z := newZone(t, on(d), slowly)
			z.quiet = true
			z.flush()
			body, small := bytesOf(1, 64<<20), bytesOf(2, 100_000)
			const name = "volumes/1/image"
			some := proxy.afterSent(20 << 20)
			put(t, z.path(name), body)
			<-some
			z.setsWrongKey(t, "on") // the right ones go on
			d.server.ChangeKeys(t)
			d.Bucket = d.server.OpenBucket(d.Name)
			z.storeIs("refused")
			put(t, z.path("volumes/1/small"), small)
			z.setsWrongKey(t, "refused")

			key := filepath.Join(z.dir, "new-key")
			put(t, key, []byte(d.server.SecretKey+"\n"))
			c := z.run("config", "set", "s3.access-key="+d.server.AccessKey, "s3.secret-key=@"+key, "upload-limit=0", z.mnt)
			if c.code != 0 || c.stderr != "" {
				t.Fatalf("new keys: %v%s", c, z.logTail())
			}
			z.flush()
			d.has(t, name, body)
			d.has(t, "volumes/1/small", small)
			proxy.partsOnce(t, name, 13)
			z.hides(t, d.server.SecretKey, c.stdout)

			z.kill()
			z.mount()
			put(t, z.path("volumes/1/after"), small)
			z.flush()
			d.has(t, "volumes/1/after", small)
			if shown := z.must("config", "show", z.mnt); !strings.Contains(shown, "config set; was not set") {
				t.Errorf("config show:\n%s", shown)
			}
		})
	}
}

// setsWrongKey has config set refuse a key, and leave the store in a state.
func (z *zone) setsWrongKey(t testing.TB, state string) {
	t.Helper()
	c := z.run("config", "set", "s3.access-key=nobody", "s3.secret-key=wrong", z.mnt)
	if c.code != 1 || !strings.Contains(c.stderr, "nothing was changed") || !strings.Contains(c.stderr, "next time say s3.secret-key=-") {
		t.Errorf("a wrong key: %v", c)
	}
	z.storeIs(state)
}

// has checks an object.
func (d *depot) has(t testing.TB, name string, body []byte) {
	t.Helper()
	got, found := d.Get(t, d.prefix+name)
	if diff := difference(got, body); !found || diff != "" {
		t.Errorf("object %s: found %v, %s", name, found, diff)
	}
}

// partsOnce checks that each part of an upload has arrived exactly once, over all
// proxies, in one upload.
func (p *httpProxy) partsOnce(t testing.TB, name string, want int, others ...*httpProxy) {
	t.Helper()
	arrived, begun := map[string]int{}, 0
	for _, proxy := range append(others, p) {
		proxy.mu.Lock()
		for _, e := range proxy.log {
			switch {
			case e.key != name || e.status != 200:
			case e.kind() == "part":
				arrived[e.query.Get("partNumber")]++
			case e.kind() == "create":
				begun++
			}
		}
		proxy.mu.Unlock()
	}
	for n, times := range arrived {
		if times > 1 {
			t.Errorf("part %s arrived %d times", n, times)
		}
	}
	if len(arrived) != want || begun != 1 {
		t.Errorf("%d parts in %d uploads, want %d in 1", len(arrived), begun, want)
	}
}

// hides checks that a secret is in no output, log, process list or file that others than
// the owner can read.
func (z *zone) hides(t testing.TB, secret string, said string) {
	t.Helper()
	pid := strconv.Itoa(z.pid())
	cmdline, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
	if err != nil {
		t.Error(err)
	}
	for what, text := range map[string]string{
		"config set": said, "config show": z.must("config", "show", z.mnt), "config show --json": z.must("config", "show", "--json", z.mnt),
		"status": z.must("status", z.mnt), "status --json": z.must("status", "--json", z.mnt), "the log": z.log(), "the process list": string(cmdline),
	} {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the secret", what)
		}
	}
	found := 0
	for _, dir := range []string{z.state, z.share} {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(text, []byte(secret)) {
				return err
			}
			found++
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s holds the secret and has mode %v (%v)", path, info.Mode(), err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if found != 1 {
		t.Errorf("the secret is in %d files, want 1", found)
	}
}

// The depot moves to another address in the middle of an upload and of a read. A bucket
// with another depot, or with none, is refused, and nothing happens to it.
func TestEndpointChangesInMidUpload(t *testing.T) {
	t.Parallel()
	for _, kind := range s3test.Kinds {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			d := depotOn(t, s3test.Start(t, kind))
			after := d.throughHTTP(t)
			moved := d.endpoint
			before := d.throughHTTP(t)
			z := newZone(t, on(d), slowly)
			old := bytesOf(3, 6<<20)
			put(t, z.path("volumes/1/old"), old)
			z.flush()
			z.evict("volumes/1/old")
			z.must("config", "set", "download-limit=1MiB", z.mnt)
			read := make(chan string, 1)
			go func() {
				got, err := os.ReadFile(z.path("volumes/1/old"))
				read <- fmt.Sprint(difference(got, old), err)
			}()

			theirs, none := d.server.NewBucket(t), d.server.NewBucket(t)
			d.server.OpenBucket(theirs).Put(t, ".depotfs/depot.json", []byte(`{"format":1,"id":"somebody-elses"}`), nil)
			body := bytesOf(1, 64<<20)
			const name = "volumes/1/image"
			some := before.afterSent(20 << 20)
			put(t, z.path(name), body)
			<-some
			for bucket, says := range map[string]string{theirs: "hold the depot somebody-elses", none: "hold no depot", "no-such-bucket": "does not exist"} {
				if c := z.run("config", "set", "s3.bucket="+bucket, "upload-limit=0", z.mnt); c.code != 1 || !strings.Contains(c.stderr, says) {
					t.Errorf("want %q: %v", says, c)
				}
			}
			if got := len(d.server.OpenBucket(theirs).List(t, "")) + len(d.server.OpenBucket(none).List(t, "")); got != 1 {
				t.Errorf("the refused buckets have %d objects", got)
			}
			sent := z.status().Store.Sent
			z.must("config", "set", "s3.endpoint="+moved, z.mnt)
			if now := z.status().Store.Sent; now < sent {
				t.Errorf("the counter of bytes went back from %d to %d", sent, now)
			}
			z.must("config", "set", "upload-limit=0", "download-limit=0", z.mnt)
			z.flush()
			d.has(t, name, body)
			after.partsOnce(t, name, 13, before)
			if after.of(name).sent == 0 || before.of(name).sent < 20<<20 {
				t.Errorf("%d bytes went to the former address, %d to the new one", before.of(name).sent, after.of(name).sent)
			}
			if diff := <-read; diff != "<nil>" && diff != " <nil>" {
				t.Errorf("a read under way: %s", diff)
			}
			quiet := before.count()
			z.remount()
			put(t, z.path("volumes/1/late"), old)
			z.flush()
			if n := before.count(); n != quiet {
				t.Errorf("the former address is asked %d times after a restart", n-quiet)
			}
		})
	}
}

// count is how many requests came.
func (p *httpProxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.log)
}

// While the store is off settings are kept without asking it; enable tries them out and
// uses them, and where they are wrong it stays off.
func TestSettingsWhileTheStoreIsOff(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d), with("--settle", "0s"))
	eventually(t, patience, func() error {
		if s := z.status().Store; s.Listing != "done" {
			return fmt.Errorf("listing %s", s.Listing)
		}
		return nil
	})
	z.must("disable", z.mnt)
	dead := "http://" + deadAddress(t)
	if out := z.must("config", "set", "s3.endpoint="+dead, z.mnt); !strings.Contains(out, "depotfs enable") {
		t.Errorf("config set says:\n%s", out)
	}
	if c := z.run("enable", z.mnt); c.code != 1 || !strings.Contains(c.stderr, "nothing was changed") {
		t.Errorf("enable with an address that is dead: %v", c)
	}
	proxy := d.throughHTTP(t)
	z.must("config", "set", "s3.endpoint="+d.endpoint, z.mnt)
	put(t, z.path("f"), []byte("f"))
	if n := proxy.count(); n > 0 {
		t.Errorf("%d requests while the store is off", n)
	}
	z.must("enable", z.mnt)
	z.flush()
	d.has(t, "f", []byte("f"))
	if proxy.count() == 0 {
		t.Error("enable did not use the newest settings")
	}
}

// A mount without a bucket gets one, with its keys, while it runs.
func TestBucketOfARunningMount(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, with("--settle", "0s"))
	put(t, z.path("f"), []byte("f"))
	key := filepath.Join(z.dir, "key")
	put(t, key, []byte(d.SecretKey))
	z.must("config", "set", "s3.bucket="+d.Name, "s3.endpoint="+d.endpoint, "s3.access-key="+d.AccessKey, "s3.secret-key=@"+key, z.mnt)
	if s := z.status().Store; s.State != "off" {
		t.Errorf("the store is %s before anybody switched it on", s.State)
	}
	z.must("enable", z.mnt)
	z.flush()
	d.has(t, "f", []byte("f"))
	z.remount()
	put(t, z.path("g"), []byte("g"))
	z.flush()
	d.has(t, "g", []byte("g"))
}

// Settings for all zones: each takes them up once, or says why not.
func TestSettingsForAllZones(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z1 := newZone(t, on(d))
	z1.flush()
	z2 := newUnmounted(t, on(d), named("z2"))
	out := z1.must("config", "set", "--all-zones", "upload-limit=3MiB", "s3.max-error-retry=5", z1.mnt)
	if !strings.Contains(out, "announced to all zones") {
		t.Errorf("config set says:\n%s", out)
	}
	z2.mount()
	limit := func(want int64) {
		t.Helper()
		eventually(t, patience, func() error {
			if l := z2.status().Limits; l.Upload != want {
				return fmt.Errorf("the limit is %d, want %d", l.Upload, want)
			}
			return nil
		})
	}
	limit(3 << 20)
	if shown := z2.must("config", "show", z2.mnt); !strings.Contains(shown, "config set; was 3") {
		t.Errorf("config show:\n%s", shown)
	}
	z2.must("config", "set", "upload-limit=9MiB", z2.mnt)
	z1.must("config", "set", "--all-zones", "download-limit=1GiB", z1.mnt)
	z2.remount()
	eventually(t, patience, func() error {
		if l := z2.status().Limits; l.Download != 1<<30 {
			return fmt.Errorf("the other limit is %d", l.Download)
		}
		return nil
	})
	limit(9 << 20) // its own word, until it is announced again
	if c := z1.run("config", "set", "--all-zones", "s3.secret-key=-", z1.mnt); c.code != 2 || !strings.Contains(c.stderr, "secrets never go through the depot") {
		t.Errorf("a secret for all: %v", c)
	}

	// An address that this zone does not reach.
	d.Put(t, ".depotfs/settings.json", []byte(fmt.Sprintf(
		`{"format":1,"seq":%d,"zone":"z1","values":{"s3.endpoint":{"value":"http://%s","seq":%[1]d},"upload-limit":{"value":"1MiB","seq":%[1]d}}}`,
		time.Now().Add(time.Hour).Unix(), deadAddress(t))), nil)
	z2.remount()
	eventually(t, patience, func() error {
		if text := z2.must("status", z2.mnt); !strings.Contains(text, "settings announced by zone z1: not taken up") {
			return fmt.Errorf("status:\n%s", text)
		}
		return nil
	})
	limit(9 << 20)
}
