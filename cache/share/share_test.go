package share_test

import (
	"errors"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"depotfs/cache/share"
)

func TestMain(m *testing.M) {
	unix.Umask(0) // as depotfs runs
	os.Exit(m.Run())
}

func open(t testing.TB) (*share.Share, string) {
	t.Helper()
	return openWith(t, share.Options{})
}

func openWith(t testing.TB, o share.Options) (*share.Share, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := share.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, s *share.Share, rel, content string) {
	t.Helper()
	f, err := s.OpenFile(rel, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644)
	must(t, err)
	_, err = f.WriteString(content)
	must(t, err)
	must(t, f.Close())
}

func get(t testing.TB, s *share.Share, rel string) string {
	t.Helper()
	b, err := s.ReadFile(rel, 1<<20)
	must(t, err)
	return string(b)
}

func names(t testing.TB, s *share.Share, rel string) []string {
	t.Helper()
	var out []string
	must(t, s.ReadDir(rel, func(name string, _ uint64, _ uint32) error {
		out = append(out, name)
		return nil
	}))
	slices.Sort(out)
	return out
}

// operations is every operation on one path, so that each is tried on each trap.
func operations(s *share.Share) map[string]func(rel string) error {
	now := share.UtimeNow
	opening := func(flags int) func(string) error {
		return func(rel string) error {
			f, err := s.OpenFile(rel, flags, 0o644)
			if err == nil {
				f.Close()
			}
			return err
		}
	}
	return map[string]func(string) error{
		"read":     opening(unix.O_RDONLY),
		"write":    opening(unix.O_WRONLY),
		"create":   opening(unix.O_RDWR | unix.O_CREAT),
		"truncate": opening(unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC),
		"excl":     opening(unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL),
		"tmpfile":  opening(unix.O_WRONLY | unix.O_TMPFILE),
		"opendir":  opening(unix.O_RDONLY | unix.O_DIRECTORY),
		"mkdir":    func(rel string) error { return s.Mkdir(rel, 0o755) },
		"mkdirall": func(rel string) error { return s.MkdirAll(rel+"/deeper", 0o755) },
		"mknod":    func(rel string) error { return s.Mknod(rel, unix.S_IFIFO|0o644, 0) },
		"symlink":  func(rel string) error { return s.Symlink("x", rel) },
		"readlink": func(rel string) error { _, err := s.Readlink(rel); return err },
		"link":     func(rel string) error { return s.Link(rel, "linked") },
		"linkto":   func(rel string) error { return s.Link("plain", rel) },
		"unlink":   s.Unlink,
		"rmdir":    s.Rmdir,
		"rename":   func(rel string) error { return s.Rename(rel, "renamed", 0) },
		"renameto": func(rel string) error { return s.Rename("plain", rel, share.NoReplace) },
		"stat":     func(rel string) error { _, err := s.Stat(rel); return err },
		"statsync": func(rel string) error { _, err := s.StatSync(rel); return err },
		"chmod":    func(rel string) error { return s.Chmod(rel, 0o777) },
		"chown":    func(rel string) error { return s.Chown(rel, -1, -1) },
		"utimes":   func(rel string) error { return s.Utimes(rel, &now, &now) },
		"readdir":  func(rel string) error { return s.ReadDir(rel, func(string, uint64, uint32) error { return nil }) },
		"syncdir":  s.SyncDir,
		"lock": func(rel string) error {
			l, err := s.Lock(rel)
			if err == nil {
				l.Close()
			}
			return err
		},
		"clone": func(rel string) error {
			f, err := s.OpenFile("plain", unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			return s.Clone(f, rel)
		},
		"replace":  func(rel string) error { return s.ReplaceFile(rel, 0o644, nothing) },
		"readfile": func(rel string) error { _, err := s.ReadFile(rel, 1); return err },
	}
}

// TestNothingEscapes plants symlinks that lead out of the share, and one that
// leads nowhere but inside, and tries every operation through them.
func TestNothingEscapes(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	for opName := range operations(nil) {
		for _, trap := range []string{"out/secret", "out/new", "inside/plain", "deep/up/secret", "magic/secret"} {
			t.Run(opName+" "+trap, func(t *testing.T) {
				must(t, os.WriteFile(secret, []byte("secret"), 0o600))
				s, dir := open(t)
				put(t, s, "plain", "plain")
				must(t, s.MkdirAll("deep", 0o755))
				must(t, os.Symlink(outside, filepath.Join(dir, "out")))
				must(t, os.Symlink(".", filepath.Join(dir, "inside")))
				must(t, os.Symlink("../../"+filepath.Base(outside), filepath.Join(dir, "deep/up")))
				must(t, os.Symlink("/proc/self/root"+outside, filepath.Join(dir, "magic")))
				before := snapshot(t, outside)

				err := operations(s)[opName](trap)
				if !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
					t.Errorf("got %v, want ELOOP", err)
				}
				var errno syscall.Errno
				if !errors.As(err, &errno) {
					t.Errorf("no errno in %v", err)
				}
				if after := snapshot(t, outside); !maps.Equal(before, after) {
					t.Errorf("the outside changed: %v, was %v", after, before)
				}
			})
		}
	}
}

