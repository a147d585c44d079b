package share

import (
	"errors"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Statfs is the share's file system as df shows it, in bytes and inodes.
type Statfs struct {
	BlockSize          uint32 // bytes
	Total, Free, Avail int64  // Avail: for others than root
	Files, FilesFree   int64
	NameLen            uint32
	Type               int64 // magic number
}

// Statfs asks the file system.
func (s *Share) Statfs() (Statfs, error) {
	if err := s.check("statfs", ""); err != nil {
		return Statfs{}, err
	}
	var st unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(s.fd, &st) }); err != nil {
		return Statfs{}, &os.PathError{Op: "statfs", Path: s.dir, Err: err}
	}
	unit := int64(st.Frsize)
	if unit == 0 {
		unit = int64(st.Bsize)
	}
	return Statfs{
		BlockSize: uint32(unit), NameLen: uint32(st.Namelen), Type: int64(st.Type),
		Total: bytesOf(st.Blocks, unit), Free: bytesOf(st.Bfree, unit), Avail: bytesOf(st.Bavail, unit),
		Files: bytesOf(st.Files, 1), FilesFree: bytesOf(st.Ffree, 1),
	}, nil
}

// bytesOf is blocks*unit; some file systems claim more than fits.
func bytesOf(blocks uint64, unit int64) int64 {
	if unit <= 0 || blocks > uint64(math.MaxInt64/unit) {
		return math.MaxInt64
	}
	return int64(blocks) * unit
}

// networkTypes are file systems that other machines write to as well. FUSE is
// among them because it may be anything, and waiting too long harms nobody.
var networkTypes = []uint32{
	unix.NFS_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC,
	unix.CEPH_SUPER_MAGIC, unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.OCFS2_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC,
	0x0BD00BD0, // Lustre
	0x01161970, // GFS2
	0x47504653, // GPFS
	0x19830326, // BeeGFS
}

// IsNetwork says whether other machines may see and change the share, so that
// what they do shows here with a delay.
func (s *Share) IsNetwork() bool { return slices.Contains(networkTypes, uint32(s.fsType.Load())) }

// Now reads the share's own clock, in ns since 1970: that of the NFS server where
// it is one, which the times in a Stamp come from.
func (s *Share) Now() (int64, error) {
	now := UtimeNow
	err := s.Utimes(clockPath, nil, &now)
	if errors.Is(err, unix.ENOENT) {
		if err := s.MkdirAll(Private, privateMode); err != nil {
			return 0, err
		}
		f, err := s.OpenFile(clockPath, unix.O_WRONLY|unix.O_CREAT, 0o600)
		if err != nil {
			return 0, err
		}
		if err := f.Close(); err != nil {
			return 0, err
		}
		if err := s.Utimes(clockPath, nil, &now); err != nil {
			return 0, err
		}
	} else if err != nil {
		return 0, err
	}
	st, err := s.StatSync(clockPath)
	return st.Mtime, err
}
