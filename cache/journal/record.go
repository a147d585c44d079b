package journal

// Op is what happened to a name.
type Op string

const (
	Put     Op = "put"     // Path is a regular file: the version under Key, with its attributes
	Mkdir   Op = "mkdir"   // Path is a directory, with its attributes
	Symlink Op = "symlink" // Path is a symbolic link to Target
	Attr    Op = "attr"    // Path has these attributes; its bytes and key are as before
	Delete  Op = "delete"  // Path, no directory, is gone; the version was kept as Trash
	Rmdir   Op = "rmdir"   // the directory Path is gone
	// From, with all that is below it, is Path now; a file or empty directory at Path is gone. Of
	// a file the record says which version is renamed, as a Put or Symlink of Path under the
	// key that it still has; older records do not.
	Rename   Op = "rename"
	Exchange Op = "exchange" // From and Path, with all that is below them, have swapped places
)

// Record is one change of one name. Paths are relative to the mount, without a slash at
// either end, and may hold any bytes but NUL. Times are nanoseconds since 1970 by the
// store's clock.
type Record struct {
	Op   Op
	Path string
	From string // Rename, Exchange: the name before

	// When the change was made: for Put when the version was finished, which may be long
	// before the record. Ties go to the greater Zone.
	Time int64
	Zone string // the zone that made the change, or finished the version

	Key       string // of the object, or of a directory's marker or a link's object
	ETag      string
	VersionID string // where the bucket keeps versions
	Size      int64  // Put: bytes
	CRC64     uint64 // Put: CRC-64/NVME of all bytes
	HasCRC    bool
	Zeros     string // Put: zero map as extent.EncodeZeros writes it; "" = none is known
	Target    string // Symlink
	Trash     string // Delete: key of the copy that is kept; "" = none

	Mode     uint32 // st_mode with type bits; Rename of a directory, Exchange: the type alone of what was From
	Swapped  uint32 // Exchange: the type bits of what was Path
	UID, GID uint32
	Mtime    int64

	// Put, Mkdir: when Mode, UID, GID and Mtime were set, where that was after Time, and by
	// which zone; 0 and "" = with the rest.
	AttrTime int64
	AttrZone string
}

// Later says whether a change made at time t by zone is later than one made at u by other.
func Later(t int64, zone string, u int64, other string) bool {
	if t != u {
		return t > u
	}
	return zone > other
}