// TestSymlinkAsTheLastName: nothing looks through it, and what it points to stays.
func TestSymlinkAsTheLastName(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	before := snapshot(t, outside)
	itself := []string{"readlink", "link", "unlink", "rename", "stat", "statsync", "chown", "utimes", "replace"}
	for opName := range operations(nil) {
		for _, target := range []string{secret, filepath.Join(outside, "new"), outside} {
			t.Run(opName+" "+filepath.Base(target), func(t *testing.T) {
				s, dir := open(t)
				put(t, s, "plain", "plain")
				must(t, os.Symlink(target, filepath.Join(dir, "trap")))
				err := operations(s)[opName]("trap")
				if slices.Contains(itself, opName) != (err == nil) {
					t.Errorf("got %v", err)
				}
				if after := snapshot(t, outside); !maps.Equal(before, after) {
					t.Errorf("the outside changed: %v, was %v", after, before)
				}
			})
		}
	}
}

// snapshot describes a directory: names, modes, times, contents.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		fi, err := e.Info()
		must(t, err)
		b, _ := os.ReadFile(filepath.Join(dir, e.Name()))
		out[e.Name()] = fi.Mode().String() + fi.ModTime().String() + string(b)
	}
	return out
}

func TestPathsThatAreNone(t *testing.T) {
	for _, rel := range []string{"..", "../x", "a/../..", "a/..", ".", "./a", "a/.", "/", "/etc/passwd", "a//b", "a/", "a\x00b", "/proc/self/root"} {
		s, _ := open(t)
		put(t, s, "plain", "plain")
		must(t, s.Mkdir("a", 0o755))
		for opName, op := range operations(s) {
			if err := op(rel); !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s %q: got %v, want EINVAL", opName, rel, err)
			}
		}
		if err := s.Rename("plain", rel, 0); !errors.Is(err, unix.EINVAL) {
			t.Errorf("rename to %q: got %v", rel, err)
		}
	}
}

func TestErrorsSpeakOfPathAndCause(t *testing.T) {
	s, _ := open(t)
	for opName, op := range operations(s) {
		switch opName {
		case "create", "truncate", "excl", "mkdir", "mkdirall", "mknod", "symlink", "replace", "lock":
			continue // they would make it
		case "linkto", "renameto", "clone":
			continue // they lack the other file
		}
		err := op("no/such")
		if !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("%s: got %v, want ErrNotExist", opName, err)
			continue
		}
		if !strings.Contains(err.Error(), "no/such") {
			t.Errorf("%s: %q does not name the path", opName, err)
		}
	}
}

func TestRootIsReachable(t *testing.T) {
	s, dir := open(t)
	put(t, s, "a", "")
	st, err := s.Stat("")
	must(t, err)
	fi, err := os.Stat(dir)
	must(t, err)
	if sys := fi.Sys().(*syscall.Stat_t); st.Ino != sys.Ino || !st.IsDir() || st.Dev != sys.Dev {
		t.Errorf("stat of the root: %+v, want inode %d", st, sys.Ino)
	}
	if got := names(t, s, ""); !slices.Equal(got, []string{"a"}) {
		t.Errorf("names of the root: %q", got)
	}
	ns := int64(1e18)
	must(t, s.SyncDir(""))
	must(t, s.Chmod("", 0o711))
	must(t, s.Chown("", -1, -1))
	must(t, s.Utimes("", &ns, &ns))
	if st, _ := s.StatSync(""); st.Mode&0o7777 != 0o711 || st.Mtime != ns {
		t.Errorf("root after chmod and utimes: %+v", st)
	}
	for opName, err := range map[string]error{"rmdir": s.Rmdir(""), "unlink": s.Unlink(""), "mkdir": s.Mkdir("", 0), "rename": s.Rename("", "x", 0)} {
		if err == nil {
			t.Errorf("%s of the root worked", opName)
		}
	}
}

