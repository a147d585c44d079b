package catalog

// Ino is a persistent inode number: a FUSE node id, allocated once, never reused.
// 1 is the root directory.
type Ino uint64

// Root is the inode number of the tree's root (FUSE fixes it at 1).
const Root Ino = 1

// State is the durable residency and cleanliness of a regular file.
// Package cache owns the transitions; the catalog only stores it.
type State uint8

// Stamp identifies the content of a file in the share without reading it.
// All times are nanoseconds since 1970. The zero Stamp matches nothing.
type Stamp struct {
	Ino   uint64 // the share's own inode number
	Size  int64
	Mtime int64
	Ctime int64
}

// Version is the identity of one version of a file's bytes.
type Version struct {
	Gen    uint64 // the content generation of the inode that this version has; 0 = none
	Size   int64
	CRC64  uint64 // CRC-64/NVME of all bytes
	HasCRC bool
}

// Object is one key in the depot that holds a version of an inode.
type Object struct {
	Key       string
	ETag      string
	VersionID string
	Gen       uint64 // Version.Gen that the key holds
}

// Link is one name of an inode.
type Link struct {
	Parent Ino
	Name   string
}

// Inode is the durable record of a file, directory, symlink or special file.
type Inode struct {
	Ino    Ino
	Mode   uint32 // type and permission bits as in st_mode
	UID    uint32
	GID    uint32
	Rdev   uint32
	Nlink  uint32 // files: number of Links; directories: 2 + number of subdirectories
	Size   int64
	Blocks int64  // 512-byte units used in the share
	Atime  int64  // ns
	Mtime  int64  // ns
	Ctime  int64  // ns
	Target string // symlinks: what they point to
	Links  []Link // names; a directory has exactly one (the root none), an open unlinked file none

	State     State
	Gen       uint64   // content generation; every dirtying makes a new one
	Stamp     Stamp    // of the share's file when we last knew it
	Base      Version  // the depot's version that the local bytes equal (clean) or derive from
	BaseLimit int64    // of Base's bytes only [0,BaseLimit) are still part of the file (truncation)
	Objects   []Object // keys in the depot that belong to this inode

	Flags      Flags
	DirtySince int64 // ns; first unsent change
	FinishedAt int64 // ns; last change seen, orders uploads within a directory
	KnownAt    int64 // ns by the store's clock: that change is no earlier; 0 = our clock says it
	LastUsed   int64 // ns; last open or read, for eviction

	Zeros string // zero map of Base (see extent.DecodeZeros); "" = none is known

	// MadeAt is when Base was finished (a directory or symlink: made) by the store's clock,
	// in ns, and Origin the zone that did it; 0 and "" = the bucket did not say.
	MadeAt int64
	Origin string
	// MovedAt is when it got its name by a rename, by the store's clock; what is in a directory
	// has its name from then on, too. 0 for what was never renamed.
	MovedAt int64
	// AttrAt is when the attributes were set, where that was after MadeAt, and AttrBy the
	// zone that did it; 0 and "" = they came with the version.
	AttrAt int64
	AttrBy string
}

// Tombstone says that a path was deleted or renamed, so that an older version of it that
// another zone tells of later does not come back, or goes where the rename took the path.
// Files and directories of one name do not know of each other.
type Tombstone struct {
	Path string
	Time int64  // ns by the store's clock; 0 = only a directory was deleted
	Zone string // that deleted or renamed it
	Key  string // of the object that had the path; "" = none
	To   string // the path after the rename; "" = it was deleted

	// Of what this zone renamed: when its version was made, and when it got its attributes,
	// as that was known under this name, and by which zones.
	MadeAt, AttrAt int64
	MadeBy, AttrBy string
	TakenAt        int64 // when the file was last given a version that another zone has told of under this name; 0 = never

	RmdirAt int64  // ns: when a directory of that name was last deleted or renamed; 0 = never
	RmdirBy string // the zone that did it
	RmdirTo string // the path after the rename; "" = it was deleted
}

// Flags are independent facts about an inode.
type Flags uint32

