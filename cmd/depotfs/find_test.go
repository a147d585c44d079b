package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeMounts is a system whose mount table is text.
func fakeMounts(text string) *system {
	return &system{
		out: io.Discard, err: io.Discard, lookupEnv: noEnv, environ: func() []string { return nil },
		mountinfo: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	}
}

const rootLine = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"

func TestFindMount(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"one", "two", "one-more", "with space", "plain"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": dir + "/one", "rel": "two/..", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	line := func(root, at, fstype, source string) string {
		return "30 22 0:50 " + root + " " + strings.ReplaceAll(dir+at, " ", `\040`) + " rw,nosuid - " + fstype + " " + source + " rw\n"
	}
	one := line("/", "/one", fsType, "depotfs:/state/one")
	two := line("/", "/two", fsType, `depotfs:/state/with\040space`)
	for _, tt := range []struct {
		name, table, path string
		mountpoint, rel   string
		state             string
		wantErr           string
	}{
		{name: "mount point", table: one, path: "/one", mountpoint: "/one"},
		{name: "below it, not there", table: one, path: "/one/a/b", mountpoint: "/one", rel: "a/b"},
		{name: "unclean", table: one, path: "/one//a/./b/../c/", mountpoint: "/one", rel: "a/c"},
		{name: "through a symlink", table: one, path: "/link/a", mountpoint: "/one", rel: "a"},
		{name: "symlink and dots", table: one + two, path: "/rel/two/x", mountpoint: "/two", rel: "x", state: "/state/with space"},
		{name: "a space in the mount point", table: line("/", "/with space", fsType, "depotfs:/s"), path: "/with space/f", mountpoint: "/with space", rel: "f"},
		{name: "bind mount of a part", table: one + line("/sub/dir", "/plain", fsType, "depotfs:/state/one"), path: "/plain/f", mountpoint: "/plain", rel: "sub/dir/f"},
		{name: "longest wins", table: one + line("/", "/one/inner", fsType, "depotfs:/state/inner"), path: "/one/inner/f", mountpoint: "/one/inner", rel: "f", state: "/state/inner"},
		{name: "something else on top", table: one + line("/", "/one/tmp", "tmpfs", "none"), path: "/one/tmp/f", wantErr: "is not inside a depotfs mount; mounted: " + dir + "/one"},
		{name: "same prefix, other name", table: one, path: "/one-more", wantErr: "is not inside a depotfs mount"},
		{name: "dots lead out", table: one, path: "/one/../plain", wantErr: "is not inside a depotfs mount"},
		{name: "another's fuse", table: line("/", "/one", "fuse.sshfs", "depotfs:/x"), path: "/one/f", wantErr: "no such file"},
		{name: "outside, nothing mounted", path: "/plain", wantErr: "nothing is mounted"},
		{name: "outside and missing", table: one, path: "/nowhere/f", wantErr: "no such file or directory"},
		{name: "a loop of symlinks", table: one, path: "/loop", wantErr: "too many symlinks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mounts, err := fakeMounts(rootLine + tt.table).mounts()
			if err != nil {
				t.Fatal(err)
			}
			got, err := mounts.target(dir + tt.path)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("got %+v, %v; want ...%s...", got, err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.mount.Mountpoint != dir+tt.mountpoint || got.path != tt.rel {
				t.Errorf("got %q in %q, want %q in %q", got.path, got.mount.Mountpoint, tt.rel, dir+tt.mountpoint)
			}
			if tt.state != "" && got.mount.StateDir != tt.state {
				t.Errorf("state directory %q, want %q", got.mount.StateDir, tt.state)
			}
		})
	}
}

func TestRelativePathIsFoundFromHere(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	mounts, err := fakeMounts(rootLine + "30 22 0:50 / " + dir + " rw - " + fsType + " depotfs:/s rw\n").mounts()
	if err != nil {
		t.Fatal(err)
	}
	got, err := mounts.target("a/b")
	if err != nil || got.path != "a/b" {
		t.Errorf("got %q, %v", got.path, err)
	}
}

func TestNoPathMeansTheOnlyMount(t *testing.T) {
	one := "30 22 0:50 / /m/one rw - " + fsType + " depotfs:/s/one rw\n"
	bind := "31 22 0:50 /x /m/bind rw - " + fsType + " depotfs:/s/one rw\n"
	two := "32 22 0:51 / /m/two rw - " + fsType + " depotfs:/s/two rw\n"
	for _, tt := range []struct{ name, table, want, wantErr string }{
		{name: "none", wantErr: "nothing is mounted"},
		{name: "one", table: one, want: "/m/one"},
		{name: "one and its bind mount", table: one + bind, want: "/m/one"},
		{name: "two", table: one + two, wantErr: "there are several mounts, name one: /m/one, /m/two"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mounts, err := fakeMounts(rootLine + tt.table).mounts()
			if err != nil {
				t.Fatal(err)
			}
			got, err := mounts.target("")
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got %v, want ...%s...", err, tt.wantErr)
				}
				return
			}
			if err != nil || got.mount.Mountpoint != tt.want {
				t.Errorf("got %q, %v; want %q", got.mount.Mountpoint, err, tt.want)
			}
		})
	}
}

func TestStandingInOneOfSeveralMounts(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	mounts, err := fakeMounts(rootLine +
		"30 22 0:50 / /m/one rw - " + fsType + " depotfs:/s/one rw\n" +
		"31 22 0:51 / " + dir + " rw - " + fsType + " depotfs:/s/here rw\n").mounts()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := mounts.target(""); err != nil || got.mount.Mountpoint != dir || got.path != "" {
		t.Errorf("got %+v, %v; want the mount that we stand in", got, err)
	}
}