// TestLongPaths goes far below PATH_MAX and does everything there.
func TestLongPaths(t *testing.T) {
	s, _ := open(t)
	name := strings.Repeat("n", 255)
	deep := name
	for len(deep) < 3*4096 {
		deep += "/" + name
	}
	// One path on each side of the border, and on it.
	for _, length := range []int{4094, 4095, 4096, 4097, 8190, 8191, 8192, len(deep)} {
		dir := strings.TrimSuffix(deep[:length], "/")
		must(t, s.MkdirAll(dir, 0o755))
		put(t, s, dir+"/file", "deep")
		if got := get(t, s, dir+"/file"); got != "deep" {
			t.Errorf("at %d bytes: read %q", length, got)
		}
		must(t, s.Rename(dir+"/file", dir+"/other", share.NoReplace))
		must(t, s.Link(dir+"/other", "near"))
		must(t, s.Chmod(dir+"/other", 0o600))
		if st, err := s.Stat(dir + "/other"); err != nil || st.Size != 4 || st.Nlink != 2 || st.Mode&0o777 != 0o600 {
			t.Errorf("at %d bytes: %+v, %v", length, st, err)
		}
		must(t, s.SyncDir(dir))
		must(t, s.Unlink("near"))
		must(t, s.Unlink(dir+"/other"))
	}
	if err := s.Mkdir(strings.Repeat("n", 256), 0o755); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a name of 256 bytes: %v", err)
	}
	must(t, s.Mkdir(share.Private, 0o700))
	must(t, s.Rename(name, share.Private+"/x", 0))
	must(t, s.RemoveAll(share.Private+"/x"))
	if got := names(t, s, ""); !slices.Equal(got, []string{share.Private}) {
		t.Errorf("left over: %d names", len(got))
	}
}

func TestNamesOfAnyBytes(t *testing.T) {
	s, _ := open(t)
	var want []string
	for i := 1; i < 256; i++ {
		if i != '/' {
			want = append(want, "x"+string([]byte{byte(i)}))
		}
	}
	want = append(want, strings.Repeat("\xff", 255), "...", " ", "größe")
	for _, name := range want {
		put(t, s, name, name)
	}
	slices.Sort(want)
	if got := names(t, s, ""); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for _, name := range want {
		if got := get(t, s, name); got != name {
			t.Errorf("%q has %q", name, got)
		}
	}
}

func TestOpenRefusesWhatShareCannotBe(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, bad := range []string{filepath.Join(dir, "none"), file, ""} {
		if s, err := share.Open(bad, share.Options{}); err == nil {
			s.Close()
			t.Errorf("Open(%q) worked", bad)
		}
	}
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(dir, link))
	s, err := share.Open(link, share.Options{})
	must(t, err)
	must(t, s.Close())
}

func TestFaultSeam(t *testing.T) {
	var asked []string
	broken := errors.New("broken")
	s, dir := openWith(t, share.Options{Fault: func(op, tag, rel string) error {
		asked = append(asked, tag+":"+op+":"+rel)
		if tag == "COMMIT" && op == "rename" {
			return broken
		}
		if op == "unlink" {
			return unix.EIO
		}
		return nil
	}})
	put(t, s, "a", "")
	if err := s.Tag("COMMIT").Rename("a", "b", 0); !errors.Is(err, broken) {
		t.Errorf("tagged rename: %v", err)
	}
	if err := s.Rename("a", "b", 0); err != nil {
		t.Errorf("other rename: %v", err)
	}
	var errno syscall.Errno
	if err := s.Unlink("b"); !errors.As(err, &errno) || errno != unix.EIO {
		t.Errorf("unlink: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "b")); err != nil {
		t.Errorf("the broken unlink removed it: %v", err)
	}
	want := []string{":open:a", "COMMIT:rename:a", ":rename:a", ":unlink:b"}
	if !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

// Every operation has its seam.
func TestEveryOperationAsks(t *testing.T) {
	broken := errors.New("broken")
	on := false
	s, _ := openWith(t, share.Options{Fault: func(string, string, string) error {
		if on {
			return broken
		}
		return nil
	}})
	put(t, s, "plain", "")
	on = true
	for opName, op := range operations(s) {
		if err := op("x"); !errors.Is(err, broken) {
			t.Errorf("%s: %v", opName, err)
		}
	}
	if _, err := s.Statfs(); !errors.Is(err, broken) {
		t.Errorf("statfs: %v", err)
	}
}