const (
	FlagPinned    Flags = 1 << iota // never evicted
	FlagAttrDirty                   // attributes differ from the object's metadata
	FlagListed                      // directory: the depot's names in it are all known
	FlagHere                        // directory: exists in the share
	FlagAdopted                     // dirty because found in the share: compare with the depot before sending
	FlagNoAttr                      // attributes are guesses until the object's metadata was read
	FlagOrphan                      // no name any more, kept because it was open
	FlagXattrs                      // has, or had, extended attributes: without it DeleteInode looks for none
	FlagUnseen                      // made by others while Base was not here: Base is kept as a conflict before it is replaced
	FlagWriting                     // FlagAdopted, and open for writing with Stamp: another stamp after a crash is newer than the depot's
	FlagForeign                     // without a name: the objects that it is read from are another zone's to remove
	FlagHeld                        // FlagOrphan, and its delete is held: the objects are the HeldDelete's
	FlagOthers                      // this zone's by a rename alone: another one has made the version
	FlagReplaces                    // no zone knows of it, and under its name they have what it was renamed over
)

// Dirent is a name in a directory.
type Dirent struct {
	Parent Ino
	Name   string
	Ino    Ino
	Type   uint32 // S_IFMT bits
	Cookie uint64 // position: unique in the directory, never reused, increasing; > 2
}

// QueueItem says that an inode needs attention: what is to be done follows from its record.
type QueueItem struct {
	Ino       Ino
	Subtree   bool  // directory: look at everything below (after a rename)
	NotBefore int64 // ns
	Since     int64 // ns; when it was first queued
	Attempts  uint32
	LastError string
}

// Removal is an object that no inode owns any more and that is to be deleted.
type Removal struct {
	Key       string
	ETag      string // delete only this version; "" = whatever is there
	Path      string // for people
	Since     int64  // ns
	NotBefore int64  // ns
	Attempts  uint32
	LastError string
	UploadID  string // a multipart upload of the key that is to be aborted too; "" = none
	Version   string // delete only what carries this version mark in its metadata; "" = see ETag
	Replaced  int64  // ns: when that took the place of another zone's version (Upload.Replaced); 0 = never

	Trash string // the key that keeps a copy of the object before it goes; "" = none is kept
	Size  int64  // of the object, where Trash is set; negative = not known
	// What the copy's metadata say where the object's are out of date; Mode 0: they are not.
	Mode, UID, GID uint32
	Mtime          int64 // ns

	Untold bool // no record of a delete has told other zones of Trash

	Former []Removed // what may be under the key instead, and then goes, too; the last is the latest
}

// Removed is one version of several that were to be removed from one key, before the last one
// was known of.
type Removed struct {
	ETag, Trash, Path string
	Size              int64
	Untold            bool
}

// Upload is the durable record of an upload under way. UploadID is "" while it is
// a single PUT, whose answer may get lost.
type Upload struct {
	Ino      Ino
	Key      string
	UploadID string
	PartSize int64
	Size     int64
	Gen      uint64
	Stamp    Stamp
	Created  int64 // ns
	// Replaced is when another zone's version under the key was set aside for this one, in ns
	// by the store's clock; 0 = none was.
	Replaced int64
	// CRC64 is of the whole version, where HasCRC: from before the object is made.
	CRC64  uint64
	HasCRC bool
}

// UploadPart is a part that the store has confirmed.
type UploadPart struct {
	Number int
	Off    int64
	Size   int64
	CRC64  uint64
	ETag   string
}

// Range is a half-open byte range [Off, End).
type Range struct{ Off, End int64 }

// Extents says which bytes of a partial file are in its partial file.
// Both lists are sorted, disjoint and not adjacent.
type Extents struct {
	Here    []Range // valid bytes, durable there
	Written []Range // subset of Here that differs from Base
}

// IntentKind names a change of share and catalog that must happen in both or neither.
type IntentKind uint8

const (
	IntentRename   IntentKind = 1 + iota // From -> To in the share
	IntentUnlink                         // From is removed from the share
	IntentPromote                        // partial file From becomes To
	IntentEvict                          // From goes to To (.depotfs/evict/…) and away
	IntentExchange                       // From and To swap places
	IntentOrphan                         // From goes to To (.depotfs/open/…): unlinked while open
)

// Intent is written durably enough to survive a kill before the share is touched.
type Intent struct {
	Seq       uint64 // assigned by PutIntent
	Kind      IntentKind
	Ino       Ino
	From, To  string // share-relative paths
	Victim    Ino    // inode that To named before a rename over it; 0 = none
	NewParent Ino
	NewName   string
	OldParent Ino
	OldName   string
	ShareIno  uint64 // the share's inode number of From, to tell done from not done
	Time      int64
	Zone      string // not of this zone's users, but of another zone, which did it at Time; "" = ours
	Remade    bool   // Zone only: From is named by the rename itself, not by that of a directory above
}
