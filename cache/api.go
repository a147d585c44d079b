package cache

import (
	"context"
	"log/slog"
	"os"
	"time"

	"depotfs/cache/catalog"
	"depotfs/cache/layout"
)

// Ino is an inode number of the catalog and the FUSE node id of the same file.
type Ino = catalog.Ino

// Config is everything the heart needs to know; cmd composes it.
type Config struct {
	CacheDir     string // the share
	StateDir     string // local disk: catalog, control socket
	Zone         string
	Version      string // of this program, for people
	Prefix       string // of the depot in the bucket: "" or ends in "/"
	DepotRegion  string // CloudStack region name, checked against the depot's
	Deploy       Deploy
	CacheSize    int64          // bytes of resident clean data kept at most; 0 = no limit
	ShareDeletes ShareDeletes   // what a file that vanished from the share means; "": by Deploy
	ScanInterval time.Duration  // between looks at what was used within a day; 0: 60 s
	ScanFull     time.Duration  // for one look at everything; 0: 6 h
	PollInterval time.Duration  // between looks at what other zones did; longer while nothing happens (up to 10 s); 0: 2 s
	ListInterval time.Duration  // between listings of the whole depot, for what other tools did there; 0: 24 h
	MinFree      int64          // bytes of the share's file system that stay free; 0 = none
	Capacity     int64          // bytes that statfs reports while the store is on; 0 = 1 PiB
	Rules        layout.Rules   // nil: the default classes
	Settle       *time.Duration // overrides the settle time of every class; nil: the classes decide
	Brake        *Brake         // on bursts of deletes of what other zones made; nil: DefaultBrake
	Limits       Limits
	// TrashRetention is for how long deleted versions are kept in the depot; 0: 7 days,
	// negative: they are not.
	TrashRetention time.Duration
	Log            *slog.Logger
	Notify         Notifier // may be nil; kernel caches
	// ShareFault, in tests, is asked before every operation on the share; see share.Options.
	ShareFault func(op, tag, rel string) error
	// Now is the clock, for tests; nil: time.Now.
	Now func() time.Time
}

// Deploy is how the mount is used: see DESIGN section 1.
type Deploy string

const (
	Gateway Deploy = "gateway" // the mount is what everybody uses
	Beside  Deploy = "beside"  // hypervisors use the share directly
)

// Limits bound the transfers.
type Limits struct {
	UploadFiles  int           // files uploaded at once (default 4)
	UploadParts  int           // parts in flight over all files (default 8)
	Fetches      int           // ranged GETs in flight (default 32)
	PartSize     int64         // smallest part (default 16 MiB); grows so that 10,000 parts suffice
	SmallestPart int64         // what the store takes as a part that is not the last (default 5 MiB, as S3)
	CompareRate  int64         // bytes per second read to compare files of the share with the depot (default 100 MiB, negative: no limit)
	ColdTimeout  time.Duration // a read retries the store for at most this long (default 20 s)
	MaxDirtyAge  time.Duration // a file with a writer open for longer shows as busy (default 1 h)
	OrderTimeout time.Duration // a stuck upload holds back later ones of its directory at most this long (default 10 min)
}

// Notifier tells the kernel what changed behind it. Calls must not block and
// must not be answered from within a call of the Cache.
type Notifier interface {
	EntryChanged(parent Ino, name string) // the name means something else now
	InodeChanged(ino Ino)                 // attributes and cached pages are out of date
}

// Attr is what stat shows. Times are nanoseconds since 1970.
type Attr struct {
	Ino                 Ino
	Mode                uint32 // type and permissions
	Nlink               uint32
	UID, GID            uint32
	Rdev                uint32
	Size                int64
	Blocks              int64 // 512-byte units
	Atime, Mtime, Ctime int64
}

// SetAttr lists the attributes to change; Valid says which are set.
type SetAttr struct {
	Valid        SetValid
	Mode         uint32 // permission bits
	UID, GID     uint32
	Size         int64
	Atime, Mtime int64 // ns; ignored where the *Now bit is set
}

// SetValid is a set of the fields of SetAttr.
type SetValid uint32

const (
	SetMode SetValid = 1 << iota
	SetUID
	SetGID
	SetSize
	SetAtime
	SetMtime
	SetAtimeNow
	SetMtimeNow
)

// Owner is who makes a new file.
type Owner struct{ UID, GID uint32 }

