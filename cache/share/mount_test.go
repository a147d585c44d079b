package share_test

import (
	"errors"
	iofs "io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"depotfs/cache/share"
)

func TestMountWarnings(t *testing.T) {
	const head = `36 35 0:50 /export /mnt/sec\040storage rw,relatime shared:5 master:1 - `
	for _, tt := range []struct {
		name, rest string
		want       []string // parts of one warning each, in order
	}{
		{"ext4", "ext4 /dev/sda1 rw,discard", nil},
		{"NFS as it should be", "nfs4 srv:/export rw,vers=4.2,hard,acregmax=60,local_lock=none,addr=10.0.0.1", nil},
		{"NFS at its worst", "nfs srv:/export rw,vers=3,soft,nocto,acregmax=600,acdirmax=3600,nolock,local_lock=all",
			[]string{"nocto", "acregmax=600", "acdirmax=3600", "soft", "local_lock=all"}},
		{"softerr", "nfs4 srv:/ rw,softerr", []string{"softerr"}},
		{"CIFS", "cifs //srv/x rw,cache=loose,soft,noserverino,nobrl,nostrictsync,actimeo=3600",
			[]string{"cache=loose", "actimeo=3600", "soft", "noserverino", "nobrl", "nostrictsync"}},
		{"CIFS as it should be", "cifs //srv/x rw,cache=strict,serverino,hard,actimeo=1", nil},
		{"9p", "9p share rw,cache=loose,trans=virtio", []string{"cache=loose"}},
		{"9p as it should be", "9p share rw,trans=virtio", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := share.MountWarningsOf(head+tt.rest, "36")
			if !ok || len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i, w := range got {
				if !strings.HasPrefix(w, "/mnt/sec storage is mounted with "+tt.want[i]+": ") || !strings.Contains(w, "; mount with") {
					t.Errorf("got %q, want one of %s that says what to do", w, tt.want[i])
				}
			}
		})
	}
	for _, line := range []string{"", "36", "36 35 0:50 / /mnt rw", "36 35 0:50 / /mnt rw - nfs", "37 35 0:50 / /mnt rw - nfs x rw"} {
		if got, ok := share.MountWarningsOf(line, "36"); ok {
			t.Errorf("%q: %q", line, got)
		}
	}
}

func TestOwnMountIsFound(t *testing.T) {
	s, _ := open(t)
	if got := s.MountWarnings(); s.IsNetwork() == false && len(got) != 0 {
		t.Errorf("a local file system: %q", got)
	}
}

func TestRenameWithoutFlags(t *testing.T) {
	s, _ := open(t)
	put(t, s, "a", "a")
	put(t, s, "b", "b")
	must(t, s.Mkdir("d", 0o755))
	must(t, s.Mkdir("empty", 0o755))
	must(t, s.Symlink("x", "l"))
	for _, tt := range []struct{ from, to string }{{"a", "b"}, {"d", "empty"}, {"d", "b"}, {"a", "d"}, {"l", "a"}} {
		if err := s.RenameWithoutFlags(tt.from, tt.to); !errors.Is(err, iofs.ErrExist) {
			t.Errorf("%s over %s: %v", tt.from, tt.to, err)
		}
	}
	must(t, s.RenameWithoutFlags("a", "d/a"))
	must(t, s.RenameWithoutFlags("l", "d/l"))
	must(t, s.RenameWithoutFlags("d", "e"))
	if got := get(t, s, "e/a"); got != "a" {
		t.Errorf("content %q", got)
	}
	if got, err := s.Readlink("e/l"); err != nil || got != "x" {
		t.Errorf("symlink %q %v", got, err)
	}
	if err := s.RenameWithoutFlags("none", "x"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("nothing: %v", err)
	}
}
