package fs

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An NFS server in user space (nfs-ganesha) tells the file systems it exports apart
// by their device numbers, and puts the number into every handle. The kernel gives a
// FUSE mount the lowest number that is free, so another one after most restarts, and
// all handles of all clients would be stale. A mount of ours therefore asks for a
// number that follows from the catalog's epoch, beyond those that other mounts
// get. There is no call for that: the numbers below it are kept occupied, by empty
// file systems that are mounted nowhere, while the mount is made.

const (
	firstDevice = 256 // few machines have so many mounts without a block device
	deviceRange = 256 // so that the mounts of one machine seldom want the same
)

// deviceFor is the minor number that the mount of a catalog should have.
func deviceFor(epoch uint64) uint32 { return uint32(firstDevice + epoch%deviceRange) }

// holdDevices occupies the free numbers below want until release is called. Where
// that cannot be done (it takes root), or want is taken, the kernel's choice stands.
func holdDevices(want uint32) (release func()) {
	var held []int
	release = func() {}
	if os.Geteuid() != 0 {
		return release
	}
	unlock := lockDevices()
	release = func() {
		for _, fd := range held {
			unix.Close(fd)
		}
		unlock()
	}
	for range firstDevice + deviceRange {
		fd, minor, err := emptyFileSystem()
		if err != nil {
			return release
		}
		if minor >= want {
			unix.Close(fd) // the next mount gets this number
			return release
		}
		held = append(held, fd)
	}
	return release
}

// lockDevices keeps other mounts of ours from taking numbers meanwhile, for as long
// as holding them takes. Without the lock it goes on: at worst the number is another.
func lockDevices() (unlock func()) {
	f, err := os.Open("/dev/fuse")
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
	}
	return func() { f.Close() }
}

// emptyFileSystem makes a file system that is mounted nowhere and lives as long as
// the descriptor, and tells its minor device number.
func emptyFileSystem() (fd int, minor uint32, err error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, 0, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, 0, err
	}
	if fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0); err != nil {
		return -1, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, unix.Minor(st.Dev), nil
}