// DirEntry is one name of a listing.
type DirEntry struct {
	Name   string
	Ino    Ino
	Type   uint32 // S_IFMT bits
	Cookie uint64 // resume after this entry
}

// RenameFlags are those of renameat2.
type RenameFlags uint32

const (
	RenameNoReplace RenameFlags = 1 << 0
	RenameExchange  RenameFlags = 1 << 1
)

// Statfs is the file system as df shows it, in bytes and inodes.
type Statfs struct {
	BlockSize          uint32
	Total, Free, Avail int64
	Files, FilesFree   int64
	NameLen            uint32
}

// The kernel's door (package fs) uses these:
//
//	Epoch() uint64                                             generation of every inode
//	Lookup(ctx, parent, name) (Attr, error)                    iofs.ErrNotExist when there is none
//	Attr(ctx, ino) (Attr, error)                               ErrStale for unknown numbers
//	Parent(ctx, ino) (Attr, error)                             for ".."
//	SetAttr(ctx, ino, h *Handle, SetAttr) (Attr, error)        h may be nil
//	OpenDir(ctx, ino) error                                    notices what others changed in the share
//	ReadDir(ctx, ino, cookie uint64, fn func(DirEntry) bool) error   from after cookie (0 = start), until fn is false; without . and ..
//	ReadDirPlus(ctx, ino, cookie, fn func(DirEntry, Attr) bool) error
//	SyncDir(ctx, ino) error
//	Create(ctx, Owner, parent, name, mode, flags) (Attr, *Handle, error)
//	Mknod(ctx, Owner, parent, name, mode, rdev) (Attr, error)
//	Mkdir(ctx, Owner, parent, name, mode) (Attr, error)
//	Symlink(ctx, Owner, parent, name, target) (Attr, error)
//	Readlink(ctx, ino) (string, error)
//	Link(ctx, ino, parent, name) (Attr, error)
//	Unlink(ctx, parent, name) error
//	Rmdir(ctx, parent, name) error
//	Rename(ctx, oldParent, oldName, newParent, newName, RenameFlags) error
//	Open(ctx, ino, flags) (*Handle, error)                     flags: O_ACCMODE, O_TRUNC count
//	Tmpfile(ctx, Owner, parent, mode, flags) (Attr, *Handle, error)
//	GetXattr(ctx, ino, name) ([]byte, error)  SetXattr(ctx, ino, name, value, flags)  ListXattr(ctx, ino) ([]string, error)  RemoveXattr(ctx, ino, name)
//	Statfs(ctx) (Statfs, error)
//	CloseMatters() bool                                        whether Handle.Flush can do anything
//
// And of a *Handle:
//
//	Ino() Ino
//	Backing() (f *os.File, resident bool)   the one backing file of the inode while any handle is open; resident: all bytes are in it and stay
//	ReadAt(ctx, p, off) (int, error)        io.EOF only at the end of the file; never short before it
//	WriteAt(ctx, p, off) (int, error)
//	Sync(ctx, dataOnly bool) error
//	Flush(ctx) error
//	Release()
//	Allocate(ctx, off, length, mode) error  Seek(ctx, off, whence) (int64, error)
//	CopyRange(ctx, off, dst *Handle, dstOff, length) (int64, error)

// Status is what `depotfs status` shows; its JSON is a documented, stable format.
type Status struct {
	Zone        string         `json:"zone"`
	Version     string         `json:"version"`
	CacheDir    string         `json:"cache_dir"`
	StateDir    string         `json:"state_dir"`
	Deploy      Deploy         `json:"deploy"`
	Since       time.Time      `json:"since"`
	Mountpoint  string         `json:"mountpoint"`
	Passthrough bool           `json:"passthrough"`
	Store       StoreStatus    `json:"store"`
	Pending     PendingStatus  `json:"pending"`
	Limits      LimitStatus    `json:"limits"`
	Shared      SharedStatus   `json:"shared_settings"` // the caller's to fill in
	Zones       ZonesStatus    `json:"zones"`
	Events      EventStatus    `json:"events"` // the caller's to fill in
	Adoption    AdoptionStatus `json:"adoption"`
	Cache       CacheStatus    `json:"cache"`
	Deletes     DeleteStatus   `json:"deletes"`
	Trash       TrashStatus    `json:"trash"`
	Conflicts   HeldStatus     `json:"conflicts"`
	Problems    []Problem      `json:"problems"` // what waits, fails, is held, busy or in conflict; bounded to 100
}

