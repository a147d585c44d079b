package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a user may not do in a plain directory he may not do in the mount, and
// what he makes is his.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	z := newZone(t, on(newDepot(t)))
	plain := t.TempDir()
	for _, dir := range []string{plain, filepath.Dir(plain)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const script = `
umask 022
say() { "$@" 2>/dev/null; echo "$1 $2: $?"; }
cd "$1" || exit 1
say cat secret
say cat public
say touch public
say touch closed/new
say mkdir open/mine
say touch open/mine/file
say rm public
say rm open/theirs
say mv open/theirs open/mine/theirs
say chmod 777 public
say chown 4242 open/mine
say chgrp 1 open/mine/file
say ln public open/hard
say ln -s ../secret open/soft
say cat open/soft
say ls closed
say ls hidden
say cat hidden/file
say mkfifo open/fifo
say truncate -s 3 public
say truncate -s 3 open/mine/file
say touch -d 2001-01-01 public
say touch -d 2001-01-01 open/mine/file
say test -w public
say test -r secret
say mkdir setgid/sub
say touch setgid/file
stat -c '%n %a %u %g %s %F' open open/mine open/mine/file open/soft setgid/sub setgid/file | sort
`
	results := map[string]string{}
	for _, dir := range []string{plain, z.mnt} {
		for name, mode := range map[string]os.FileMode{"open": 0o777 | os.ModeSticky, "closed": 0o755, "hidden": 0o711, "setgid": 0o777 | os.ModeSetgid} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
			if name == "setgid" {
				if err := unix.Chown(filepath.Join(dir, name), 0, 77); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		for name, mode := range map[string]os.FileMode{"secret": 0o600, "public": 0o644, "open/theirs": 0o644, "hidden/file": 0o644} {
			path := filepath.Join(dir, name)
			put(t, path, []byte("text"))
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("/bin/sh", "-c", script, "sh", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: 4243}}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("in %s: %v\n%s", dir, err, out)
		}
		results[dir] = string(out)
	}
	compareTranscripts(t, strings.Split(results[z.mnt], "\n"), strings.Split(results[plain], "\n"))
}

// df is policy: with a store it shows the depot, without one the disk.
func TestStatfs(t *testing.T) {
	t.Parallel()
	size := func(z *zone) (total, free int64) {
		var st unix.Statfs_t
		if err := unix.Statfs(z.mnt, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize
	}
	withStore := newZone(t, on(newDepot(t)), with("--capacity", "100GiB"))
	if total, free := size(withStore); total != 100<<30 || free > total || free < 99<<30 {
		t.Errorf("with a store of 100 GiB df shows %d, %d free", total, free)
	}
	put(t, withStore.path("volumes/1/big"), bytesOf(1, 64<<20))
	eventually(t, 10*time.Second, func() error { // the kernel tells of a close late
		if total, free := size(withStore); total-free < 64<<20 || total-free > 65<<20 {
			return fmt.Errorf("after 64 MiB were written df shows %d used", total-free)
		}
		return nil
	})
	off := newZone(t)
	var disk unix.Statfs_t
	if err := unix.Statfs(off.share, &disk); err != nil {
		t.Fatal(err)
	}
	if total, _ := size(off); total != int64(disk.Blocks)*disk.Bsize {
		t.Errorf("without a store df shows %d, the disk has %d", total, int64(disk.Blocks)*disk.Bsize)
	}
}
