package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// refused checks what every mistake gets: the exit code, one line on standard error
// with the words, and nothing left mounted.
func refused(t *testing.T, z *zone, c command, code int, words ...string) {
	t.Helper()
	if c.code != code {
		t.Errorf("exit %d, want %d: %v", c.code, code, c)
	}
	text := strings.TrimSuffix(c.stderr, "\n")
	if text == "" || strings.Contains(text, "\n") || !strings.HasPrefix(text, "depotfs: ") {
		t.Errorf("standard error is not one line of depotfs:\n%s", c.stderr)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("the line does not say %q: %s", word, text)
		}
	}
	if c.stdout != "" {
		t.Errorf("standard output: %s", c.stdout)
	}
	if isMounted(t, z.mnt) {
		t.Errorf("something is mounted on %s", z.mnt)
	}
	if z.pid() != 0 {
		t.Error("a daemon runs")
	}
}

func isMounted(t testing.TB, dir string) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(table), " "+dir+" ")
}

func TestBadMount(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	remove := func(t *testing.T, dir string) {
		t.Helper()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name  string
		set   func(t *testing.T, z *zone)
		code  int
		words []string
	}{
		{"missing cache directory", func(t *testing.T, z *zone) { remove(t, z.share) }, 1, []string{"cache directory", "does not exist", "--cache-dir"}},
		{"cache directory is a file", func(t *testing.T, z *zone) { remove(t, z.share); put(t, z.share, nil) }, 1, []string{"not a directory"}},
		{"read-only cache directory", func(t *testing.T, z *zone) {
			if err := unix.Mount("tmpfs", z.share, "tmpfs", unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(z.share, unix.MNT_DETACH) })
		}, 1, []string{"cannot be written", "--cache-dir"}},
		{"missing mount point", func(t *testing.T, z *zone) { remove(t, z.mnt) }, 1, []string{"mount point", "does not exist"}},
		{"mount point is a file", func(t *testing.T, z *zone) { remove(t, z.mnt); put(t, z.mnt, nil) }, 1, []string{"not a directory"}},
		{"mount point in the cache", func(t *testing.T, z *zone) {
			z.mnt = filepath.Join(z.share, "mnt")
			if err := os.Mkdir(z.mnt, 0o755); err != nil {
				t.Fatal(err)
			}
		}, 1, []string{"inside the cache directory"}},
		{"state in the cache", func(t *testing.T, z *zone) { z.state = filepath.Join(z.share, "state") }, 1, []string{"--state-dir"}},
		{"state directory with other things", func(t *testing.T, z *zone) { put(t, filepath.Join(z.state, "letter.txt"), nil) }, 1, []string{"letter.txt", "--state-dir"}},
		{"wrong key", func(_ *testing.T, z *zone) { other := *d; other.SecretKey = "wrong"; z.depot = &other }, 1, []string{"AWS_SECRET_ACCESS_KEY"}},
		{"no keys", func(_ *testing.T, z *zone) {
			other := *d
			other.AccessKey, other.SecretKey = "", ""
			z.depot = &other
			z.env = []string{"AWS_EC2_METADATA_DISABLED=true"}
		}, 1, []string{"AWS_ACCESS_KEY_ID"}},
		{"wrong bucket", func(_ *testing.T, z *zone) {
			other, bucket := *d, *d.Bucket
			bucket.Name = "not-there"
			other.Bucket = &bucket
			z.depot = &other
		}, 1, []string{"not-there", "--bucket"}},
		{"unreachable endpoint", func(t *testing.T, z *zone) {
			other := *d
			other.endpoint = "http://" + deadAddress(t)
			z.depot = &other
		}, 1, []string{"--endpoint"}},
		{"no address", func(_ *testing.T, z *zone) { other := *d; other.endpoint = "nonsense://x"; z.depot = &other }, 2, []string{"--endpoint"}},
		{"unknown option", func(_ *testing.T, z *zone) { z.args = append(z.args, "--cahce-size", "1GiB") }, 2, []string{"cahce-size"}},
		{"bad value", func(_ *testing.T, z *zone) { z.args = append(z.args, "--cache-size", "many") }, 2, []string{"--cache-size", "many"}},
		{"part too small", func(_ *testing.T, z *zone) { z.args = append(z.args, "--part-size", "1MiB") }, 2, []string{"--part-size", "5MiB"}},
		{"unknown config key", func(t *testing.T, z *zone) {
			file := filepath.Join(z.dir, "depotfs.yaml")
			put(t, file, []byte("cahce-size: 1GiB\n"))
			z.args = append(z.args, "--config", file)
		}, 2, []string{"cahce-size", "depotfs.yaml:1"}},
		{"config file that is none", func(t *testing.T, z *zone) {
			file := filepath.Join(z.dir, "depotfs.yaml")
			put(t, file, []byte("\x00\x01{{{"))
			z.args = append(z.args, "--config", file)
		}, 2, []string{"depotfs.yaml"}},
		{"missing config file", func(_ *testing.T, z *zone) { z.args = append(z.args, "--config", "/nonexistent.yaml") }, 2, []string{"/nonexistent.yaml"}},
		{"keys that others can read", func(t *testing.T, z *zone) {
			file := filepath.Join(z.dir, "depotfs.yaml")
			put(t, file, []byte("s3:\n  access-key: a\n  secret-key: geheim\n"))
			z.args = append(z.args, "--config", file)
		}, 2, []string{"600"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			z := newUnmounted(t, on(d))
			z.quiet = true
			test.set(t, z)
			c := z.run(z.mountArgs()...)
			refused(t, z, c, test.code, test.words...)
			if strings.Contains(c.stderr, "geheim") {
				t.Error("a secret is shown")
			}
		})
	}
	if keys := d.keys(t); len(keys) > 0 {
		t.Errorf("mistakes left objects: %v", keys)
	}
}