// SharedStatus is what came of the settings that were announced to all zones.
type SharedStatus struct {
	Seq     uint64    `json:"seq"`            // of the last announcement; 0: there is none
	Zone    string    `json:"zone,omitempty"` // who made it
	At      time.Time `json:"at,omitzero"`    // when
	Applied uint64    `json:"applied_seq"`    // of the last one that counts here
	Error   string    `json:"error,omitempty"`
}

// EventStatus is what came of event notifications of the store.
type EventStatus struct {
	Listen   string    `json:"listen"`   // the address where they are received; "": nowhere
	Received int64     `json:"received"` // requests that were taken
	Woken    int64     `json:"woken"`    // of these, which told of a batch of another zone
	Refused  int64     `json:"refused"`  // requests with a wrong secret, or none
	Invalid  int64     `json:"invalid"`  // requests that were too large, or no notification
	Last     time.Time `json:"last,omitzero"`
	Error    string    `json:"error,omitempty"` // why nothing is received any more
}

// StoreStatus is the cloud's side of Status.
type StoreStatus struct {
	State    string `json:"state"`            // off, connecting, on, unavailable, refused
	Reason   string `json:"reason,omitempty"` // why it is off
	Error    string `json:"error,omitempty"`
	Bucket   string `json:"bucket,omitempty"`
	Prefix   string `json:"prefix,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	DepotID  string `json:"depot_id,omitempty"`
	Listing  string `json:"listing"` // done, running, waiting
	StoreUsage
	Capabilities Capabilities `json:"capabilities"`
}

// PendingStatus says what the depot does not have yet.
type PendingStatus struct {
	Files         int64      `json:"files"`
	Bytes         int64      `json:"bytes"`
	Moves         int64      `json:"moves"`
	Removals      int64      `json:"removals"`
	Records       int64      `json:"records"` // changes that other zones were not told yet
	OldestSeconds float64    `json:"oldest_seconds"`
	Uploading     []Transfer `json:"uploading"`
}

// LimitStatus is how much is moved at once and how fast, at most.
type LimitStatus struct {
	Transfers
	Upload   int64 `json:"upload_limit"`   // bytes per second; 0: none
	Download int64 `json:"download_limit"` // bytes per second; 0: none
}

// Transfer is one file on its way.
type Transfer struct {
	Path  string `json:"path"`
	Done  int64  `json:"done_bytes"`
	Total int64  `json:"total_bytes"`
}

// AdoptionStatus says how far the share, where it had files before depotfs came, is
// known and compared with the depot. Its numbers count from when the state directory
// was made; those of the last moments before a kill may be missing.
type AdoptionStatus struct {
	State         string `json:"state"`          // running: directories are to be looked through; done
	DirsDone      int64  `json:"dirs_done"`      // looked through
	DirsLeft      int64  `json:"dirs_left"`      // found, and not looked through yet
	Files         int64  `json:"files"`          // found
	Bytes         int64  `json:"bytes"`          // of these
	Compared      int64  `json:"compared"`       // files of which it is known what the depot has
	Same          int64  `json:"same"`           // of these: the depot had the bytes
	Uploaded      int64  `json:"uploaded"`       // the depot had nothing
	Conflicts     int64  `json:"conflicts"`      // the depot had other bytes, and ours are kept aside
	Comparing     int64  `json:"comparing"`      // files that wait to be read, since the depot has some of their size
	ComparedBytes int64  `json:"compared_bytes"` // read to compare
}

// CacheStatus is the local side of Status.
type CacheStatus struct {
	Files              int64       `json:"files"` // regular files known
	Dirs               int64       `json:"dirs"`
	Resident           int64       `json:"resident_files"`
	Partial            int64       `json:"partial_files"`
	Remote             int64       `json:"remote_files"`
	OpenFiles          int64       `json:"open_files"`
	Bytes              int64       `json:"resident_bytes"`
	Fetching           []Transfer  `json:"fetching"`
	Refetched          FetchCounts `json:"refetched"`
	OldestCheckSeconds float64     `json:"oldest_check_seconds"` // since when everything in the share was looked at
	Unshowable         int64       `json:"unshowable_objects"`   // objects whose keys are no valid names
	ReadHits           int64       `json:"read_hits"`            // reads of files that were not whole: answered from what was here
	ReadMisses         int64       `json:"read_misses"`          // waited for the store
}

// Problem is something that a person may have to look at.
type Problem struct {
	Path     string    `json:"path"`
	Kind     string    `json:"kind"` // upload, fetch, remove, busy, conflict, import, share, lost, no-space, held
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"`
}

