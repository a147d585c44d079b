package share

import (
	"strconv"
	"time"
)

// Private is depotfs's own directory in the share, never shown in the mount.
const Private = ".depotfs"

// Places below Private.
const (
	MarkerPath = Private + "/depot.json"
	LockPath   = Private + "/lock"
	PartialDir = Private + "/partial"
	OpenDir    = Private + "/open"
	EvictDir   = Private + "/evict"
	CleanDir   = Private + "/clean"

	// ConflictDir has the losers of conflicts that could only be kept here.
	ConflictDir = Private + "/conflicts"

	clockPath = Private + "/clock"
)

// privateMode keeps out whoever else mounts the share, except root.
const privateMode = 0o700

// MakePrivate makes the directories below Private that are missing.
func (s *Share) MakePrivate() error {
	for _, dir := range []string{PartialDir, OpenDir, EvictDir, CleanDir} {
		if err := s.MkdirAll(dir, privateMode); err != nil {
			return err
		}
	}
	return nil
}

// PartialPath is where the bytes of an incomplete file are.
func PartialPath(ino uint64) string { return PartialDir + "/" + decimal(ino) }

// SidecarSuffix makes the name of a partial file that of its Sidecar.
const SidecarSuffix = ".log"

// SidecarPath is where its Sidecar is.
func SidecarPath(ino uint64) string { return PartialPath(ino) + SidecarSuffix }

// OpenPath is where an unlinked file stays until its last release.
func OpenPath(ino uint64) string { return OpenDir + "/" + decimal(ino) }

// EvictPath is where a file waits that is being evicted.
func EvictPath(ino uint64) string { return EvictDir + "/" + decimal(ino) }

// ConflictPath is where a file goes that others put in the way of one of ours.
func ConflictPath(now time.Time, rel string) string {
	return ConflictDir + "/" + now.UTC().Format("20060102T150405.000000000Z") + "/" + rel
}

func decimal(ino uint64) string { return strconv.FormatUint(ino, 10) }