// Directories that a mount uses are not given to a second one, and the first
// goes on undisturbed.
func TestSecondMount(t *testing.T) {
	t.Parallel()
	first := newZone(t, on(newDepot(t)))
	first.quiet = true // the refused daemons log where they are refused
	body := bytesOf(1, 1<<20)
	put(t, first.path("kept"), body)
	for _, test := range []struct {
		name  string
		set   func(z *zone)
		words []string
	}{
		{"same cache directory", func(z *zone) { z.share = first.share }, []string{"cache directory", "in use", first.mnt}},
		{"same state directory", func(z *zone) { z.state = first.state }, []string{"state directory", "in use", first.mnt}},
		{"same by a symlink", func(z *zone) {
			link := filepath.Join(z.dir, "link")
			_ = os.Symlink(first.share, link)
			z.share = link
		}, []string{"in use"}},
		{"cache directory in a mount", func(z *zone) { z.share = first.mnt }, []string{"lies in a depotfs mount"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			z := newUnmounted(t, quiet)
			own := z.state
			test.set(z)
			c := z.run(z.mountArgs()...)
			if z.state != own { // its daemon is the first one's
				z.state = own
			}
			refused(t, z, c, 1, test.words...)
			z.share = filepath.Join(z.dir, "share")
		})
	}
	t.Run("same mount point", func(t *testing.T) {
		z := newUnmounted(t, quiet)
		own := z.mnt
		z.mnt = first.mnt
		c := z.run(z.mountArgs()...)
		z.mnt = own
		refused(t, z, c, 1, "mount point", "in use")
	})
	t.Run("busy mount point of others", func(t *testing.T) {
		z := newUnmounted(t, quiet)
		if err := unix.Mount("tmpfs", z.mnt, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		c := z.run(z.mountArgs()...)
		if err := unix.Unmount(z.mnt, 0); err != nil {
			t.Errorf("the other mount is gone: %v", err)
		}
		refused(t, z, c, 1, "in use", "tmpfs")
	})
	holds(t, first.path("kept"), body)
	first.flush()
	first.evict()
	holds(t, first.path("kept"), body)
}

// An NFS share that is not mounted must not be taken for an empty one.
func TestMissingMarker(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newZone(t, on(d))
	z.quiet = true
	body := bytesOf(1, 1<<20)
	put(t, z.path("volumes/1/a"), body)
	z.flush()
	z.umount()
	if err := os.Rename(z.share, z.share+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(z.share, 0o755); err != nil {
		t.Fatal(err)
	}
	refused(t, z, z.run(z.mountArgs()...), 1, z.share, "is the share mounted?")
	if entries, _ := os.ReadDir(z.share); len(entries) > 1 || len(entries) == 1 && entries[0].Name() != ".depotfs" {
		t.Errorf("the wrong directory was used: %v", entries)
	}
	if err := os.RemoveAll(z.share); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(z.share+".away", z.share); err != nil {
		t.Fatal(err)
	}
	z.mount()
	holds(t, z.path("volumes/1/a"), body)
	if got, _ := d.Get(t, "volumes/1/a"); difference(got, body) != "" {
		t.Error("the object was touched")
	}
}

// Commands say clearly what they cannot do.
func TestBadCommands(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	put(t, z.path("file"), []byte("x"))
	outside := filepath.Join(z.dir, "outside")
	put(t, outside, nil)
	for _, test := range []struct {
		name  string
		args  []string
		code  int
		words []string
	}{
		{"outside", []string{"stat", outside}, 1, []string{"not inside a depotfs mount"}},
		{"flush outside", []string{"flush", outside}, 1, []string{"not inside a depotfs mount"}},
		{"no such file", []string{"stat", z.path("nothing")}, 1, []string{"nothing", "no such file"}},
		{"no such directory", []string{"ls", z.path("nothing")}, 1, []string{"no such file"}},
		{"umount of a directory", []string{"umount", z.share}, 1, []string{"not"}},
		{"unknown command", []string{"mout"}, 2, []string{"mout", "mount"}},
		{"no path", []string{"evict"}, 2, []string{"evict"}},
		{"unknown state", []string{"ls", "--state", "dirt", z.mnt}, 2, []string{"dirty"}},
		{"bad duration", []string{"flush", "--timeout", "soon", z.mnt}, 2, []string{"--timeout", "soon"}},
		{"flush with the store off", []string{"flush", "--timeout", "1s", z.mnt}, 1, []string{"off"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := z.run(test.args...)
			if c.code != test.code {
				t.Errorf("exit %d, want %d: %v", c.code, test.code, c)
			}
			for _, word := range test.words {
				if !strings.Contains(c.stderr, word) {
					t.Errorf("standard error does not say %q: %s", word, c.stderr)
				}
			}
		})
	}
}

// A busy mount is not torn down, and SIGTERM ends it cleanly once it is free.
func TestBusyUmount(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	put(t, z.path("file"), []byte("x"))
	f, err := os.Open(z.path("file"))
	if err != nil {
		t.Fatal(err)
	}
	if c := z.run("umount", z.mnt); c.code != 1 || !strings.Contains(c.stderr, "busy") {
		t.Errorf("%v", c)
	}
	holds(t, z.path("file"), []byte("x"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	pid := z.pid()
	if err := unix.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if !waitGone(pid) || isMounted(t, z.mnt) {
		t.Error("SIGTERM does not end the mount")
	}
	z.mount()
	holds(t, z.path("file"), []byte("x"))
}

// Nobody but its owner talks to the daemon, and secrets stay secret.
func TestSecrets(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	z := newUnmounted(t, on(d))
	file := filepath.Join(z.dir, "depotfs.yaml")
	put(t, file, []byte("s3:\n  access-key: "+d.AccessKey+"\n  secret-key: "+d.SecretKey+"\n"))
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	z.args = append(z.args, "--config", file, "--log-level", "debug")
	secret := d.SecretKey
	own := *d
	own.AccessKey, own.SecretKey = "", "" // the file has them
	z.depot = &own
	z.mount()
	put(t, z.path("file"), []byte("x"))
	z.flush()
	said := z.log() + z.must("status", "--json", z.mnt) + z.must("config", "show", z.mnt) + z.must("config", "show", "--json", z.mnt)
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", z.pid()))
	if strings.Contains(said+string(cmdline), secret) {
		t.Error("the secret key is shown")
	}
	for name, mode := range map[string]os.FileMode{"": 0o700, "control.sock": 0o600} {
		info, err := os.Stat(filepath.Join(z.state, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("state/%s has the mode %v, want %v (%v)", name, info.Mode().Perm(), mode, err)
		}
	}
}
