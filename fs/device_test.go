package fs

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A mount has the same device number each time, whatever was mounted or unmounted
// in between: handles of an NFS server in user space hold it.
func TestDeviceNumberStays(t *testing.T) {
	needRoot(t)
	device := func(m string) uint64 {
		var st unix.Stat_t
		if err := unix.Stat(m, &st); err != nil {
			t.Fatal(err)
		}
		return st.Dev
	}
	l := newLoopback(t)
	l.epoch = uint64(os.Getpid()) // other tests of this machine mount too, at the same time
	first := mount(t, l, Options{})
	want := device(first.dir)
	if unix.Minor(want) < deviceFor(l.epoch) {
		t.Errorf("minor number %d, want at least %d", unix.Minor(want), deviceFor(l.epoch))
	}
	if err := first.Unmount(); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	for range 3 { // would take the lowest numbers
		dir := t.TempDir()
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	}
	again := mount(t, l, Options{})
	if got := device(again.dir); got != want {
		t.Errorf("device number %#x after mounting again, want %#x", got, want)
	}
}