// FileStatus is what `depotfs stat` shows of one file.
type FileStatus struct {
	Path      string    `json:"path"` // below the mount point
	Ino       Ino       `json:"ino"`
	Type      string    `json:"type"` // file, dir, symlink, other
	Class     string    `json:"class"`
	State     string    `json:"state"` // remote, partial, clean, dirty, uploading, conflict
	Size      int64     `json:"size"`
	Here      int64     `json:"bytes_here"`
	Pending   int64     `json:"bytes_pending"`
	Open      int       `json:"open_handles"`
	Writers   int       `json:"open_writers"`
	Pinned    bool      `json:"pinned"`
	Key       string    `json:"key,omitempty"`
	ETag      string    `json:"etag,omitempty"`
	CRC64     string    `json:"crc64nvme,omitempty"` // base64 as S3 writes it
	Mtime     time.Time `json:"mtime"`
	LastError string    `json:"last_error,omitempty"`
	Why       string    `json:"why"` // one sentence: what depotfs is doing or waiting for
}

// Progress is told to callers of Flush and Warm while they wait.
type Progress struct {
	FilesDone, FilesTotal int64
	BytesDone, BytesTotal int64
}

// NotDone lists what Flush, Warm or Evict could not do.
type NotDone struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// The control side (cmd) uses these; paths are relative to the mount, "" the root:
//
//	New(Config) (*Cache, error)      opens share and catalog, recovers; starts nothing
//	Run(ctx) error                   owns all goroutines; returns after they ended
//	Close() error                    after Run; writes what a clean stop leaves
//	SetStore(Store, StoreInfo)       the store on (nil: off) for this run; Run's goroutines take it up
//	Enable(ctx, Store, StoreInfo, ask bool) (bool, error)   the store on for good, after asking it; false: it was on
//	Disable(ctx) (bool, error)       the store off for good, over restarts; false: it was off
//	Disabled() (time.Time, bool, error)   since when it is off because Disable said so: SetStore is not to be called then
//	Away() Away                      what cannot be read while the store is off
//	Status(ctx) (Status, error)
//	StatPath(ctx, path) (FileStatus, error)
//	Walk(ctx, path, state string, fn func(FileStatus) error) error      for ls; state "" = all
//	Flush(ctx, paths []string, func(Progress)) ([]NotDone, error)       until ctx ends; all when paths is empty
//	Warm(ctx, paths, func(Progress)) ([]NotDone, error)
//	Evict(ctx, paths, func(Progress)) ([]NotDone, error)
//	Pin(ctx, paths, on bool) ([]NotDone, error)
//	EachHeldName(ctx, path, fn func(HeldName) error) error              deletes that are held or hidden; path "" = all
//	ApproveDeletes(ctx, paths, func(Progress)) ([]NotDone, error)       all that are held when paths is empty
//	DiscardDeletes(ctx, paths, func(Progress)) ([]NotDone, error)
//	TrashList(ctx, paths, fn func(TrashEntry) error) error              the latest deletion first
//	TrashRestore(ctx, TrashPick, func(Progress)) (int, []NotDone, error)   and waits until the depot has it
//	TrashPurge(ctx, TrashPick, dry bool) (Purged, []NotDone, error)
//	TrashRetention() time.Duration, SetTrashRetention(time.Duration)    0: nothing is kept
//	ConflictList(ctx, fn func(ConflictEntry) error) error               the latest first
//	ConflictOpen(ctx, entry) (io.ReadCloser, size int64, error)
//	ConflictDrop(ctx, entries, olderThan time.Duration) (Purged, []NotDone, error)
//	Zones(ctx) ([]ZoneStatus, error)            asks the depot
//	RemoveZone(ctx, zone string) error          of a zone that is not alive
//	Refresh(ctx) error               reads what other zones did, and returns when it was applied

// StoreInfo is what people are shown about the store.
type StoreInfo struct{ Bucket, Endpoint string }

var _ = context.Background
var _ = os.Stdin
